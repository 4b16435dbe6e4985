"""List the images of any source, without decoding them.

Sources are folders, tables with a column of images, arrays, datasets of the library ``datasets``, or a mapping from the
names of splits (train, valid, test) to any of these.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.data.files import IMAGE_SUFFIXES, READABLE, read_frame
from windvane.data.images.listing import ImageListing, list_files, list_folder, normalize_split_name
from windvane.data.images.summary import describe_skipped
from windvane.errors import MOST_NAMES, InputError, check_choice, some_of
from windvane.runtime.columns.column_values import is_missing
from windvane.runtime.images import Item, Pixels, eight_bit_factor, to_rgb

CHANNELS = (1, 3, 4)  # by which the channel axis is recognized

IMAGE_COLUMNS = ("image", "img", "picture", "photo", "file", "path", "filename", "file_name")
LABEL_COLUMNS = ("label", "labels", "class", "target", "category", "y")
SPLIT_COLUMNS = ("split", "part", "subset")
NAME_COLUMNS = ("name", "filename", "file_name", "file", "path", "id")

WANTED = (
    "a folder, a Parquet or CSV file, a pandas, polars or Arrow table, an array of shape (n, h, w), (n, h, w, c) or "
    "(n, c, h, w), a list of images or files, a dataset of the library datasets, or a mapping of splits to these"
)


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what; None for the usual names, or for the image by its values.

    Examples
    --------
    >>> data = read_images("birds.csv", columns=Columns(image="file", label="species"))  # doctest: +SKIP
    """

    # Encoded bytes, mappings with "bytes" and "path" (as ``datasets`` writes them), arrays, or paths relative to the
    # folder of the table.
    image: str | None = None
    label: str | None = None  # a label for each image, or a list of labels
    split: str | None = None  # "train", "valid" (or "val", "validation") or "test" for each image
    name: str | None = None  # name of each image, for reports


def list_images(source: Any, columns: Columns, *, labelled: bool = True) -> ImageListing:
    """List the images of a source as for `read_images`, in order of names for folders, else as given."""
    # `labelled` says whether the sub-folders of a folder are classes.
    if isinstance(source, str | os.PathLike):
        return _list_path(Path(source), columns, labelled)
    if isinstance(source, Mapping):
        listing = ImageListing()
        for name, one in source.items():
            listing.extend(list_images(one, columns, labelled=labelled), normalize_split_name(name, "a key of source"))
        return listing
    if type(source).__module__.partition(".")[0] == "datasets":
        return _list_dataset(source, columns)
    if hasattr(source, "to_pandas"):  # polars, Arrow
        source = source.to_pandas()
    if isinstance(source, pd.DataFrame):
        return _list_table(source, columns, Path())
    values = _as_list(source)
    names = [str(value) if isinstance(value, str | os.PathLike) else f"image {i}" for i, value in enumerate(values)]
    items, problems = _items(values, Path())
    return ImageListing(items, names, [None] * len(values), ["train"] * len(values), problems)


def _list_path(path: Path, columns: Columns, labelled: bool) -> ImageListing:
    if path.is_dir():
        return list_folder(path) if labelled else list_files(path)
    if path.name.lower().endswith(READABLE):
        return _list_table(read_frame(path), columns, path.parent)
    if not path.is_file():
        raise InputError(f"source={str(path)!r} does not exist. Allowed: {WANTED}.")
    listing = ImageListing()
    listing.add(path, path.name)
    return listing


def no_labels_error(listing: ImageListing) -> InputError:
    """Return the error for a source without labels, with what was left out of it."""
    hint = (
        f"A folder has a sub-folder for each class; a table a column {', '.join(LABEL_COLUMNS[:-1])} or "
        f"{LABEL_COLUMNS[-1]}, or one that columns=Columns(label=...) names; other sources need y."
    )
    return InputError(" ".join(["source has no labelled image.", hint, *describe_skipped(listing.skipped)]))


# Tables.


