import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, KFold, LeaveOneOut, ShuffleSplit, TimeSeriesSplit

from windvane.data import splits
from windvane.data.splits import Fold, SplitOptions, grouped_folds, hold_out, make_folds
from windvane.errors import InputError


def check(folds, target, n_folds):
    """What holds for every division."""
    assert len(folds) == n_folds
    for fold in folds:
        for part in (fold.train, fold.validation):
            assert part.dtype == np.int64
            assert len(part) > 0
            assert (np.diff(part) > 0).all()
        assert not set(fold.train) & set(fold.validation)
        if target.dtype.kind == "i":
            assert set(target[fold.train]) == set(target)
    validated = np.concatenate([fold.validation for fold in folds])
    assert len(validated) == len(set(validated))
    return set(validated.tolist())


@st.composite
def labels(draw):
    sizes = draw(st.lists(st.integers(1, 12), min_size=2, max_size=5))
    target = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(draw(st.integers(0, 99))).permutation(target)


@settings(deadline=None, max_examples=60)
@given(labels(), st.sampled_from([1, 2, 3, 5, 10]), st.integers(0, 5))
def test_classes(target, n_folds, seed):
    sizes = np.bincount(target)
    if len(target) < max(2, n_folds):
        return
    try:
        folds, notes = make_folds(target, n_folds, seed=seed)
    except InputError as error:
        assert "no row left to validate" in str(error)
        assert (sizes == 1).any()
        return
    validated = check(folds, target, n_folds)
    alone = {i for i, label in enumerate(target) if sizes[label] == 1}
    assert not validated & alone
    assert bool(notes) <= bool(alone)
    if n_folds > 1:
        assert validated | alone == set(range(len(target)))
        for fold in folds:  # the classes are spread evenly, and the folds have one size
            for label, size in enumerate(sizes):
                count = (target[fold.validation] == label).sum()
                assert size == 1 or size // n_folds <= count <= -(-size // n_folds)
        lengths = [len(fold.validation) for fold in folds]
        assert max(lengths) - min(lengths) <= 1 + len(alone)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 80), st.sampled_from([1, 2, 3, 5, 10]), st.integers(0, 5))
def test_numbers(n_rows, n_folds, seed):
    target = np.random.default_rng(seed).normal(size=n_rows)
    if n_rows < n_folds:
        return
    folds, notes = make_folds(target, n_folds, seed=seed)
    validated = check(folds, target, n_folds)
    assert notes == ()
    if n_folds > 1:
        assert validated == set(range(n_rows))
    else:
        assert len(validated) == max(1, n_rows // 3)


def test_numbers_are_stratified_by_quantile():
    target = np.random.default_rng(0).normal(size=300)
    spread = [target[fold.validation].mean() for fold in make_folds(target, 5, seed=0)[0]]
    plain = [target[valid].mean() for _, valid in KFold(5, shuffle=True, random_state=0).split(target)]
    assert np.std(spread) < np.std(plain) / 2


def test_holdout_is_stratified_and_bounded(monkeypatch):
    target = np.r_[np.zeros(900, dtype=int), np.ones(90, dtype=int)]
    (fold,), _ = make_folds(target, 1, seed=0)
    assert len(fold.validation) == 330
    assert (target[fold.validation] == 1).sum() == 30
    monkeypatch.setattr(splits, "MAX_HOLDOUT_ROWS", 110)
    (fold,), _ = make_folds(target, 1, seed=0)
    assert len(fold.validation) == 110
    assert (target[fold.validation] == 1).sum() == 10


def test_the_seed_decides():
    target = np.arange(60) % 3
    first, again, other = (make_folds(target, 3, seed=seed)[0] for seed in (0, 0, 1))
    assert all((a.validation == b.validation).all() for a, b in zip(first, again, strict=True))
    assert any((a.validation != b.validation).any() for a, b in zip(first, other, strict=True))


def test_rows_of_rare_classes_are_told_by_label():
    target = np.array([0] * 20 + [1] * 20 + [2, 3])
    folds, notes = make_folds(target, 3, seed=0, classes=np.array(["a", "b", "c", "d"]))
    assert all({40, 41} <= set(fold.train) for fold in folds)
    assert len(notes) == 1
    assert "a row of each class missing there was moved from validation to training: c, d." in notes[0]
    many = np.r_[np.zeros(60, dtype=int), np.arange(1, 15)]
    (note,) = make_folds(many, 2, seed=0)[1]
    assert note.endswith("1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 4 more.")


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.sampled_from([1, 2, 3, 5]), st.integers(1, 4), st.booleans())
def test_groups(seed, n_folds, k, few):
    rng = np.random.default_rng(seed)
    groups = np.r_[np.arange(6), rng.integers(0, 6 if few else 30, 60)]
    target = rng.integers(0, k, len(groups)) if k > 1 else rng.normal(size=len(groups))
    folds, _ = make_folds(target, n_folds, seed=0, by=SplitOptions(groups=[f"g{g}" for g in groups]))
    check(folds, target, n_folds)
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.validation])


