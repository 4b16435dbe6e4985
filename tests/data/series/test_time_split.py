import datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import TimeSeriesSplit

from windvane.data.rows import take_split
from windvane.data.series.time_split import TimeSplit
from windvane.data.splits import SplitOptions, make_folds
from windvane.errors import InputError

NUMBERS = np.random.default_rng(0).normal(size=120)
SHUFFLED = np.random.default_rng(1).permutation(120)
DAYS = pd.Series(pd.date_range("2024-02-01", periods=40)).repeat(3).to_numpy()  # three rows a day


def folds_of(split, time, n_folds=3, target=NUMBERS):
    return make_folds(target, n_folds, seed=0, by=SplitOptions(time=time, splitter=split))[0]


@pytest.mark.parametrize(
    "amounts",
    [
        {"gap": 4, "test_size": 10},
        {"gap": 4, "test_size": 10, "max_train_size": 20},
        {"test_size": 10, "max_train_size": 7},
        {"gap": "2"},  # as it comes from a shell
    ],
)
def test_instants_are_the_rows_of_scikit_learn(amounts):
    """Without ties; the times are in no order, and the expected positions are those among sorted times."""
    theirs = TimeSeriesSplit(3, **{name: int(value) for name, value in amounts.items()})
    for fold, (train, validation) in zip(folds_of(TimeSplit(**amounts), SHUFFLED), theirs.split(NUMBERS), strict=True):
        order = np.argsort(SHUFFLED)
        assert fold.train.tolist() == sorted(order[train].tolist())
        assert fold.validation.tolist() == sorted(order[validation].tolist())


@pytest.mark.parametrize("n_folds", [1, 3])
@pytest.mark.parametrize("embargo", [None, "2d", 1])
@pytest.mark.parametrize("gap", [0, 2, "1d", "5d", "36h", datetime.timedelta(days=3)])
def test_gap_and_embargo(gap, embargo, n_folds):
    """Row by row: what is closer to the validated rows than gap and embargo is left out, and nothing else."""
    day = (DAYS - DAYS[0]) / np.timedelta64(1, "D")
    for fold in folds_of(TimeSplit(gap=gap, embargo=embargo), DAYS, n_folds):
        first, last = day[fold.validation].min(), day[fold.validation].max()
        assert set(np.flatnonzero((day >= first) & (day <= last))) == set(fold.validation)
        spans = {0: 1, 1: 2, 2: 3, "1d": 1, "2d": 2, "5d": 5, "36h": 1.5, datetime.timedelta(days=3): 3}
        expected = {i for i in range(120) if day[i] <= first - spans[gap]}
        if embargo is not None:
            expected |= {i for i in range(120) if day[i] >= last + spans[embargo]}
        assert set(fold.train) == expected


def test_embargo_validates_every_row():
    folds = folds_of(TimeSplit(embargo=0), DAYS, 4)
    assert sorted(np.concatenate([fold.validation for fold in folds]).tolist()) == list(range(120))


def test_rolling_window_and_blocks_of_days():
    day = (DAYS - DAYS[0]) / np.timedelta64(1, "D")
    folds = folds_of(TimeSplit(2, gap="3d", test_size="7d", max_train_size="10d"), DAYS, 5)
    assert [sorted(set(day[fold.validation])) for fold in folds] == [list(range(26, 33)), list(range(33, 40))]
    assert [sorted(set(day[fold.train])) for fold in folds] == [list(range(14, 24)), list(range(21, 31))]


def test_dates_in_all_forms():
    dates = pd.Series(DAYS)
    expected = folds_of(TimeSplit(gap="5d"), dates)
    for same in (
        dates.dt.strftime("%d.%m.%Y"),
        dates.dt.date,
        dates.dt.tz_localize("Europe/Zurich"),
        dates.dt.to_period("D"),
        dates - dates[0],
    ):
        for fold, other in zip(folds_of(TimeSplit(gap="5d"), same), expected, strict=True):
            assert (fold.train == other.train).all()
            assert (fold.validation == other.validation).all()


def test_rows_of_weight_zero_leave_the_split_as_it_is():
    split = TimeSplit(gap=1)
    assert take_split(split, np.arange(5), 10) is split


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gap": -1}, "gap=-1"),
        ({"gap": "soon"}, "gap='soon' is not a length of time"),
        ({"gap": datetime.timedelta(days=-1)}, "is negative"),
        ({"test_size": 0}, "test_size=0"),
        ({"n_splits": 0}, "n_splits=0"),
        ({"max_train_size": 5, "embargo": 1}, "max_train_size and embargo are both given"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        TimeSplit(**settings)


@pytest.mark.parametrize(
    ("split", "time", "message"),
    [
        (TimeSplit(gap="7d"), SHUFFLED, "gap='7d' is a span of time, but time holds numbers"),
        (TimeSplit(gap="90d"), DAYS, "gap='90d' leaves fold 0 of 3 no row to train on"),
        (TimeSplit(test_size=20), DAYS, r"test_size=20 leaves no 3 block\(s\)"),
        (TimeSplit(), None, "time is missing"),
        (TimeSeriesSplit(3), DAYS, "time and split are both given"),
    ],
)
def test_bad_rows(split, time, message):
    with pytest.raises(InputError, match=message):
        folds_of(split, time)
