"""The labels of images -> numbers: one class each, or several at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.data.images.folder import natural_key
from windvane.runtime.table import Integers
from windvane.errors import InputError

_COLLECTIONS = (list, tuple, set, frozenset, np.ndarray)


@dataclass(frozen=True, eq=False)
class Labels:
    """Encoded labels.

    Attributes
    ----------
    codes
        Class numbers of shape (n,); or for several labels at once 0 and 1 of shape (n, c).
    classes
        Names of the c classes, in natural order.
    problems
        For each image why its label is not usable; mostly empty.
    """

    codes: Integers
    classes: tuple[str, ...]
    problems: tuple[str, ...]


def spread_labels(labels: Any) -> list[Any]:
    """Make a list, with an entry for each image, of whatever labels are given.

    Parameters
    ----------
    labels
        A list, an array or a column of n labels; n lists of labels; or an array or a frame of 0 and 1 of shape (n, c),
        whose columns name the classes.

    Returns
    -------
    list
        A label for each image, or a list of them.

    Raises
    ------
    InputError
        Where they are of another shape.
    """
    if hasattr(labels, "to_pandas"):
        labels = labels.to_pandas()
    if isinstance(labels, str | bytes | Mapping) or not hasattr(labels, "__len__"):
        raise InputError(f"labels is of type {type(labels).__name__}. Allowed: a label for each image.")
    if isinstance(labels, list | tuple | pd.Series):
        return list(labels)
    table = np.asarray(labels)
    if table.ndim == 2 and table.shape[1] == 1:
        table = table[:, 0]
    if table.ndim == 1:
        return list(table.tolist())
    if table.ndim != 2 or not np.isin(table, (0, 1)).all():
        raise InputError(
            f"labels has the shape {table.shape}. Allowed: a label for each image, a list of labels for each, or a row "
            "of 0 and 1 for each."
        )
    names = [str(name) for name in getattr(labels, "columns", range(table.shape[1]))]
    return [[name for name, on in zip(names, row, strict=True) if on] for row in table.tolist()]


def encode_labels(labels: Sequence[Any], trains: NDArray[np.bool_]) -> Labels:
    """Make numbers of labels.

    Parameters
    ----------
    labels
        A label for each of n images, or a list of labels. Whatever their type, they are taken as text.
    trains
        Which images are trained on, shape (n,): these know the classes.

    Returns
    -------
    Labels
        A label that is missing, or that no training image has, is a problem.

    Raises
    ------
    InputError
        Where some images have one label and others a list of them.
    """
    several = np.array([isinstance(label, _COLLECTIONS) for label in labels], dtype=np.bool_)
    names = [_texts(label) for label in labels]  # empty where a label is missing
    single = np.array([len(texts) > 0 for texts in names], dtype=np.bool_) & ~several
    if several.any() and single.any():
        raise InputError(
            f"Image {int(np.argmax(several))} has a list of labels, image {int(np.argmax(single))} one label. Allowed: "
            "one for each, or a list for each."
        )
    seen = {one for texts, train in zip(names, trains.tolist(), strict=True) if train for one in texts}
    classes = tuple(sorted(seen, key=natural_key))
    number = {name: i for i, name in enumerate(classes)}
    problems = []
    for texts, usable in zip(names, (single | several).tolist(), strict=True):
        strange = [one for one in texts if one not in number]
        unseen = f"its class {strange[0]!r} is not in the training part" if strange else ""
        problems.append(unseen if usable else "it has no label")
    if several.any():
        codes = np.zeros((len(names), len(classes)), dtype=np.int64)
        for i, texts in enumerate(names):
            codes[i, [number[one] for one in texts if one in number]] = 1
    else:
        codes = np.array([number.get(texts[0], 0) if texts else 0 for texts in names], dtype=np.int64)
    return Labels(codes, classes, tuple(problems))


def _texts(label: Any) -> list[str]:
    """Write the label, or the labels, of an image as texts; those that are missing are left out."""
    each = label if isinstance(label, _COLLECTIONS) else [label]
    return [text for one in each if (text := _text(one)) is not None]


def _text(label: Any) -> str | None:
    """Write a label as text; None where it is missing."""
    if isinstance(label, str):
        return str(label)
    if label is None or label is pd.NA or label is pd.NaT or (isinstance(label, float) and np.isnan(label)):
        return None
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label)