def test_many_groups(monkeypatch):
    monkeypatch.setattr(splits, "MAX_STRATIFIED_GROUPS", 10)
    groups = np.arange(100) // 2
    for n_folds in (1, 4):
        folds, _ = make_folds(np.arange(100) % 2, n_folds, seed=0, by=SplitOptions(groups=groups))
        for fold in folds:
            assert not set(groups[fold.train]) & set(groups[fold.validation])
            assert len(fold.validation) in range(20, 40)


def test_a_class_of_one_group_is_never_validated():
    groups = np.repeat(np.arange(6), 5)
    target = np.tile([0, 1, 0, 1, 0], 6)
    target[:3] = 2
    folds, notes = make_folds(target, 3, seed=0, by=SplitOptions(groups=groups))
    assert all(set(range(5)) <= set(fold.train) for fold in folds)
    assert "a group of each class missing there was moved" in notes[0]
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.validation])


@pytest.mark.parametrize(
    "kind",
    [
        lambda t: t,
        lambda t: t.tolist(),
        lambda t: pd.Series(pd.Timestamp("2024-01-01") + pd.to_timedelta(t, unit="D"), index=t[::-1]),
        lambda t: [(datetime.date(2024, 1, 1) + datetime.timedelta(days=int(d))).isoformat() for d in t],
        lambda t: [datetime.date(2024, 1, 1) + datetime.timedelta(days=int(d)) for d in t],
    ],
    ids=["array", "list", "timestamps", "texts", "dates"],
)
def test_time(kind):
    time = np.random.default_rng(0).permutation(60)
    target = np.zeros(60)
    folds, notes = make_folds(target, 4, seed=0, by=SplitOptions(time=kind(time)))
    order = np.argsort(time)
    for fold, (train, valid) in zip(folds, TimeSeriesSplit(4).split(order), strict=True):
        assert set(fold.train) == set(order[train])
        assert set(fold.validation) == set(order[valid])
    assert notes == ()
    (fold,), _ = make_folds(target, 1, seed=0, by=SplitOptions(time=kind(time)))
    assert set(time[fold.validation]) == set(range(40, 60))
    assert set(time[fold.train]) == set(range(40))


