from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from encodable import CARDINALITIES, dense, make_table, make_target
from hypothesis import given, settings
from hypothesis import strategies as st

from windvane.data.task import Kind
from windvane.models.encoding import EncoderSettings, FittedTransformers, describe_transformers, fit_transformers
from windvane.runtime.columns.table import Table


def slowly(fitted: FittedTransformers, table: Table) -> Any:
    """Transform with the scikit-learn objects themselves."""
    blocks = [table.matrix if fitted.columns is None else dense(fitted.columns.transform(table.matrix))]
    pairs = zip(fitted.texts, table.texts, strict=True)
    blocks += [pipeline.transform(text) for pipeline, text in pairs if pipeline is not None]
    if table.sparse is not None:
        blocks.append(dense(table.sparse if fitted.sparse is None else fitted.sparse.transform(table.sparse)))
    return np.hstack(blocks)


def hold_constants(train: Table, test: Table) -> Table:
    """Give the numbers that did not vary in training the value that they had there."""
    matrix = test.matrix.copy()
    for j in range(train.n_numbers):
        values = np.unique(train.matrix[~np.isnan(train.matrix[:, j]), j])
        if len(values) <= 1:
            value = values[0] if len(values) else 0.0
            matrix[:, j] = np.where(np.isnan(matrix[:, j]), np.nan, value)
    return replace(test, matrix=matrix)


@settings(deadline=None, max_examples=60)
@given(
    choices=st.builds(
        EncoderSettings,
        impute=st.sampled_from(["none", "median", "mean", "most_frequent"]),
        scale=st.sampled_from(["none", "standard", "robust", "quantile", "minmax", "power", "normalise"]),
        robust_low=st.sampled_from([0.01, 0.25]),
        robust_high=st.sampled_from([0.75, 0.9]),
        quantiles=st.sampled_from([10, 1000]),
        quantile_shape=st.sampled_from(["normal", "uniform"]),
        native_max=st.sampled_from([-1, 3, 60]),
        onehot_max=st.sampled_from([0, 5, 60]),
        min_frequency=st.sampled_from([0.0, 0.05, 0.4]),
        large=st.sampled_from(["codes", "target"]),
        text_size=st.sampled_from([1, 30]),
    ),
    kind=st.sampled_from(["binary", "multiclass", "regression"]),
    texts=st.integers(0, 2),
    sparse=st.booleans(),
)
def test_compiled_arithmetic_is_that_of_scikit_learn(
    choices: EncoderSettings, kind: Kind, texts: int, sparse: bool
) -> None:
    if choices.impute == "none" and choices.scale != "none":
        choices = replace(choices, impute="median")  # every family that scales imputes
    train, test = make_table(120, texts=texts, sparse=sparse), make_table(50, 1, texts=texts, sparse=sparse)
    test.matrix[0, 5:] = CARDINALITIES  # codes that no training saw
    test.matrix[1, :5] = 1e9
    target, task = make_target(kind, 120)
    transformers, encoded = fit_transformers(choices, train, target, task)
    encoder = describe_transformers(transformers, None, train)
    found = dense(encoder.transform(test))
    held = test if choices.impute == "none" else hold_constants(train, test)
    np.testing.assert_allclose(found, slowly(transformers, held), rtol=1e-12, atol=1e-12)
    assert found.shape[1] == encoded.shape[1]
    for n_rows in (1, 12):  # few rows take another path
        few = dense(encoder.transform(test.take(np.arange(n_rows))))
        np.testing.assert_allclose(few, found[:n_rows], rtol=1e-12, atol=1e-12)
