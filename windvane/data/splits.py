"""Training and validation rows: hold-out and folds, stratified, by groups, in time order, or by a splitter of the user.

Every training set contains every class, so that all models of a run predict the same classes. Where a split would not,
rows move from the validation set to the training set, with a note.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, check_cv

from windvane.data.column_types import infer_times
from windvane.data.series.time_split import HOLDOUT, MAX_HOLDOUT_ROWS, TimeSplit, time_folds
from windvane.errors import InputError, some_of
from windvane.pages.texts import counted
from windvane.runtime.columns.dates import to_dates, to_seconds
from windvane.runtime.columns.table import Integers

QUANTILE_BINS = 10  # strata of a numeric target
MAX_STRATIFIED_GROUPS = 1_000  # stratifying visits the groups one by one
MAX_NAMED = 10  # classes named in a note


@dataclass(frozen=True)
class Fold:
    """One split of the rows: sorted, disjoint positions."""

    train: Integers
    validation: Integers


@dataclass(frozen=True)
class SplitOptions:
    """How the user wants the rows to be split; None where nothing is given."""

    groups: Any = None  # n labels; the rows of a group stay together
    time: Any = None  # n numbers or dates; validation rows are later than training rows
    splitter: Any = None  # a `TimeSplit`, a scikit-learn splitter, or pairs of training and validation positions


def make_folds(
    target: NDArray[Any],
    n_folds: int,
    *,
    seed: int,
    by: SplitOptions = SplitOptions(),
    classes: Sequence[Any] | None = None,
) -> tuple[list[Fold], tuple[str, ...]]:
    """Return at least one fold, and notes for the user; by default shuffled, and stratified by class or quantile.

    One fold is a hold-out of a third of the rows, at most `MAX_HOLDOUT_ROWS`; in time order the last third. In time
    order k folds are k + 1 blocks of rows, each validated after training on all before it, as in scikit-learn's
    TimeSeriesSplit; a `TimeSplit` changes that.
    """
    n_rows = len(target)
    in_time = by.splitter if isinstance(by.splitter, TimeSplit) else TimeSplit()
    n_folds = in_time.n_splits or n_folds
    if n_folds < 1 or max(2, n_folds) > n_rows:
        raise InputError(f"n_folds={n_folds} does not go with {n_rows} row(s): at least 2, and at least one a fold.")
    if by.time is None and isinstance(by.splitter, TimeSplit):
        raise InputError("split is a TimeSplit, which orders rows by time: time is missing.")
    if by.time is not None and by.splitter is not None and not isinstance(by.splitter, TimeSplit):
        raise InputError("time and split are both given. Allowed: one of them, or split=TimeSplit(...) beside time.")
    groups = None if by.groups is None else _ranks("groups", by.groups, n_rows)[0]
    # Where a class must be added to a training set, the row of least rank is: the smallest group, the earliest time.
    rank = np.zeros(n_rows, dtype=np.int64) if groups is None else np.bincount(groups)[groups]
    notes: tuple[str, ...] = ()
    if by.time is not None:
        rank, instants = _ranks("time", by.time, n_rows)
        folds = [Fold(train, validation) for train, validation in time_folds(rank, instants, n_folds, in_time)]
        if groups is not None:
            folds, notes = _separate_groups(folds, groups, seed)
    elif by.splitter is not None:
        folds = _folds_of_splitter(by.splitter, target, groups)
    else:
        strata = _strata(target, n_folds)
        spread = (
            _spread_rows(strata, n_folds, seed) if groups is None else _spread_groups(strata, groups, n_folds, seed)
        )
        folds = _to_folds(spread, n_folds)
    if target.dtype.kind not in "iu":
        return folds, notes
    folds, more = _with_every_class(folds, target, rank, groups, classes, in_time=by.time is not None)
    return folds, (*notes, *more)


def count_groups(groups: Any, n_rows: int) -> int:
    """Count the distinct groups of n rows; InputError where they cannot be used."""
    return len(_ranks("groups", groups, n_rows)[1])


def hold_out(target: Integers, share: float, groups: Integers, *, seed: int) -> Fold:
    """Hold out any share of the rows of each class; rows of a group stay together, however many groups there are."""
    # Each group counts for its most frequent class. Groups are drawn at random until a class has its share; what is
    # rounded in one class is made up for in the next.
    _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    stratum = _most_frequent_class(codes, target)  # (n_groups,)
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(sizes))
    shuffled = shuffled[np.argsort(stratum[shuffled], kind="stable")]
    together = np.split(shuffled, np.flatnonzero(np.diff(stratum[shuffled])) + 1)
    held: list[Integers] = []
    owed = 0.0
    for i in rng.permutation(len(together)):
        taken = np.concatenate([[0], np.cumsum(sizes[together[i]])])  # rows held out with the first 0, 1, ... groups
        owed += share * taken[-1]
        n_held = int(np.argmin(np.abs(taken[:-1] - owed)))  # never all of them
        owed -= taken[n_held]
        held.append(together[i][:n_held])
    chosen = np.concatenate(held)
    if len(chosen) == 0:  # the share is less than half of the smallest group
        largest = max(together, key=len)
        if len(largest) < 2:
            raise InputError(f"Nothing can be held out: each of the {len(together)} classes is in one group alone.")
        chosen = largest[:1]
    out = np.isin(codes, chosen)
    fold = Fold(np.flatnonzero(~out), np.flatnonzero(out))
    return _with_every_class([fold], target, sizes[codes], codes, None)[0][0]


def grouped_folds(target: Integers, groups: Integers, n_folds: int, *, seed: int) -> list[Fold]:
    """Split the rows into folds, each class evenly; rows of a group stay together, however many groups there are."""
    _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < n_folds:
        raise InputError(f"groups has {len(sizes)} distinct value(s), but {n_folds} are needed.")
    order = np.random.default_rng(seed).permutation(len(sizes))
    rows_of = np.split(np.argsort(codes, kind="stable"), np.cumsum(sizes)[:-1])
    counts = np.zeros((n_folds, int(target.max()) + 1), dtype=np.int64)  # rows of each class in each fold
    fold_of = np.empty(len(target), dtype=np.int64)
    for group in order[np.argsort(-sizes[order], kind="stable")].tolist():  # large groups first
        classes = np.bincount(target[rows_of[group]], minlength=counts.shape[1])
        fold = int(np.lexsort((counts.sum(axis=1), counts @ classes))[0])
        counts[fold] += classes
        fold_of[rows_of[group]] = fold
    return _with_every_class(_to_folds(fold_of, n_folds), target, sizes[codes], codes, None)[0]


def _most_frequent_class(codes: Integers, target: Integers) -> Integers:  # (n_groups,)
    n_classes = int(target.max()) + 1
    pairs, counts = np.unique(codes * n_classes + target, return_counts=True)
    group, label = np.divmod(pairs, n_classes)
    order = np.lexsort((counts, group))  # the most frequent class of a group comes last in it
    return np.asarray(label[order][np.flatnonzero(np.diff(group[order], append=-1))])


def _to_folds(fold_of: Integers, n_folds: int) -> list[Fold]:
    """Return the folds, given the number of the one that validates each row; -1 for none."""
    return [Fold(np.flatnonzero(fold_of != i), np.flatnonzero(fold_of == i)) for i in range(n_folds)]


def _ranks(name: str, labels: Any, n_rows: int) -> tuple[Integers, pd.Index]:  # (n_rows,), (m,)
    """Replace groups or times by their position among the sorted distinct ones, which are returned, too."""
    try:
        if isinstance(labels, np.ndarray):
            labels = labels.astype(labels.dtype.newbyteorder("="))  # pandas knows no other order of bytes
        series = pd.Series(labels.to_pandas() if hasattr(labels, "to_pandas") else labels)
        if name == "time" and types.infer_dtype(series, skipna=True) in ("string", "mixed", "mixed-integer"):
            series = _read_times(series)
        codes, distinct = pd.factorize(series, sort=True)
    except (TypeError, ValueError) as error:
        allowed = "a label for each row" if name == "groups" else "numbers, dates, or texts of them as in a column of X"
        raise InputError(f"{name} cannot be used: {error}. Allowed: {allowed}.") from error
    if len(codes) != n_rows:
        raise InputError(f"{name} has {counted(len(codes), 'value')}, but there are {n_rows} rows.")
    if (codes < 0).any():
        raise InputError(
            f"{name} has {counted(int((codes < 0).sum()), 'missing value')}, the first in row "
            f"{int(np.argmax(codes < 0))}; leave these rows out."
        )
    return codes.astype(np.int64), pd.Index(distinct)


def _read_times(series: pd.Series) -> pd.Series:
    """Read texts as a column of X is read: as numbers, dates or durations."""
    distinct = series.dropna().astype(str).unique()
    if len(distinct) < 2:
        return series
    frame = pd.DataFrame({"time": series.reset_index(drop=True)})
    schema = infer_times(frame)
    column = schema.columns[0]
    if column.kind not in ("number", "date", "duration"):
        raise ValueError(f"{distinct[0]!r}, {distinct[1]!r} ... are neither numbers nor dates of one format")
    if column.doubtful and column.kind == "date":
        raise InputError(
            f"time holds texts such as {distinct[0]!r}, in which day and month could be exchanged: convert them with "
            "pandas.to_datetime(..., format=...) before."
        )
    if column.kind == "date":
        return pd.Series(to_dates(frame["time"], column.date_format, column.timezone))
    if column.kind == "duration":
        return pd.Series(pd.to_timedelta(to_seconds(frame["time"]), unit="s"))
    return pd.Series(schema.transform(frame).matrix[:, 0])


def _strata(target: NDArray[Any], n_folds: int) -> Integers:  # (n,)
    """The class of each row, or the quantile bin of its number."""
    if target.dtype.kind in "iu":
        return target.astype(np.int64)
    n_bins = max(1, min(QUANTILE_BINS, len(target) // max(n_folds, 3)))
    ranks = np.empty(len(target), dtype=np.int64)
    ranks[np.argsort(target, kind="stable")] = np.arange(len(target))
    return ranks * n_bins // len(target)


def _spread_rows(strata: Integers, n_folds: int, seed: int) -> Integers:  # (n,)
    """Return the fold of each row, -1 for none; within a stratum the folds differ by one row at most."""
    rng = np.random.default_rng(seed)
    n_rows = len(strata)
    shuffled = rng.permutation(n_rows)
    small = strata.astype(np.int16) if strata.max() < 2**15 else strata  # sorted in linear time
    order = shuffled[np.argsort(small[shuffled], kind="stable")]  # (n,)
    fold_of = np.full(n_rows, -1)
    if n_folds == 1:
        n_valid = max(1, min(int(n_rows * HOLDOUT), MAX_HOLDOUT_ROWS))
        evenly = ((np.arange(n_valid) + rng.random()) * (n_rows / n_valid)).astype(np.int64)  # (n_valid,)
        fold_of[order[evenly]] = 0
    else:
        fold_of[order] = np.arange(n_rows) % n_folds
    return fold_of


def _spread_groups(strata: Integers, groups: Integers, n_folds: int, seed: int) -> Integers:  # (n,)
    """Return the fold of each row, -1 for none; groups stay whole, and are stratified as far as that allows."""
    n_groups = int(groups.max()) + 1
    if n_groups < max(2, n_folds):
        fewer = " Allowed: more, or a policy with fewer folds, such as 'cv3' or 'holdout'." if n_folds > 2 else ""
        raise InputError(f"groups has {n_groups} distinct value(s), but {max(2, n_folds)} are needed.{fewer}")
    parts = n_folds
    if n_folds == 1:  # the first of enough parts is the hold-out
        parts = min(n_groups, max(round(1 / HOLDOUT), -(-len(groups) // MAX_HOLDOUT_ROWS)))
    valids: list[Integers] = []
    if n_groups <= MAX_STRATIFIED_GROUPS and np.bincount(strata).max() >= parts:
        splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
        with catch_warnings():
            simplefilter("ignore", UserWarning)  # of rare classes, which are handled below
            valids = [validation for _, validation in splitter.split(strata, strata, groups)]
    if not valids or not all(map(len, valids)):
        by_group = GroupKFold(parts, shuffle=True, random_state=seed)
        valids = [validation for _, validation in by_group.split(strata, strata, groups)]
    fold_of = np.full(len(groups), -1)
    for i, validation in enumerate(valids[:n_folds]):
        fold_of[validation] = i
    return fold_of


def _separate_groups(folds: list[Fold], groups: Integers, seed: int) -> tuple[list[Fold], tuple[str, ...]]:
    """Have each group on one side of the cuts of folds in time order; returns a note on rows that are left out."""
    n_left, parted = 0, []
    for i, fold in enumerate(folds):
        before, after = (
            np.bincount(groups[rows], minlength=groups.max() + 1) for rows in (fold.train, fold.validation)
        )
        both = np.random.default_rng([seed, i]).permutation(np.flatnonzero((before > 0) & (after > 0)))
        order = both[np.argsort(-after[both] / (before[both] + after[both]), kind="stable")]
        count = round(len(both) * HOLDOUT)  # those with the largest share of rows after the cut are validated
        if len(both) > 1 and not ((before == 0) & (after > 0)).any():
            count = max(1, count)
        train = fold.train[~np.isin(groups[fold.train], order[:count])]
        validation = fold.validation[~np.isin(groups[fold.validation], order[count:])]
        if not len(train) or not len(validation):
            raise InputError(
                f"groups and time leave fold {i} of {len(folds)} no row to {'validate' if len(train) else 'train on'}: "
                f"{len(both)} group(s) occur both before and after its cut. Allowed: one of them, or more groups."
            )
        n_left += len(fold.train) + len(fold.validation) - len(train) - len(validation)
        parted.append(Fold(train, validation))
    if not n_left:
        return parted, ()
    n_rows = round(n_left / len(folds))
    return parted, (
        f"Groups occur before and after the cuts in time; {n_rows:,} rows of a fold are left out, to part them.",
    )


def _folds_of_splitter(splitter: Any, target: NDArray[Any], groups: Integers | None) -> list[Fold]:
    """The folds of the user's splitter, checked."""
    if isinstance(splitter, int | str):
        raise InputError(f"split={splitter!r} is not a splitter; set the number of folds by policy='cv5' and the like.")
    n_rows = len(target)
    try:
        pairs = [tuple(pair) for pair in check_cv(splitter).split(np.zeros((n_rows, 1)), target, groups)]
        if not pairs or any(len(pair) != 2 for pair in pairs):
            raise ValueError("it does not return pairs of training and validation rows")
    except (TypeError, ValueError) as error:
        raise InputError(f"split cannot divide the rows: {error}") from error
    folds = []
    for i, pair in enumerate(pairs):
        train, validation = (
            _checked_rows(part, n_rows, f"split: the {name} set of fold {i}")
            for part, name in zip(pair, ("training", "validation"), strict=True)
        )
        common = np.intersect1d(train, validation)
        if len(common):
            raise InputError(f"split: fold {i} trains on {len(common)} of its validation rows, such as {common[0]}.")
        folds.append(Fold(train, validation))
    return folds


