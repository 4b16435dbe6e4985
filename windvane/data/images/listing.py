"""Folders of images: a sub-folder for each class, with or without train, valid and test above; or any images below one.

Links are followed, never in a circle. Hidden files are ignored; all others are taken for images until decoding them
fails. What belongs nowhere is named.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from windvane.errors import InputError
from windvane.runtime.images import Item

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Skipped:
    """An image, or a folder, that was left out."""

    name: str
    reason: str  # in words


@dataclass
class ImageListing:
    """Images as found."""

    items: list[Item] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)  # as given; None without a label
    splits: list[str] = field(default_factory=list)  # "train", "valid" or "test"
    problems: list[str] = field(default_factory=list)  # why there is no image; mostly empty
    table: pd.DataFrame | None = None  # the table that lists them, if any: a row for each image
    skipped: list[Skipped] = field(default_factory=list)  # no image, or in no class
    empty: list[str] = field(default_factory=list)  # classes without an image

    def add(self, item: Item, name: str, label: Any = None, split: str = "train", problem: str = "") -> None:
        """Add an image."""
        self.items.append(item)
        self.names.append(name)
        self.labels.append(label)
        self.splits.append(split)
        self.problems.append(problem)

    def extend(self, other: ImageListing, split: str) -> None:
        """Add the images of another listing to a split."""
        rows = zip(other.items, other.names, other.labels, other.problems, strict=True)
        for item, name, label, problem in rows:
            self.add(item, f"{split}/{name}", label, split, problem)
        self.skipped += [Skipped(f"{split}/{one.name}", one.reason) for one in other.skipped]
        self.empty += other.empty

    def left_out(self, problems: Sequence[str]) -> list[Skipped]:
        """Return the images that have a problem, and what was skipped before."""
        return [Skipped(*pair) for pair in zip(self.names, problems, strict=True) if pair[1]] + self.skipped


def normalize_split_name(name: Any, where: str) -> str:
    """Return "train", "valid" or "test" for a name such as "Validation"; `where` it was found is for errors."""
    split = SPLITS.get(str(name).strip().lower())
    if split is None:
        raise InputError(f"{name!r} is {where}, but is no split of the data. Allowed: {', '.join(SPLITS)}.")
    return split


def natural_key(name: str) -> tuple[Any, ...]:
    """Sort key of names in natural order: class 2 before class 10."""
    words = re.split(r"(\d+)", name.casefold())
    return (*((0, int(word), "") if word.isdecimal() else (1, 0, word) for word in words if word), (-1, 0, name))


def list_folder(root: Path) -> ImageListing:
    """List a folder of classes, or of splits with classes, in natural order of names."""
    # There are splits if a sub-folder named train has sub-folders. Labels are the names of the folders below.
    listing = ImageListing()
    children = _children(root, listing, root)
    splits = {child: SPLITS[child.name.lower()] for child in children if child.name.lower() in SPLITS}
    training = [child for child, split in splits.items() if split == "train"]
    if not any(below.is_dir() for child in training for below in _children(child, ImageListing(), root)):
        _list_classes(root, "train", listing, root)
        return listing
    for child in children:
        if child in splits:
            _list_classes(child, splits[child], listing, root)
        else:
            reason = f"it stands beside {next(iter(splits)).name}, but is no split (train, val or test)"
            listing.skipped.append(Skipped(_shown(child, root), reason))
    return listing


def _list_classes(folder: Path, split: str, listing: ImageListing, root: Path) -> None:
    for child in _children(folder, listing, root):
        if not child.is_dir():
            listing.skipped.append(Skipped(_shown(child, root), "it is in no folder of a class"))
            continue
        label = unicodedata.normalize("NFC", _readable(child.name))  # macOS and Linux write é differently
        before = len(listing.items)
        _walk(child, frozenset(map(_identity, {root, folder})), (label, split), listing, root)
        if len(listing.items) == before:
            listing.empty.append(f"{split}/{label}" if folder != root else label)


def list_files(root: Path) -> ImageListing:
    """List all images below a folder, without labels, in natural order of names."""
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
    """Return what identifies a folder, whatever links lead to it."""
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
    """Replace the bytes of a name that are no text."""
    return os.fsencode(name).decode("utf-8", "replace")
