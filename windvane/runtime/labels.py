"""Class labels in a manifest: what JSON cannot hold is written as texts, with the name of its type."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .errors import InputError

# name -> type, to JSON, and back; the first type that fits is used
Codec = tuple[type, Callable[[Any], Any], Callable[[Any], Any]]


def _timestamp(record: Any) -> pd.Timestamp:
    text, zone = record
    moment = pd.Timestamp(text)
    return moment if zone is None else moment.tz_convert(zone)


def _interval_to_json(value: Any) -> Any:
    return [_name_and_value(value.left), _name_and_value(value.right), value.closed]


def _interval(record: Any) -> Any:
    left, right, closed = record
    return pd.Interval(CODECS[left[0]][2](left[1]), CODECS[right[0]][2](right[1]), closed)


CODECS: dict[str, Codec] = {
    "Timestamp": (
        pd.Timestamp,
        lambda value: [value.isoformat(), None if value.tz is None else str(value.tz)],
        _timestamp,
    ),
    "datetime": (datetime.datetime, lambda value: value.isoformat(), datetime.datetime.fromisoformat),
    "date": (datetime.date, lambda value: value.isoformat(), datetime.date.fromisoformat),
    "time": (datetime.time, lambda value: value.isoformat(), datetime.time.fromisoformat),
    "Timedelta": (pd.Timedelta, lambda value: value.isoformat(), pd.Timedelta),
    "Period": (
        pd.Period,
        lambda value: [str(value), value.freqstr],
        lambda record: pd.Period(record[0], freq=record[1]),
    ),
    "Interval": (pd.Interval, _interval_to_json, _interval),
    "Decimal": (Decimal, str, Decimal),
    "bytes": (bytes, lambda value: value.decode("latin-1"), lambda text: text.encode("latin-1")),
    "str": (str, str, str),
    "bool": (bool, bool, bool),
    "int": (int, str, int),
    "float": (float, float.hex, float.fromhex),
}


def labels_to_json(classes: NDArray[Any]) -> dict[str, Any]:
    """Describe labels in JSON's types; InputError names a type that cannot be kept."""
    record = {"dtype": classes.dtype.str, "values": classes.tolist()}
    if classes.dtype.kind in "mM":
        record["values"] = classes.astype(np.int64).tolist()
    elif classes.dtype.kind in "SO" and not all(type(label) is str for label in record["values"]):
        record["values"] = [_name_and_value(label) for label in record["values"]]
        record["typed"] = True
    try:
        found = labels_from_json(record)
        same = [type(one) is type(other) and one == other for one, other in zip(found, classes, strict=True)]
    except (AttributeError, LookupError, TypeError, ValueError):
        same = [False]
    if not all(same):
        raise _no_codec(classes[same.index(False)])
    return record


def labels_from_json(record: Any) -> NDArray[Any]:
    """Read what `labels_to_json` wrote; ValueError, TypeError or LookupError where it is not that."""
    if not record.get("typed"):
        labels = np.array(record["values"], dtype=np.dtype(record["dtype"]))
        if labels.ndim != 1:
            raise ValueError(f"labels of shape {labels.shape}")
        return labels
    labels = np.empty(len(record["values"]), dtype=object)
    labels[:] = [CODECS[name][2](value) for name, value in record["values"]]
    return labels.astype(np.dtype(record["dtype"]))


def _name_and_value(value: Any) -> list[Any]:
    value = value.item() if isinstance(value, np.generic) else value
    for name, (kind, write, _) in CODECS.items():
        if isinstance(value, kind):
            return [name, write(value)]
    raise _no_codec(value)


def _no_codec(value: object) -> InputError:
    return InputError(
        f"y holds labels such as {value!r} of type {type(value).__name__}, which a saved model cannot keep: convert "
        "them to texts or numbers before."
    )
