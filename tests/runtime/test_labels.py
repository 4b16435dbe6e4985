import datetime
import json
from decimal import Decimal
from enum import Enum

import numpy as np
import pandas as pd
import pytest

from windvane.data.splits import SplitOptions, make_folds
from windvane.data.target import encode_target
from windvane.errors import InputError
from windvane.runtime.labels import labels_from_json, labels_to_json

DAYS = pd.date_range("2024-03-29 23:30", periods=12, freq="7h")
TARGETS = {
    "cut": pd.cut(pd.Series(range(12)), 3),
    "qcut": pd.Series(pd.qcut(range(12), 3)),
    "interval of dates": pd.Series(pd.cut(DAYS, 3)),
    "period": pd.Series(DAYS.to_period("D")),
    "month": pd.Series(DAYS.to_period("M").repeat(1)[:11].append(pd.PeriodIndex(["2025-01"], freq="M"))),
    "bytes": np.array([b"a", b"\xff"] * 6),
    "bytes as objects": pd.Series([b"a", b"\xff"] * 6, dtype=object),
    "dates": [day.date() for day in DAYS],
    "datetimes": pd.Series(DAYS),
    "microseconds": np.array(DAYS, dtype="datetime64[us]"),
    "zone": pd.Series(DAYS.tz_localize("Europe/Berlin")),
    "utc": pd.Series(DAYS.tz_localize("UTC")),
    "durations": pd.Series(DAYS - DAYS[0]),
    "times": [datetime.time(8), datetime.time(9, 30)] * 6,
    "decimals": [Decimal("1.10"), Decimal("2.5")] * 6,
    "large": [2**70, 2**71] * 6,
    "texts": pd.Series(["a", "\ud800b"] * 6, dtype=object),
    "booleans": [True, False] * 6,
    "floats": [0.1, 2.0] * 6,
}


@pytest.mark.parametrize("name", TARGETS)
def test_labels_come_back_as_what_they_were(name):
    y = TARGETS[name]
    codes, classes = (
        encode_target(y, "classification") if name != "floats" else (np.array([0, 1] * 6), np.array([0.1, 2]))
    )
    record = json.loads(json.dumps(labels_to_json(classes)))
    found = labels_from_json(record)
    assert found.dtype == classes.dtype
    for one, label in zip(found, classes, strict=True):
        assert type(one) is type(label) and one == label
        assert str(one) == str(label)
    predicted = found[codes]
    assert list(predicted) == list(np.asarray(pd.Series(y)) if name != "zone" else y)
    if name != "floats":
        assert encode_target(y, "classification", found)[0].tolist() == codes.tolist()


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in ("large",)])
def test_groups_of_the_same_types(name):
    y = TARGETS[name]
    groups = pd.factorize(pd.Series(y))[0]
    folds, _ = make_folds(np.arange(12.0), 2 if len(set(groups)) < 3 else 3, seed=0, by=SplitOptions(groups=y))
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.validation])


class Colour(Enum):
    RED = 1
    BLUE = 2


@pytest.mark.parametrize(
    ("labels", "name"), [([Colour.RED, Colour.BLUE], "Colour"), ([(1, 2), (3, 4)], "tuple"), ([1j, 2j], "complex")]
)
def test_what_cannot_be_kept_is_refused_by_name(labels, name):
    classes = np.empty(2, dtype=object)
    classes[:] = labels
    with pytest.raises(InputError, match=f"of type {name}, which a saved model cannot keep"):
        labels_to_json(classes)


@pytest.mark.parametrize("values", [None, "", 3, [["a"], ["b"]]])
def test_damaged_labels_are_refused(values):
    record = {**labels_to_json(np.array(["a", "b"], dtype=object)), "values": values}
    with pytest.raises((ValueError, TypeError, LookupError)):
        labels_from_json(record)