def _list_table(frame: pd.DataFrame, columns: Columns, base: Path) -> ImageListing:
    if len(frame) == 0:
        raise InputError("source is a table without rows.")
    frame = frame.set_axis(frame.columns.map(str), axis=1)
    for what, given_name in asdict(columns).items():
        if given_name is not None:
            check_choice(f"columns.{what}", given_name, frame.columns)
    image = _find_image_column(frame) if columns.image is None else columns.image
    label = _usual_column(frame, columns.label, LABEL_COLUMNS, image)
    split = _usual_column(frame, columns.split, SPLIT_COLUMNS, image)
    named = _usual_column(frame, columns.name, NAME_COLUMNS, "")
    splits = ["train"] * len(frame)
    if split is not None:
        known = {
            value: normalize_split_name(value, f"in the column {split!r}") for value in frame[split].unique().tolist()
        }
        splits = [known[value] for value in frame[split].tolist()]
    values: list[Any] = frame[image].tolist()
    paths = [value.get("path") if isinstance(value, Mapping) else value for value in values]
    values = [_stored_image(value) for value in values]
    given = paths if named is None or named == image else frame[named].tolist()
    names = [str(name) if isinstance(name, str | int) else f"row {i}" for i, name in enumerate(given)]
    labels = [None] * len(frame) if label is None else frame[label].tolist()
    items, problems = _items(values, base)
    return ImageListing(items, names, labels, splits, problems, table=frame)


def _stored_image(value: Any) -> Any:
    """Return the image inside the form in which ``datasets`` stores it."""
    if not isinstance(value, Mapping):
        return value
    return value.get("path") if value.get("bytes") is None else value["bytes"]


def _find_image_column(frame: pd.DataFrame) -> str:
    usual = [column for column in frame.columns if column.lower() in IMAGE_COLUMNS]
    for column in [*usual, *(column for column in frame.columns if column not in usual)]:
        present = frame[column].dropna()
        if len(present) and _is_image(_stored_image(present.iloc[0])):
            return str(column)
    raise InputError(
        f"source has no column of images: encoded bytes, arrays, or names that end in {', '.join(IMAGE_SUFFIXES)}. "
        f"Its columns: {some_of(list(frame.columns), MOST_NAMES)}. Name one by columns=Columns(image=...); to learn a "
        "column from the others of a table, name it as the target (--target in a shell)."
    )


def _is_image(value: Any) -> bool:
    if isinstance(value, str | os.PathLike):
        return os.fspath(value).lower().endswith(IMAGE_SUFFIXES)
    return isinstance(value, bytes | bytearray) or _is_pillow(value) or getattr(value, "ndim", 0) in (2, 3)


def _usual_column(frame: pd.DataFrame, name: str | None, usual: Sequence[str], other: str) -> str | None:
    """Return the given name, or that of a usual column."""
    if name is not None:
        return name
    by_name = {column.lower(): str(column) for column in frame.columns if column != other}
    return next((by_name[one] for one in usual if one in by_name), None)


# Datasets.


def _list_dataset(dataset: Any, columns: Columns) -> ImageListing:
    """List a dataset of the library ``datasets``: a table whose columns say what they hold."""
    from datasets import Image

    if not hasattr(dataset, "__len__"):
        raise InputError(f"source is of type {type(dataset).__name__}. Allowed: a Dataset that is not streamed.")
    images = [name for name, kind in dataset.features.items() if type(kind).__name__ == "Image"]
    for name in images:
        dataset = dataset.cast_column(name, Image(decode=False))
    frame: pd.DataFrame = dataset.to_pandas()
    classes = []
    for name, kind in dataset.features.items():
        inner = getattr(kind, "feature", kind)
        if type(inner).__name__ == "ClassLabel":
            classes.append(name)
            names = dict(enumerate(inner.names))  # no label has the number -1
            frame[name] = pd.Series(
                [names.get(v) if inner is kind else [names[code] for code in v] for v in frame[name].tolist()],
                dtype=object,
            )
    if images and columns.image is None:
        columns = replace(columns, image=images[0])
    if columns.label is None and not any(name.lower() in LABEL_COLUMNS for name in frame.columns) and classes:
        columns = replace(columns, label=classes[0])
    return _list_table(frame, columns, Path())


# Arrays.


def _as_list(source: Any) -> list[Any]:
    """Return the images of a list or an array as a list."""
    if isinstance(source, list | tuple):
        if not source:
            raise InputError("source is an empty list.")
        return list(source)
    if _is_pillow(source) or isinstance(source, bytes):
        return [source]
    if not hasattr(source, "__array__"):
        raise InputError(f"source is of type {type(source).__name__}. Allowed: {WANTED}.")
    array = np.asarray(source)
    if array.ndim == 1 and array.dtype.kind in "OU":
        return list(array.tolist())
    if array.ndim == 3 and array.shape[2] in CHANNELS and min(array.shape[:2]) > max(CHANNELS):
        return [array]
    if array.ndim not in (3, 4) or len(array) == 0:
        raise InputError(f"source is an array of shape {array.shape}. Allowed: {WANTED}.")
    if array.ndim == 4 and array.shape[3] not in CHANNELS and array.shape[1] in CHANNELS:
        array = np.moveaxis(array, 1, 3)
    return list(array)