@pytest.mark.parametrize("recurring", ["never", "some", "always"])
@pytest.mark.parametrize("n_folds", [1, 4])
def test_groups_and_time(recurring, n_folds):
    rng = np.random.default_rng(0)
    n = 400
    time = rng.permutation(n)
    group = {"never": time // 8, "some": np.where(rng.random(n) < 0.3, rng.integers(0, 20, n), 100 + time // 8)}
    groups = group.get(recurring, rng.integers(0, 30, n))
    for target in (rng.normal(size=n), rng.integers(0, 3, n)):
        folds, notes = make_folds(target, n_folds, seed=0, by=SplitOptions(groups=groups, time=time))
        assert len(folds) == n_folds
        for fold in folds:
            assert time[fold.train].max() < time[fold.validation].min()
            assert not set(groups[fold.train]) & set(groups[fold.validation])
            assert len(fold.train) >= 10 and len(fold.validation) >= 10
        whole, _ = make_folds(target, n_folds, seed=0, by=SplitOptions(time=time))
        n_rows, n_whole = (sum(len(f.train) + len(f.validation) for f in some) for some in (folds, whole))
        assert any("before and after" in note for note in notes) == (n_rows < n_whole)


def test_groups_and_time_with_a_late_class():
    time, groups = np.arange(60), np.arange(60) // 3
    target = (time >= 50).astype(int)
    for fold in make_folds(target, 2, seed=0, by=SplitOptions(groups=groups, time=time))[0]:
        assert set(target[fold.train]) == {0, 1}
        assert not set(groups[fold.train]) & set(groups[fold.validation])


FORMATS = ["%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y-%m-%d %H:%M:%S", "%Y%m%d", "%d %B %Y", "%b %d, %Y"]


@pytest.mark.parametrize("form", FORMATS)
def test_texts_of_times_are_read_as_columns_are(form):
    days = pd.date_range("2023-11-05", periods=90)
    order = np.random.default_rng(0).permutation(90)
    texts = [f"{day:{form}}" for day in days[order]]
    (fold,), _ = make_folds(np.zeros(90), 1, seed=0, by=SplitOptions(time=texts))
    assert set(order[fold.validation]) == set(range(60, 90))


def test_numbers_written_as_texts_are_times_too():
    time = np.random.default_rng(0).permutation(30)
    (fold,), _ = make_folds(np.zeros(30), 1, seed=0, by=SplitOptions(time=[str(value) for value in time]))
    assert set(time[fold.validation]) == set(range(20, 30))


def test_rows_of_one_time_are_not_divided():
    time = np.repeat([1, 2, 3, 4, 5, 6], [10, 3, 11, 5, 9, 2])
    for n_folds in (1, 2):
        for fold in make_folds(np.zeros(40), n_folds, seed=0, by=SplitOptions(time=time))[0]:
            assert time[fold.train].max() < time[fold.validation].min()


def test_a_class_that_comes_late_is_trained_on_from_the_first_fold():
    target = np.r_[np.zeros(20, dtype=int), np.ones(20, dtype=int)]
    folds, notes = make_folds(target, 3, seed=0, by=SplitOptions(time=np.arange(40)[::-1]))
    assert all(set(target[fold.train]) == {0, 1} for fold in folds)
    assert 19 in folds[0].train  # of its class the earliest
    assert notes


def test_splitters():
    target, groups = np.arange(30) % 2, np.arange(30) // 3
    for splitter in (KFold(3), list(KFold(3).split(target)), KFold(3).split(target)):
        folds, notes = make_folds(target, 1, seed=0, by=SplitOptions(splitter=splitter))
        for fold, (train, valid) in zip(folds, KFold(3).split(target), strict=True):
            assert (fold.train == train).all()
            assert (fold.validation == valid).all()
        assert notes == ()
    folds, _ = make_folds(target, 1, seed=0, by=SplitOptions(splitter=GroupKFold(5), groups=groups))
    assert check(folds, target, 5) == set(range(30))
    assert all(not set(groups[fold.train]) & set(groups[fold.validation]) for fold in folds)
    folds, _ = make_folds(target, 1, seed=0, by=SplitOptions(splitter=ShuffleSplit(4, random_state=0)))
    assert len(folds) == 4
    mask = np.arange(30) < 20
    (fold,), _ = make_folds(target, 1, seed=0, by=SplitOptions(splitter=[(mask, ~mask)]))
    assert (fold.validation == np.arange(20, 30)).all()
    folds, _ = make_folds(np.zeros(4), 1, seed=0, by=SplitOptions(splitter=LeaveOneOut()))
    assert [fold.validation.tolist() for fold in folds] == [[0], [1], [2], [3]]


def test_a_fold_of_the_user_gets_every_class():
    target = np.array([0, 0, 1, 1])
    (fold,), notes = make_folds(target, 1, seed=0, by=SplitOptions(splitter=[([0, 1], [2, 3])]))
    assert fold.train.tolist() == [0, 1, 2]
    assert fold.validation.tolist() == [3]
    assert notes


TEN = np.arange(10) % 2


@pytest.mark.parametrize(
    ("target", "n_folds", "by", "message"),
    [
        (TEN, 11, SplitOptions(), "n_folds=11 does not go with 10 row(s)"),
        (TEN, 0, SplitOptions(), "n_folds=0 does not go with 10 row(s)"),
        (TEN[:1], 1, SplitOptions(), "n_folds=1 does not go with 1 row(s): at least 2"),
        (np.arange(6), 3, SplitOptions(), "Fold 0 of 3 has no row left to validate"),
        (TEN, 1, SplitOptions(groups=np.zeros(10), time=np.arange(10)), "groups and time leave fold 0 of 1 no row"),
        (TEN, 2, SplitOptions(splitter=KFold(2), time=TEN), "time and split are both given"),
        (TEN, 2, SplitOptions(groups=TEN[:9]), "groups has 9 values, but there are 10 rows."),
        (
            TEN,
            2,
            SplitOptions(groups=[1.0] * 8 + [np.nan] * 2),
            "2 missing values, the first in row 8; leave",
        ),
        (TEN, 2, SplitOptions(groups=[[1], [2]] * 5), "groups cannot be used"),
        (TEN, 3, SplitOptions(groups=TEN), "but 3 are needed. Allowed: more, or a policy with fewer folds"),
        (TEN, 1, SplitOptions(groups=TEN * 0), "groups has 1 distinct value(s), but 2 are needed."),
        (TEN, 2, SplitOptions(time=range(9)), "time has 9 values, but there are 10 rows."),
        (
            TEN,
            2,
            SplitOptions(time=[None, *range(9)]),
            "1 missing value, the first in row 0; leave",
        ),
        (TEN, 2, SplitOptions(time=["01/02/2023"] * 10), "time has too few distinct values"),
        (TEN, 2, SplitOptions(time=["soon", "later"] * 5), "time cannot be used: 'soon', 'later' ... are neither"),
        (TEN, 2, SplitOptions(time=TEN), "time has too few distinct values, or too unevenly spread, for 2 fold(s)."),
        (TEN, 1, SplitOptions(time=TEN * 0), "time has too few distinct values"),
        (TEN, 1, SplitOptions(splitter=5), "split=5 is not a splitter"),
        (TEN, 1, SplitOptions(splitter=object()), "split cannot divide the rows"),
        (TEN, 1, SplitOptions(splitter=GroupKFold(2)), "split cannot divide the rows: The 'groups' parameter"),
        (TEN, 1, SplitOptions(splitter=[]), "it does not return pairs"),
        (TEN, 1, SplitOptions(splitter=[([0], [1], [2])]), "split cannot divide the rows: too many values to unpack"),
        (
            TEN,
            1,
            SplitOptions(splitter=[([0, 1], [1, 2])]),
            "split: fold 0 trains on 1 of its validation rows, such as 1.",
        ),
        (TEN, 1, SplitOptions(splitter=[([0, 10], [1])]), "has rows 0 to 10, but there are 0 to 9."),
        (TEN, 1, SplitOptions(splitter=[([0, -1], [1])]), "has rows -1 to 0"),
        (TEN, 1, SplitOptions(splitter=[([0, 0], [1])]), "the training set of fold 0 has rows more than once."),
        (TEN, 1, SplitOptions(splitter=[([0], [])]), "the validation set of fold 0 is [], but must be row positions"),
        (TEN, 1, SplitOptions(splitter=[([0.5], [1])]), "must be row positions"),
    ],
)
def test_errors(target, n_folds, by, message):
    with pytest.raises(InputError) as caught:
        make_folds(target, n_folds, seed=0, by=by)
    assert message in str(caught.value)


def test_fold_is_a_record():
    fold = Fold(np.array([0]), np.array([1]))
    with pytest.raises(AttributeError):
        fold.train = np.array([2])


@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.6), st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_hold_out_gives_each_class_its_share(seed: int, share: float, size: int) -> None:
    rng = np.random.default_rng(seed)
    group_class = np.concatenate([np.arange(4).repeat(2), rng.integers(0, 4, 60)])
    groups = np.repeat(np.arange(68), size)
    target = group_class[groups]
    fold = hold_out(target, share, groups, seed=seed)
    assert sorted([*fold.train, *fold.validation]) == list(range(len(target)))
    assert not set(groups[fold.train]) & set(groups[fold.validation])
    assert set(target[fold.train]) == set(range(4))
    assert abs(len(fold.validation) - share * len(target)) <= max(size, 0.5 * size + 1)
    for label in range(4):
        rows = target == label
        assert abs((target[fold.validation] == label).sum() - share * rows.sum()) <= size + 1e-9
    again = hold_out(target, share, groups, seed=seed)
    assert np.array_equal(again.validation, fold.validation)


