"""What JSON and arrays say of an encoder does what the encoder does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encodable import dense, make_table, make_target
from leaving import same
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from windvane.data.encoders import DENSE, NATIVE, ORDINAL, Choices, Encoder
from windvane.data.task import Kind
from windvane.errors import InputError
from windvane.export.describe import describe_encoder
from windvane.export.encoding import encode

CHOICES: list[Choices] = [
    *(NATIVE, ORDINAL, DENSE, replace(ORDINAL, large="codes"), replace(ORDINAL, impute="median")),
    *(replace(DENSE, scale=scale) for scale in ("none", "robust", "quantile", "minmax")),
    *(replace(DENSE, impute="most_frequent", min_frequency=0.1), replace(DENSE, onehot_max=150, large="codes")),
]


def described(encoder: Encoder, table: Any) -> Any:
    facts, arrays = describe_encoder(encoder, sparse=table.sparse is not None)
    facts = json.loads(json.dumps(facts))  # as it comes back from a file
    return encode((table.matrix, list(table.texts), table.sparse), facts, arrays)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("choices", CHOICES, ids=str)
def test_every_choice(choices: Choices, kind: Kind) -> None:
    target, task = make_target(kind, 120)
    encoder = Encoder(choices)
    encoder.fit_transform(make_table(120), target, task)
    table = make_table(50, seed=1)
    same(described(encoder, table), encoder.transform(table))


@pytest.mark.parametrize("choices", [NATIVE, DENSE], ids=str)
def test_texts_and_sparse_parts(choices: Choices, tmp_path: Path) -> None:
    target, task = make_target("binary", 80)
    encoder = Encoder(choices)
    encoder.fit_transform(make_table(80, texts=2, sparse=True), target, task)
    encoder.save(tmp_path)
    table = make_table(30, seed=1, texts=2, sparse=True)
    found = described(Encoder.load(tmp_path), table)
    same(dense(found), dense(encoder.transform(table)))
    assert type(found) is type(encoder.transform(table))


SCALERS = [
    *(StandardScaler(), RobustScaler(quantile_range=(5.0, 80.0)), MinMaxScaler(), PowerTransformer(), Normalizer()),
    *(PowerTransformer(standardize=False), QuantileTransformer(n_quantiles=20, output_distribution="uniform")),
    QuantileTransformer(n_quantiles=20, output_distribution="normal"),
]


@pytest.mark.parametrize("scaler", SCALERS, ids=str)
def test_every_scaler_of_scikit_learn(scaler: Any) -> None:
    target, task = make_target("regression", 120)
    encoder = Encoder(DENSE)
    encoder.fit_transform(make_table(120), target, task)
    columns: Any = encoder.columns_
    rng = np.random.default_rng(3)
    X = np.column_stack([rng.normal(size=120), rng.integers(0, 3, 120), rng.exponential(size=(120, 3))])
    number = next(i for i, (name, _, _) in enumerate(columns.transformers_) if name == "numbers")
    impute = columns.transformers_[number][1].steps[0]
    columns.transformers_[number] = ("numbers", Pipeline([impute, ("scale", scaler.fit(X))]), list(range(5)))
    table = make_table(60, seed=2)
    rows = np.vstack([X[:40], 5 * X[40:60]])  # also beyond the range of training
    table = replace(table, matrix=np.hstack([rows, table.matrix[:, 5:]]))
    np.testing.assert_allclose(described(encoder, table)[:, :5], scaler.transform(rows), rtol=1e-12, atol=1e-12)


def test_a_transformer_without_description_is_named() -> None:
    target, task = make_target("regression", 60)
    encoder = Encoder(DENSE)
    encoder.fit_transform(make_table(60), target, task)
    columns: Any = encoder.columns_
    columns.transformers_[0][1].steps[1] = ("scale", MaxAbsScaler())
    with pytest.raises(InputError, match="does not know how to write MaxAbsScaler"):
        describe_encoder(encoder, sparse=False)
