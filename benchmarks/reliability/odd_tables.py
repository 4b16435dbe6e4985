"""Tables of odd types, names, sizes, gaps and targets: an error, or predictions that are alike in batches and alone."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.reliability.cases import Failure, within
from windvane import AutoClassifier, AutoRegressor

BUDGET = 20
FAMILIES = ("linear", "lightgbm", "extra_trees", "mlp", "network", "catboost", "random_forest")
Rng = np.random.Generator


def _objects(values: Any) -> pd.Series:
    column = pd.Series([None] * len(values), dtype=object)
    for i, value in enumerate(values):
        column.iat[i] = value
    return column


def _choice(rng: Rng, n: int, values: list[Any]) -> pd.Series:
    return _objects([values[i] for i in rng.integers(len(values), size=n)])


def _gaps(column: pd.Series, rng: Rng, share: float) -> pd.Series:
    return column.mask(rng.random(len(column)) < share)


COLUMNS: dict[str, Callable[[Rng, int], Any]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "float32": lambda rng, n: rng.normal(size=n).astype("float32"),
    "float16": lambda rng, n: rng.normal(size=n).astype("float16"),
    "huge": lambda rng, n: rng.normal(size=n) * 1e300,
    "largest": lambda rng, n: rng.choice([-1.7e308, 0.0, 1.7e308], n),
    "tiny": lambda rng, n: rng.normal(size=n) * 1e-310,
    "infinite": lambda rng, n: np.where(rng.random(n) < 0.2, np.inf, rng.normal(size=n)),
    "constant": lambda rng, n: np.full(n, 3.5),
    "offset": lambda rng, n: 1e15 + rng.integers(0, 5, n),
    "all missing": lambda rng, n: np.full(n, np.nan),
    "all None": lambda rng, n: _objects([None] * n),
    "mostly missing": lambda rng, n: _gaps(pd.Series(rng.normal(size=n)), rng, 0.97),
    "int64 extremes": lambda rng, n: rng.choice(np.array([-(2**63), 0, 2**63 - 1]), n),
    "uint64": lambda rng, n: rng.integers(0, 2**64 - 1, n, dtype="uint64"),
    "int8": lambda rng, n: rng.integers(-128, 127, n).astype("int8"),
    "python ints": lambda rng, n: _choice(rng, n, [1, 2**80, -(2**90)]),
    "bool": lambda rng, n: rng.random(n) < 0.5,
    "bool and None": lambda rng, n: _choice(rng, n, [True, False, None]),
    "Int64": lambda rng, n: _gaps(pd.Series(rng.integers(0, 9, n)).astype("Int64"), rng, 0.3),
    "boolean": lambda rng, n: _gaps(pd.Series(rng.random(n) < 0.5).astype("boolean"), rng, 0.3),
    "Float64": lambda rng, n: _gaps(pd.Series(rng.normal(size=n)).astype("Float64"), rng, 0.3),
    "string": lambda rng, n: _gaps(_choice(rng, n, ["a", "b", "c"]).astype("string"), rng, 0.2),
    "arrow string": lambda rng, n: _choice(rng, n, ["a", "b", "é"]).astype("string[pyarrow]"),
    "arrow int": lambda rng, n: pd.Series(rng.integers(0, 9, n)).astype("int64[pyarrow]"),
    "category": lambda rng, n: pd.Categorical.from_codes(rng.integers(-1, 2, n), pd.Index(["a", "b", "unused"])),
    "ordered": lambda rng, n: pd.Categorical(rng.choice(["lo", "hi"], n), ["lo", "mid", "hi"], ordered=True),
    "category of ints": lambda rng, n: pd.Categorical(rng.integers(0, 3, n)),
    "category of dates": lambda rng, n: pd.Categorical(rng.choice(pd.date_range("2020-01-01", periods=3), n)),
    "no category": lambda rng, n: pd.Categorical([None] * n, categories=[]),
    "interval": lambda rng, n: pd.cut(pd.Series(rng.random(n)), [0, 0.3, 0.6, 1.0]),
    "dates": lambda rng, n: pd.to_datetime(rng.integers(0, 2**31, n), unit="s"),
    "dates and gaps": lambda rng, n: _gaps(pd.Series(pd.to_datetime(rng.integers(0, 2**31, n), unit="s")), rng, 0.5),
    "zoned dates": lambda rng, n: pd.to_datetime(rng.integers(0, 2**31, n), unit="s", utc=True).tz_convert(
        "Asia/Tokyo"
    ),
    "old dates": lambda rng, n: _choice(rng, n, [datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]),
    "durations": lambda rng, n: pd.to_timedelta(rng.integers(0, 10**6, n), unit="s"),
    "periods": lambda rng, n: pd.Series(pd.period_range("2000-01", periods=n, freq="M")),
    "date text": lambda rng, n: _choice(rng, n, ["2024-01-02", "2023-12-31", "2022-02-28"]),
    "other date text": lambda rng, n: _choice(rng, n, ["31/12/2023", "01/02/2024", "", "soon"]),
    "times": lambda rng, n: _choice(rng, n, [datetime.time(1, 2), datetime.time(23, 59)]),
    "complex": lambda rng, n: rng.normal(size=n) + 1j,
    "bytes": lambda rng, n: _choice(rng, n, [b"a", b"\xff\x00"]),
    "lists": lambda rng, n: _choice(rng, n, [[1], [1, 2], []]),
    "dicts": lambda rng, n: _choice(rng, n, [{"a": 1}, {}]),
    "arrays": lambda rng, n: _choice(rng, n, [np.zeros(2), np.ones(2)]),
    "tuples": lambda rng, n: _choice(rng, n, [(1, 2), ("a",)]),
    "functions": lambda rng, n: _choice(rng, n, [len, print]),
    "decimals": lambda rng, n: _choice(rng, n, [decimal.Decimal("1.5"), decimal.Decimal("NaN"), None]),
    "mixed": lambda rng, n: _choice(rng, n, [1, "1", 1.0, None, True, "x", b"1", float("nan")]),
    "numbers as text": lambda rng, n: _choice(rng, n, ["1", "2.5", "-3e4", " 7 ", "1,000", ""]),
    "missing words": lambda rng, n: _choice(rng, n, ["NaN", "None", "?", "", " ", "NA", "a"]),
    "unicode": lambda rng, n: _choice(rng, n, ["日本", "é", "e\u0301", "👩‍👩‍👧", "\u202e", "\ud800", "\x00"]),
    "long texts": lambda rng, n: _choice(rng, n, ["word " * 2000, "other " * 3000, "x" * 10_000]),
    "identifiers": lambda rng, n: _objects([f"id-{i}" for i in rng.permutation(n)]),
    "sentences": lambda rng, n: _objects([" ".join(rng.choice(["red", "fox", "runs", "no"], 6)) for _ in range(n)]),
    "sparse": lambda rng, n: pd.arrays.SparseArray(np.where(rng.random(n) < 0.9, 0.0, 1.0)),
    "NumPy strings": lambda rng, n: rng.choice(np.array(["a", "bb"]), n),
}
NAMES: dict[str, Callable[[Rng, int], list[Any]]] = {
    "plain": lambda rng, n: [f"c{i}" for i in range(n)],
    "unicode": lambda rng, n: [f"ключ {i} 🙂\n\t\"'<b>" for i in range(n)],
    "json": lambda rng, n: [f'{{"a":[{i}]}},:' for i in range(n)],
    "empty": lambda rng, n: ["", *(" " * i for i in range(1, n))],
    "equal": lambda rng, n: ["same"] * n,
    "ints": lambda rng, n: list(range(n)),
    "floats": lambda rng, n: [i + 0.5 for i in range(n)],
    "ints and text": lambda rng, n: [i if i % 2 else str(i - 1) for i in range(n)],
    "1 and '1'": lambda rng, n: [1, "1", *range(2, n)][:n],
    "tuples": lambda rng, n: [("a", i) for i in range(n)],
    "None": lambda rng, n: [None, *range(1, n)],
    "nan": lambda rng, n: [float("nan"), *(f"c{i}" for i in range(1, n))],
    "long": lambda rng, n: ["x" * 5000 + str(i) for i in range(n)],
    "own words": lambda rng, n: ["target", "prediction", "index", "y", "__class__", "0", *(str(i) for i in range(n))][
        :n
    ],
    "dates": lambda rng, n: list(pd.date_range("2024-01-01", periods=n)),
}
INDICES: dict[str, Callable[[Rng, int], Any]] = {
    "range": lambda rng, n: pd.RangeIndex(n),
    "shuffled": lambda rng, n: rng.permutation(n),
    "equal": lambda rng, n: np.zeros(n, int),
    "text": lambda rng, n: [f"r{i}" for i in range(n)],
    "dates": lambda rng, n: pd.date_range("2024-01-01", periods=n),
    "two levels": lambda rng, n: pd.MultiIndex.from_arrays([np.arange(n) % 3, np.arange(n)]),
    "nan": lambda rng, n: np.full(n, np.nan),
}
CLASS_TARGETS: dict[str, Callable[[Rng, int], Any]] = {
    "0 and 1": lambda rng, n: rng.integers(0, 2, n),
    "text": lambda rng, n: rng.choice(["yes", "no"], n),
    "bool": lambda rng, n: rng.random(n) < 0.5,
    "three": lambda rng, n: rng.choice([-5, 0, 2**40], n),
    "rare": lambda rng, n: np.where(np.arange(n) == n // 2, "rare", rng.choice(["a", "b"], n)),
    "all rare": lambda rng, n: [f"k{i}" for i in range(n)],
    "constant": lambda rng, n: np.zeros(n, int),
    "category": lambda rng, n: pd.Categorical(rng.choice(["a", "b"], n), ["unused", "b", "a"]),
    "unicode": lambda rng, n: _choice(rng, n, ["日本", "", "<b>"]),
    "gaps": lambda rng, n: _choice(rng, n, ["a", "b", None]),
    "Int64": lambda rng, n: pd.Series(rng.integers(0, 3, n)).astype("Int64"),
    "mixed": lambda rng, n: _choice(rng, n, [1, "1", 2.0]),
    "floats": lambda rng, n: rng.choice([0.0, 1.0, 2.5], n),
    "dates": lambda rng, n: rng.choice(pd.date_range("2024-01-01", periods=2), n),
    "column": lambda rng, n: pd.DataFrame({"y": rng.integers(0, 2, n)}),
    "two columns": lambda rng, n: rng.integers(0, 2, (n, 2)),
}
NUMBER_TARGETS: dict[str, Callable[[Rng, int], Any]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "huge": lambda rng, n: rng.normal(size=n) * 1e200,
    "largest": lambda rng, n: rng.choice([-1.7e308, 1.7e308], n),
    "tiny": lambda rng, n: rng.normal(size=n) * 1e-300,
    "offset": lambda rng, n: 1e12 + rng.normal(size=n),
    "constant": lambda rng, n: np.full(n, 7.0),
    "gaps": lambda rng, n: _gaps(pd.Series(rng.normal(size=n)), rng, 0.1),
    "infinite": lambda rng, n: np.where(rng.random(n) < 0.1, np.inf, 1.0),
    "ints": lambda rng, n: rng.integers(0, 1000, n),
    "heavy tail": lambda rng, n: np.exp(rng.normal(size=n) * 20),
    "text": lambda rng, n: _choice(rng, n, ["1.5", "2", "3e2"]),
    "bool": lambda rng, n: rng.random(n) < 0.5,
    "decimals": lambda rng, n: _choice(rng, n, [decimal.Decimal("1.5"), decimal.Decimal("2")]),
    "outlier": lambda rng, n: np.where(np.arange(n) == 0, 1e18, rng.normal(size=n)),
}


def make_table(seed: int) -> tuple[Any, Any, bool, str]:
    """Draw columns, target, whether it has classes, and a word on all of it."""
    rng = np.random.default_rng([3, seed])
    n = int(rng.choice([0, 1, 2, 4, 9, 25, 60, 60, 120, 120, 250, 600]))
    width = int(rng.choice([0, 1, 2, 3, 4, 5, 6, 8, 60], p=[0.02, 0.1, 0.13, 0.2, 0.15, 0.15, 0.1, 0.1, 0.05]))
    kinds = [str(kind) for kind in rng.choice(list(COLUMNS), width)]
    names, index = (str(rng.choice(["plain" if one is NAMES else "range", *one])) for one in (NAMES, INDICES))
    columns = [pd.Series(COLUMNS[kind](rng, n)).reset_index(drop=True) for kind in kinds]
    X: Any = pd.concat(columns, axis=1) if columns else pd.DataFrame(index=range(n))
    X.columns = pd.Index(NAMES[names](rng, width)[:width])
    X.index = pd.Index(INDICES[index](rng, n))
    classes = bool(rng.random() < 0.6)
    targets = CLASS_TARGETS if classes else NUMBER_TARGETS
    target = str(rng.choice(["0 and 1" if classes else "normal"] * 4 + list(targets)))
    y: Any = targets[target](rng, n)
    form = str(rng.choice(["frame"] * 6 + ["array", "lists", "dict"]))
    if form == "array":
        X = X.to_numpy()
    elif form == "lists":
        X = X.to_numpy(dtype=object).tolist()
    elif form == "dict" and names in ("plain", "unicode"):
        X = {name: X[name].tolist() for name in X}
    word = f"{n} rows, {form}, columns {', '.join(kinds[:8])}; names {names}, index {index}, target {target}"
    return X, y, classes, word


def _take(X: Any, row: int) -> Any:
    """One row, in the form of the table."""
    if isinstance(X, pd.DataFrame):
        return X.iloc[[row]]
    return {name: values[row : row + 1] for name, values in X.items()} if isinstance(X, dict) else X[row : row + 1]


def fit_odd_table(seed: int, folder: Path) -> str:
    """Fit for seconds; predict all rows together and some alone."""
    X, y, classes, word = make_table(seed)
    rng = np.random.default_rng([4, seed])
    families = [str(name) for name in rng.choice(FAMILIES, 2, replace=False)]
    kind = AutoClassifier if classes else AutoRegressor
    model: Any = kind(BUDGET, n_trials=3, n_jobs=2, families=families, random_state=seed, verbose=0)
    with within(BUDGET):
        model.fit(X, y)
    n = len(y)
    together = model.predict_proba(X) if classes else model.predict(X)
    if len(together) != n or not np.isfinite(together).all():
        raise Failure("wrong", f"{word}: {len(together)} predictions, finite: {np.isfinite(together).all()}")
    if classes and not np.allclose(together.sum(axis=1), 1):
        raise Failure("wrong", f"{word}: probabilities do not sum to 1")
    if classes and not set(model.predict(X).tolist()) <= set(model.classes_.tolist()):
        raise Failure("wrong", f"{word}: predicts labels that are not in classes_")
    scale = 1.0 if classes else max(float(np.max(np.abs(together))), 1e-300)
    for row in rng.choice(n, min(n, 4), replace=False):
        alone = (model.predict_proba if classes else model.predict)(_take(X, int(row)))
        if not np.allclose(alone[0] / scale, together[row] / scale, rtol=0, atol=1e-5):
            raise Failure("wrong", f"{word}: row {row} alone {alone[0]}, together {together[row]}; {families}")
    return word