def test_hold_out_of_single_rows_and_of_too_few_groups() -> None:
    fold = hold_out(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.5, np.arange(8), seed=0)
    assert np.bincount([0, 0, 0, 0, 1, 1, 1, 1], weights=np.isin(np.arange(8), fold.validation)).tolist() == [2, 2]
    assert len(hold_out(np.array([0, 0, 1, 1]), 0.01, np.arange(4), seed=0).validation) == 1
    with pytest.raises(InputError, match="each of the 2 classes is in one group alone"):
        hold_out(np.array([0, 0, 1, 1]), 0.5, np.array([0, 0, 1, 1]), seed=0)


def test_hold_out_keeps_a_class_that_is_everywhere_the_smaller() -> None:
    groups = np.repeat(np.arange(30), 4)
    target = np.where(np.arange(120) % 4 == 0, 1, 0)
    target[4:] = np.where(groups[4:] < 29, 0, target[4:])
    fold = hold_out(target, 0.4, groups, seed=1)
    assert set(target[fold.train]) == {0, 1}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_grouped_folds_hold_every_row_once_and_groups_together(seed: int, n_folds: int) -> None:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 3, 60)
    target[:3] = range(3)
    groups = rng.integers(0, 25, 60)
    folds = grouped_folds(target, groups, n_folds, seed=seed)
    assert len(folds) == n_folds
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.validation])
        assert set(target[fold.train]) == set(target)
        assert len(np.intersect1d(fold.train, fold.validation)) == 0
    counted = np.bincount(np.concatenate([fold.validation for fold in folds]), minlength=60)
    assert counted.max() <= 1


def test_grouped_folds_are_stratified_without_large_groups() -> None:
    target = np.arange(90) % 3
    for fold in grouped_folds(target, np.arange(90), 5, seed=0):
        assert np.bincount(target[fold.validation]).tolist() == [6, 6, 6]
    with pytest.raises(InputError, match="distinct"):
        grouped_folds(target, np.zeros(90, dtype=np.int64), 2, seed=0)
