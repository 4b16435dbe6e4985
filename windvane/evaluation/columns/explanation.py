"""Shapley values: how much each column moves the prediction of a row away from the mean prediction.

Sampled over orders of the columns, each taken forwards and backwards (Mitchell et al., Sampling Permutations for
Shapley Value Estimation, JMLR 2022), on the output of the whole ensemble: members of every kind, their weights and
calibration included, and the sum is exact whatever is sampled. "Missing" columns have the values of rows of the
training data (interventional; Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017).

Notation: n rows, b background rows, p columns.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from windvane.data.files import to_frame
from windvane.errors import InputError, unknown_name_error
from windvane.evaluation.columns.importance import EncodedColumn, encoded_columns, exchange
from windvane.evaluation.predictions import FittedEnsemble
from windvane.pages.texts import counted
from windvane.runtime.columns.column_values import to_canonical_text
from windvane.runtime.columns.table import Floats, Integers, Table

MAX_ROWS_AT_ONCE, MAX_CELLS_AT_ONCE = 20_000, 20_000_000  # that are predicted
MAX_COLUMNS, N_ALONE = 1_000, 100  # of more columns, 100 are explained one by one, the others together
MAX_RANKED_ROWS = 2_000  # of the background, by which these 100 are chosen

# Returns the number that is explained for each row; of the n rows repeated m times, in shape (m n,).
Output = Callable[[Table], Floats]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why rows are predicted as they are: each prediction is ``base`` plus the sum of its row of ``values``."""

    values: pd.DataFrame  # contributions, one row for each row of X, one column for each column, shape (n, p)
    standard_error: pd.DataFrame  # of the contributions, from the rounds; NaN after one round
    prediction: pd.Series  # the number that is explained, shape (n,)
    base: pd.Series  # its mean over the background rows, shape (n,); one number unless each row has its own class
    data: pd.DataFrame  # what stood in the columns, shape (n, p)
    output: str  # what is explained, in words

    def importance(self) -> pd.Series:
        """Return the mean absolute contribution of each column, largest first."""
        return self.values.abs().mean().sort_values(ascending=False).rename("importance")

    def row(self, position: int) -> pd.DataFrame:
        """Return the contributions to one prediction with the values of the columns, largest first."""
        found = pd.DataFrame(
            {
                "value": self.data.iloc[position].astype(object),
                "contribution": self.values.iloc[position],
                "standard_error": self.standard_error.iloc[position],
            }
        )
        return found.loc[found["contribution"].abs().sort_values(ascending=False).index]

    def __str__(self) -> str:
        rows = counted(len(self.values), "row")
        lines = [f"{self.output} of {rows}; {self.base.mean():.4g} on average, the columns unknown"]
        lines += ["", "mean absolute contribution"]
        lines += [f"  {value:10.4g}  {name}" for name, value in self.importance().head(15).items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class ShapleySampling:
    """How long to sample, and from which seed."""

    max_rounds: int = 128  # of one order of the columns, forwards and backwards, and one background row
    max_seconds: float = math.inf  # after which no round begins; one is always made
    seed: int = 0
    on_round: Callable[[int, int], None] = lambda done, total: None  # rounds that are done, of how many


def explain(
    model: FittedEnsemble,
    X: Any,
    background: Table,
    label: Any = None,
    *,
    positive: int | None = 1,
    sampling: ShapleySampling = ShapleySampling(),
) -> Explanation:
    """Explain predicted numbers, or probabilities: of `label`, of the positive class, or of more the predicted one."""
    frame = to_frame(X)
    if not isinstance(frame, pd.DataFrame) or not model.schema.columns:
        raise InputError("X is a sparse matrix, whose columns cannot be explained one by one. Allowed: a dense table.")
    frame = model.schema.with_lags(frame)
    encoded, places = encoded_columns(model.schema), model.schema.places(frame).tolist()
    read = {
        name: place for name, place in zip(model.schema.feature_names, places, strict=True) if encoded[name].is_read
    }
    data = frame.iloc[:, list(read.values())].set_axis(list(read), axis=1)
    return explain_table(model, model.table(frame), data, background, label, positive=positive, sampling=sampling)


def explain_table(
    model: FittedEnsemble,
    table: Table,
    data: pd.DataFrame,
    background: Table,
    label: Any = None,
    *,
    positive: int | None,
    sampling: ShapleySampling,
) -> Explanation:
    """Explain the rows of a table; `data` holds the same rows as the user has them, in the columns that are read."""
    output, output_name = _explained_output(model, table, label, positive)
    encoded = encoded_columns(model.schema)
    columns = {name: encoded[name] for name in model.schema.feature_names if encoded[name].is_read}
    if len(columns) > MAX_COLUMNS:
        columns, data = _few_columns(columns, data, background, model)
    values, error, base = shapley_values(output, table, background, list(columns.values()), sampling)

    def framed(array: Floats) -> pd.DataFrame:
        return pd.DataFrame(array, index=data.index, columns=pd.Index(list(columns)))

    return Explanation(
        framed(values),
        framed(error),
        pd.Series(base + values.sum(axis=1), index=data.index, name="prediction"),
        pd.Series(base, index=data.index, name="base"),
        data,
        output_name,
    )


def shapley_values(
    output: Output,
    table: Table,
    background: Table,
    columns: Sequence[EncodedColumn],
    sampling: ShapleySampling = ShapleySampling(),
) -> tuple[Floats, Floats, Floats]:  # (n, p), (n, p), (n,)
    """Sample the contributions of p columns to the output of n rows, their standard errors, and the mean output.

    Each round takes another background row, the same for all rows, so that contributions add up to the output less the
    mean output of these background rows.
    """
    rng = np.random.default_rng(sampling.seed)
    chosen = rng.permutation(background.n_rows)[: sampling.max_rounds]
    final = output(table)  # (n,)
    found: list[Floats] = []
    starts: list[Floats] = []
    end = time.monotonic() + sampling.max_seconds
    for i, row in enumerate(chosen):
        begun = time.monotonic()
        without = background.take(np.full(table.n_rows, row))
        start = output(without)  # (n,)
        order = rng.permutation(len(columns))
        both = [_walk(output, table, without, columns, one, start, final) for one in (order, order[::-1])]
        found.append(np.mean(both, axis=0))
        starts.append(start)
        sampling.on_round(i + 1, len(chosen))
        if time.monotonic() + (time.monotonic() - begun) > end:
            break
    rounds = np.array(found)  # (r, n, p)
    error = rounds.std(axis=0, ddof=1) / math.sqrt(len(rounds)) if len(rounds) > 1 else np.full(rounds[0].shape, np.nan)
    return rounds.mean(axis=0), error, np.mean(starts, axis=0)


def _explained_output(model: FittedEnsemble, table: Table, label: Any, positive: int | None) -> tuple[Output, str]:
    """Return what is explained of the rows of a table, and its name."""
    classes = model.classes
    if classes is None:
        if label is not None:
            raise InputError(f"label={label!r} is for classes, but a number is predicted. Leave it out.")
        return model.predict_raw, "prediction"
    known = {to_canonical_text(value): code for code, value in enumerate(classes.tolist())}
    if label is not None and to_canonical_text(label) not in known:
        raise unknown_name_error("label", label, known)
    if label is None and len(classes) > 2:
        codes, name = model.predict_raw(table).argmax(axis=1), "probability of the class that is predicted for each"
    else:
        code = positive if label is None else known[to_canonical_text(label)]
        assert code is not None  # one of two classes is the positive one
        codes, name = np.full(table.n_rows, code), f"probability of {classes[code]!s} for each"

    def probability(rows: Table) -> Floats:
        chosen = np.tile(codes, rows.n_rows // len(codes))
        return np.asarray(model.predict_raw(rows)[np.arange(rows.n_rows), chosen])

    return probability, name


def _few_columns(
    columns: Mapping[str, EncodedColumn], data: pd.DataFrame, background: Table, model: FittedEnsemble
) -> tuple[dict[str, EncodedColumn], pd.DataFrame]:
    """Keep the columns that are correlated most with the predictions for the background; the others are one column."""
    rows = np.arange(0, background.n_rows, -(-background.n_rows // MAX_RANKED_ROWS))
    some = background.take(rows)
    predicted = model.predict_raw(some).reshape(len(rows), -1)  # (b, k)
    predicted = predicted - predicted.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = some.matrix - np.nanmean(some.matrix, axis=0)
        matrix = np.nan_to_num(matrix / np.sqrt(np.nanmean(matrix**2, axis=0)))  # (b, q)
    strength = np.abs(matrix.T @ (predicted / np.maximum(predicted.std(axis=0), 1e-12))).max(axis=1)  # (q,)
    ranked = sorted(
        columns, key=lambda name: -max((strength[place] for place in columns[name].matrix), default=math.inf)
    )
    alone = set(ranked[:N_ALONE])
    kept = {name: column for name, column in columns.items() if name in alone}
    rest = counted(len(columns) - len(kept), "other column")
    data = data[list(kept)].assign(**{rest: ""})
    return {**kept, rest: EncodedColumn.together(columns[name] for name in columns if name not in alone)}, data


def _walk(
    output: Output,
    table: Table,
    without: Table,
    columns: Sequence[EncodedColumn],
    order: Integers,
    start: Floats,
    final: Floats,
) -> Floats:  # (n, p)
    """Give the background rows one column of the table after the other; return what each step changes."""
    n, p = table.n_rows, len(columns)
    levels = np.empty((p + 1, n))
    levels[0], levels[p] = start, final
    cells = max(1, n * table.n_columns)
    at_once = max(1, min(MAX_ROWS_AT_ONCE // max(n, 1), MAX_CELLS_AT_ONCE // cells))
    mixed, steps = without, list[Table]()
    for step in range(1, p):
        mixed = exchange(mixed, table, columns[order[step - 1]])
        steps.append(mixed)
        if len(steps) == at_once or step == p - 1:
            levels[step - len(steps) + 1 : step + 1] = output(_stacked(steps)).reshape(len(steps), n)
            steps = []
    changes = np.empty((n, p))
    changes[:, order] = np.diff(levels, axis=0).T
    return changes


def _stacked(tables: Sequence[Table]) -> Table:
    first = tables[0]
    texts = tuple(np.concatenate([table.texts[j] for table in tables]) for j in range(len(first.texts)))
    return replace(first, matrix=np.concatenate([table.matrix for table in tables]), texts=texts)