def _items(values: Sequence[Any], base: Path) -> tuple[list[Item], list[str]]:
    """Turn each value into a file, encoded bytes or a uint8 array, or return why it is no image."""
    items: list[Item] = []
    problems: list[str] = []
    arrays: dict[int, NDArray[Any]] = {}
    for i, value in enumerate(values):
        item: Item = b""
        problem = ""
        if isinstance(value, bytes | bytearray):
            item = bytes(value)
        elif isinstance(value, str | os.PathLike):
            item = base / os.fspath(value)
            where = "" if base == Path() or item == Path(value) else f" in {str(base)!r}"
            problem = "" if item.is_file() else f"there is no such file{where}"
        elif _is_pillow(value):
            item, problem = _from_pillow(value)
        elif hasattr(value, "__array__"):
            arrays[i] = np.asarray(value)
        else:
            missing = is_missing(value)
            problem = "there is no image" if missing else f"a value of type {type(value).__name__} is no image"
        items.append(item)
        problems.append(problem)
    for i, pixels in zip(arrays, _to_bytes(list(arrays.values())), strict=True):
        items[i] = pixels
    return items, problems


def _is_pillow(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "PIL"


def _from_pillow(image: Any) -> tuple[Item, str]:
    """Return the pixels of an image of Pillow, upright as those of a file, or why it cannot be read."""
    from PIL import ImageOps

    try:
        image.load()
        with suppress(Exception):  # the pixels are sound, the metadata are damaged
            image = ImageOps.exif_transpose(image)
        return to_rgb(image), ""
    except Exception as error:  # as in windvane.data.images.checks: decoders raise whatever damaged bytes lead to
        return b"", str(error) or type(error).__name__


def _to_bytes(arrays: list[NDArray[Any]]) -> list[Pixels]:  # each (h, w, c)
    """Convert arrays to uint8, with the channels last."""
    for i, array in enumerate(arrays):
        if array.dtype.kind not in "buif" or array.ndim not in (2, 3) or array.size == 0:
            raise InputError(
                f"source[{i}] has the shape {array.shape} and type {array.dtype}. "
                "Allowed: (h, w), (h, w, c) or (c, h, w) with c = 1, 3 or 4, numbers, at least one pixel."
            )
        if array.ndim == 3 and array.shape[2] not in CHANNELS:
            if array.shape[0] not in CHANNELS:
                raise InputError(f"source[{i}] has the shape {array.shape}, but images have 1, 3 or 4 channels.")
            arrays[i] = np.moveaxis(array, 0, 2)
    factors = {
        "bytes": 1.0,
        "truth values": 255.0,
        "integers": _common_factor(arrays, "integers"),
        "fractions": _common_factor(arrays, "fractions"),
    }
    return [
        array if array.dtype == np.uint8 else np.rint(array * factors[_scale_of(array)]).astype(np.uint8)
        for array in arrays
    ]


def _scale_of(array: NDArray[Any]) -> str:
    """Name of the arrays that share the scale of one; types are not mixed, as 1 is white among fractions alone."""
    if array.dtype == np.uint8:
        return "bytes"
    return {"b": "truth values", "f": "fractions"}.get(array.dtype.kind, "integers")


def _common_factor(arrays: Sequence[NDArray[Any]], scale: str) -> float:
    """Return the factor that brings all arrays of a scale to a byte; one for all, so that dark images stay dark."""
    found = {i: (float(array.min()), float(array.max())) for i, array in enumerate(arrays) if _scale_of(array) == scale}
    if not found:
        return 1.0
    strange = next((i for i, ends in found.items() if not np.isfinite(ends).all()), None)
    if strange is not None:
        raise InputError(f"source[{strange}] has values that are NaN or infinite. Allowed: finite numbers.")
    low, high = min(ends[0] for ends in found.values()), max(ends[1] for ends in found.values())
    factor = eight_bit_factor(low, high, scale == "integers")
    if factor is None:
        raise InputError(
            f"source has values from {low:g} to {high:g}. Allowed: 0 to 1, 0 to 255, or whole numbers up to 65535."
        )
    return factor
