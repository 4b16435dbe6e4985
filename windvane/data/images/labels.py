"""Encode the labels of images as numbers: one class each, or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.data.images.listing import natural_key
from windvane.data.targets import COLLECTIONS
from windvane.errors import InputError
from windvane.runtime.columns.column_values import is_missing
from windvane.runtime.columns.table import Integers


@dataclass(frozen=True, eq=False)
class Labels:
    """Encoded labels."""

    codes: Integers  # class numbers (n,), or 0 and 1 of shape (n, c) for several labels per image
    classes: tuple[str, ...]  # names of the c classes, in natural order
    problems: tuple[str, ...]  # why the label of an image is not usable; mostly empty


def spread_labels(labels: Any, argument: str = "labels") -> list[Any]:
    """Return a label, or a list of labels, for each image, from whatever form the labels are given in."""
    # That is a list, an array or a column of n labels; n lists of labels; or an array or a frame of 0 and 1 of shape
    # (n, c) whose columns name the classes.
    if hasattr(labels, "to_pandas"):
        labels = labels.to_pandas()
    if isinstance(labels, str | bytes | Mapping) or not hasattr(labels, "__len__"):
        raise InputError(f"{argument} is of type {type(labels).__name__}. Allowed: a label for each image.")
    if isinstance(labels, list | tuple | pd.Series):
        return list(labels)
    table = np.asarray(labels)
    if table.ndim == 2 and table.shape[1] == 1:
        table = table[:, 0]
    if table.ndim == 1:
        return list(table.tolist())
    if table.ndim != 2 or not np.isin(table, (0, 1)).all():
        raise InputError(
            f"{argument} has the shape {table.shape}. Allowed: a label for each image, a list of labels for each, or a "
            "row of 0 and 1 for each."
        )
    names = [str(name) for name in getattr(labels, "columns", range(table.shape[1]))]
    return [[name for name, on in zip(names, row, strict=True) if on] for row in table.tolist()]


def encode_labels(labels: Sequence[Any], is_train: NDArray[np.bool_]) -> Labels:
    """Encode a label, or a list of labels, for each of n images; the training images define the classes."""
    # Labels of any type are taken as text. One that is missing, or that no training image has, is a problem.
    several = np.array([isinstance(label, COLLECTIONS) for label in labels], dtype=np.bool_)
    names = [_texts(label) for label in labels]  # empty where a label is missing
    single = np.array([len(texts) > 0 for texts in names], dtype=np.bool_) & ~several
    if several.any() and single.any():
        raise InputError(
            f"Image {int(np.argmax(several))} has a list of labels, image {int(np.argmax(single))} one label. Allowed: "
            "one for each, or a list for each."
        )
    seen = {one for texts, train in zip(names, is_train.tolist(), strict=True) if train for one in texts}
    classes = tuple(sorted(seen, key=natural_key))
    number = {name: i for i, name in enumerate(classes)}
    problems = []
    for texts, usable in zip(names, (single | several).tolist(), strict=True):
        strange = [one for one in texts if one not in number]
        unseen = f"its class {strange[0]!r} is not in the training split" if strange else ""
        problems.append(unseen if usable else "it has no label")
    if several.any():
        codes = np.zeros((len(names), len(classes)), dtype=np.int64)
        for i, texts in enumerate(names):
            codes[i, [number[one] for one in texts if one in number]] = 1
    else:
        codes = np.array([number.get(texts[0], 0) if texts else 0 for texts in names], dtype=np.int64)
    return Labels(codes, classes, tuple(problems))


def _texts(label: Any) -> list[str]:
    """Return the label, or the labels, of an image as text, without missing ones."""
    each = label if isinstance(label, COLLECTIONS) else [label]
    return [text for one in each if (text := _text(one)) is not None]


def _text(label: Any) -> str | None:
    """Return a label as text; None if it is missing."""
    if isinstance(label, str):
        return str(label)
    if is_missing(label):
        return None
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)
