"""Tables with numbers, categories, texts and a sparse part, for the tests of encoding."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse as sp

from windvane.data.task import Kind, Task
from windvane.runtime.columns.table import Table

CARDINALITIES = (0, 3, 9, 60)


def make_table(n: int, seed: int = 0, *, texts: int = 0, sparse: bool = False) -> Table:
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n, 5)) * [1, 100, 1e-3, 1, 1]
    numbers[:, 3] = rng.integers(0, 3, n)  # many ties
    numbers[rng.random((n, 5)) < 0.1] = np.nan
    numbers[:, 4] = np.nan
    codes = np.column_stack([rng.integers(0, k + 1, n) for k in CARDINALITIES]).astype(float)
    codes[codes == CARDINALITIES] = np.nan
    words = np.array(["", "Straße", "a b", "no 17, Long Lane, in the town of Somewhere", "xx"], dtype=object)
    return Table(
        matrix=np.hstack([numbers, codes]),
        n_numbers=5,
        cardinalities=CARDINALITIES,
        texts=tuple(words[rng.integers(0, 5, n)] for _ in range(texts)),
        sparse=sp.csr_matrix(sp.random(n, 7, 0.3, format="csr", random_state=2)) if sparse else None,
    )


def make_target(kind: Kind, n: int) -> tuple[Any, Task]:
    rng = np.random.default_rng(5)
    n_classes = {"binary": 2, "multiclass": 4, "regression": 0}[kind]
    target = rng.normal(size=n) if kind == "regression" else rng.integers(0, n_classes, n)
    return target, Task(kind, n, 9, n_classes)


def dense(encoded: Any) -> Any:
    return encoded.toarray() if sp.issparse(encoded) else encoded
