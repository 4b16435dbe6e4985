"""Folders of images: a sub-folder for each class, with or without train, valid and test above; or any images below one.

Links are followed, never in a circle. Hidden files are passed over; all others are taken for images until a look at
them says otherwise. What belongs nowhere is named.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from windvane.data.images.decode import Item
from windvane.errors import InputError

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Skipped:
    """An image, or a folder, that was left out.

    Attributes
    ----------
    name
        What it is called.
    reason
        Why, in words.
    """

    name: str
    reason: str


@dataclass
class ImageListing:
    """Images as found.

    Attributes
    ----------
    items, names, labels, parts, problems
        One for each image. A label is as given; None where there is none. A part is "train", "valid" or "test".
        A problem says why there is no image; mostly it is empty.
    table
        The table they stood in, if any: a row for each image.
    skipped
        What was found and is no image, or belongs nowhere.
    empty
        Classes without an image.
    """

    items: list[Item] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    table: pd.DataFrame | None = None
    skipped: list[Skipped] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def add(self, item: Item, name: str, label: Any = None, part: str = "train", problem: str = "") -> None:
        """Add an image."""
        self.items.append(item)
        self.names.append(name)
        self.labels.append(label)
        self.parts.append(part)
        self.problems.append(problem)

    def extend(self, other: ImageListing, part: str) -> None:
        """Add the images of another listing to a part."""
        rows = zip(other.items, other.names, other.labels, other.problems, strict=True)
        for item, name, label, problem in rows:
            self.add(item, f"{part}/{name}", label, part, problem)
        self.skipped += [Skipped(f"{part}/{one.name}", one.reason) for one in other.skipped]
        self.empty += other.empty


def normalize_split_name(name: Any, where: str) -> str:
    """Bring the name of a part to one of three.

    Parameters
    ----------
    name
        As in "Validation".
    where
        It was found, for the error.

    Returns
    -------
    str
        "train", "valid" or "test".

    Raises
    ------
    InputError
        Where it is no such name.
    """
    part = PARTS.get(str(name).strip().lower())
    if part is None:
        raise InputError(f"{name!r} is {where}, but is no part of the data. Allowed: {', '.join(PARTS)}.")
    return part


def natural_key(name: str) -> tuple[Any, ...]:
    """Sort names as people do: class 2 before class 10."""
    words = re.split(r"(\d+)", name.casefold())
    return (*((0, int(word), "") if word.isdecimal() else (1, 0, word) for word in words if word), (-1, 0, name))


def list_folder(root: Path) -> ImageListing:
    """List a folder of classes, or of parts with classes.

    Parameters
    ----------
    root
        A folder. It has parts where a sub-folder of the name train has sub-folders.

    Returns
    -------
    Listing
        In natural order of names; labels are the names of the folders below the root or the part.
    """
    listing = ImageListing()
    folders = _children(root, listing, root)
    parts = {child: PARTS[child.name.lower()] for child in folders if child.name.lower() in PARTS}
    if any(
        part == "train" and any(map(Path.is_dir, _children(child, ImageListing(), root)))
        for child, part in parts.items()
    ):
        for child in folders:
            if child in parts:
                _list_classes(child, parts[child], listing, root)
            else:
                reason = f"it stands beside {next(iter(parts)).name}, but is no part (train, val or test)"
                listing.skipped.append(Skipped(_shown(child, root), reason))
    else:
        _list_classes(root, "train", listing, root)
    return listing


def _list_classes(folder: Path, part: str, listing: ImageListing, root: Path) -> None:
    for child in _children(folder, listing, root):
        if not child.is_dir():
            listing.skipped.append(Skipped(_shown(child, root), "it is in no folder of a class"))
            continue
        label = unicodedata.normalize("NFC", _readable(child.name))  # macOS and Linux write é differently
        before = len(listing.items)
        _walk(child, frozenset(map(_identity, {root, folder})), (label, part), listing, root)
        if len(listing.items) == before:
            listing.empty.append(f"{part}/{label}" if folder != root else label)


def list_files(root: Path) -> ImageListing:
    """List all images below a folder, without labels.

    Parameters
    ----------
    root
        A folder.

    Returns
    -------
    Listing
        In natural order of names.
    """
    listing = ImageListing()
    _walk(root, frozenset(), (None, "train"), listing, root)
    return listing


def _walk(
    folder: Path, above: frozenset[tuple[int, int]], kind: tuple[str | None, str], listing: ImageListing, root: Path
) -> None:
    """Add all files below a folder; links are followed, but never in a circle."""
    here = _identity(folder)
    if here in above:
        listing.skipped.append(Skipped(_shown(folder, root), "it is a link to a folder that it is in"))
        return
    for child in _children(folder, listing, root):
        if child.is_dir():
            _walk(child, above | {here}, kind, listing, root)
        else:
            listing.add(child, _shown(child, root), *kind)


def _identity(folder: Path) -> tuple[int, int]:
    """Tell a folder from all others, by whatever links it is reached."""
    facts = folder.stat()
    return facts.st_dev, facts.st_ino


def _children(folder: Path, listing: ImageListing, root: Path) -> list[Path]:
    """List the files and folders in a folder in natural order, without hidden ones."""
    try:
        names = [name for name in os.listdir(folder) if not name.startswith((".", "__MACOSX"))]
    except OSError as error:
        listing.skipped.append(Skipped(_shown(folder, root), (error.strerror or str(error)).lower()))
        return []
    children = []
    for name in sorted(names, key=natural_key):
        child = folder / name
        try:
            mode = child.stat().st_mode
        except OSError as error:
            reason = "it is a link that leads nowhere" if child.is_symlink() else (error.strerror or str(error)).lower()
            listing.skipped.append(Skipped(_shown(child, root), reason))
            continue
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            children.append(child)
        else:  # a pipe would be waited for
            listing.skipped.append(Skipped(_shown(child, root), "it is neither a file nor a folder"))
    return children


def _shown(path: Path, root: Path) -> str:
    return _readable(path.relative_to(root).as_posix()) if path != root else _readable(path.name)


def _readable(name: str) -> str:
    """Replace bytes of a name that are no text."""
    return os.fsencode(name).decode("utf-8", "replace")
