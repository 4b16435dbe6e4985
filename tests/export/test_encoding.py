"""An exported folder types tables as the schema does."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from leaving import changed, make_frame
from scipy import sparse as sp

from windvane.data.schema import Schema
from windvane.errors import InputError
from windvane.export.describe import describe_schema
from windvane.export.encoding import read


def facts_of(schema: Schema) -> Any:
    return json.loads(json.dumps(describe_schema(schema)))


@pytest.mark.parametrize("n", [1, 7, 400])
def test_a_table_is_typed_as_by_the_schema(n: int) -> None:
    schema = Schema.learn(make_frame(rich=True))
    frame = changed(make_frame(400, seed=1, rich=True)).iloc[:n]
    table = schema.encode(frame)
    matrix, texts, sparse = read(frame, facts_of(schema))
    np.testing.assert_array_equal(matrix, table.matrix)
    assert [text.tolist() for text in texts] == [text.tolist() for text in table.texts]
    assert sparse is None


def test_numbers_may_come_in_any_type() -> None:
    schema = Schema.learn(make_frame())
    frame = make_frame(5).astype({"count": "Int64", "flag": "boolean", "size": object})
    frame["count"] = frame["count"].where(frame.index > 0)
    frame["size"] = ["1.5", "inf", None, True, "?"]
    matrix, _, _ = read(frame, facts_of(schema))
    np.testing.assert_array_equal(matrix, schema.encode(frame).matrix)


def test_sparse_tables() -> None:
    X = sp.csr_matrix([[0.0, np.inf], [2.0, 0.0], [np.nan, 3.0]])
    schema = Schema.learn(X)
    for given in (X, pd.DataFrame(X.toarray())):
        matrix, texts, sparse = read(given, facts_of(schema))
        np.testing.assert_array_equal(sparse.toarray(), schema.encode(X).sparse.toarray())  # type: ignore[union-attr]
        assert (matrix.shape, texts) == ((3, 0), [])
    assert np.isinf(X.data).any()  # what was given stays as it was
    with pytest.raises(InputError, match="3 columns, but must have 2"):
        read(sp.csr_matrix((2, 3)), facts_of(schema))


def test_what_is_missing_is_named() -> None:
    facts = facts_of(Schema.learn(make_frame()))
    read(make_frame().drop(columns="same"), facts)  # was dropped in training
    with pytest.raises(InputError, match="lacks columns that the model was trained on: 'size', 'colour'"):
        read(make_frame().drop(columns=["size", "colour"]), facts)
    with pytest.raises(InputError, match="Column 'count' holds 'many'"):
        read(make_frame(5).assign(count="many"), facts)