def _checked_rows(part: Any, n_rows: int, name: str) -> Integers:
    rows = np.asarray(part)
    if rows.dtype == bool and rows.shape == (n_rows,):
        rows = np.flatnonzero(rows)
    if rows.ndim != 1 or len(rows) == 0 or rows.dtype.kind not in "iu":
        raise InputError(f"{name} is {part!r}, but must be row positions, at least one.")
    if rows.min() < 0 or rows.max() >= n_rows:
        raise InputError(f"{name} has rows {rows.min()} to {rows.max()}, but there are 0 to {n_rows - 1}.")
    distinct = np.unique(rows).astype(np.int64)
    if len(distinct) < len(rows):
        raise InputError(f"{name} has rows more than once.")
    return distinct


def _with_every_class(
    folds: list[Fold],
    target: Integers,
    rank: Integers,
    groups: Integers | None,
    classes: Sequence[Any] | None,
    *,
    in_time: bool = False,
) -> tuple[list[Fold], tuple[str, ...]]:
    """Add a row, or a group, of each class that a training set lacks; in time order the earliest row alone."""
    there = np.bincount(target) > 0  # (k,)
    lacking = [there & (np.bincount(target[fold.train], minlength=len(there)) == 0) for fold in folds]
    rare = np.flatnonzero(np.any(lacking, axis=0)).tolist()
    if not rare:
        return folds, ()
    candidates = np.flatnonzero(np.isin(target, rare))
    order = candidates[np.lexsort((rank[candidates], target[candidates]))]
    first = np.full(len(there), -1)
    first[rare] = order[np.searchsorted(target[order], rare)]  # (k,), the row of least rank of each rare class
    kept = []
    for i, (fold, lacks) in enumerate(zip(folds, lacking, strict=True)):
        if lacks.any():
            missing = first[lacks]
            together = missing if groups is None else np.flatnonzero(np.isin(groups, groups[missing]))
            place = np.zeros(len(target), dtype=np.int8)  # 1 trains, 2 validates
            place[fold.validation] = 2
            place[together] = 0
            place[fold.train] = place[missing if in_time else together] = 1
            fold = Fold(np.flatnonzero(place == 1), np.flatnonzero(place == 2))
            if len(fold.validation) == 0:
                raise InputError(
                    f"Fold {i} of {len(folds)} has no row left to validate once its training set has every class: "
                    f"{len(target)} rows of {int(there.sum())} classes are too few, or too unevenly spread."
                )
        kept.append(fold)
    names = some_of([str(code if classes is None else classes[code]) for code in rare], MAX_NAMED)
    what = "row" if groups is None else "group"
    return kept, (
        f"Some training sets would not contain every class; a {what} of each class missing there was moved from "
        f"validation to training: {names}.",
    )
