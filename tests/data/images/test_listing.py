"""Folders as people leave them: splits or none, links, hidden files, names of every script."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from windvane.data.images import listing as image_listing
from windvane.data.images.listing import ImageListing, list_files, list_folder, natural_key, normalize_split_name
from windvane.errors import InputError


def fill(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def rows(listing: ImageListing) -> list[tuple[str, str, str]]:
    return list(zip(listing.names, listing.labels, listing.splits, strict=True))


def reasons(listing: ImageListing) -> dict[str, str]:
    return {one.name: one.reason for one in listing.skipped}


def test_classes_in_natural_order(tmp_path: Path) -> None:
    listing = list_folder(fill(tmp_path, "10/b.png", "2/img10.png", "2/img9.png", "2/deep/er/c.png", "README.md"))
    assert rows(listing) == [
        ("2/deep/er/c.png", "2", "train"),
        ("2/img9.png", "2", "train"),
        ("2/img10.png", "2", "train"),
        ("10/b.png", "10", "train"),
    ]
    assert reasons(listing) == {"README.md": "it is in no folder of a class"}
    assert listing.items[0] == tmp_path / "2/deep/er/c.png"


@pytest.mark.parametrize("valid", ["val", "valid", "Validation", "dev"])
def test_splits(valid: str, tmp_path: Path) -> None:
    fill(tmp_path, "Train/a/1.png", "Train/b/2.png", f"{valid}/a/3.png", "test/b/4.png", "test/5.png", "extra/6.png")
    listing = list_folder(tmp_path)
    assert {(label, part) for _, label, part in rows(listing)} == {
        ("a", "train"),
        ("b", "train"),
        ("a", "valid"),
        ("b", "test"),
    }
    assert reasons(listing)["test/5.png"] == "it is in no folder of a class"
    assert "no split" in reasons(listing)["extra"]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    listing = list_folder(fill(tmp_path, "train/1.png", "bus/2.png", "test/3.png"))
    assert {label for _, label, _ in rows(listing)} == {"train", "bus", "test"}
    assert set(listing.splits) == {"train"}


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, "a/.DS_Store", "a/._1.png", "a/1.png", ".git/x/2.png", "__MACOSX/a/3.png", "b/4.png")
    listing = list_folder(tmp_path)
    assert listing.names == ["a/1.png", "b/4.png"]
    assert listing.skipped == []


def test_empty_classes_are_named(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "c").mkdir()
    assert list_folder(tmp_path).empty == ["c"]


def test_links_in_circles_and_to_nowhere(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/2.png", "b/more/3.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "b" / "more" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b" / "gone.png").symlink_to(tmp_path / "nothing.png")
    (tmp_path / "c").symlink_to(tmp_path / "b" / "more", target_is_directory=True)
    listing = list_folder(tmp_path)
    assert listing.names.count("a/1.png") == 1
    assert ("c/3.png", "c", "train") in rows(listing)
    found = reasons(listing)
    assert found["a/again"] == "it is a link to a folder that it is in"
    assert found["b/gone.png"] == "it is a link that leads nowhere"
    assert len(listing.items) < 20


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    listing = list_folder(tmp_path)
    assert listing.names == ["a/1.png"]
    assert reasons(listing) == {"a/pipe.png": "it is neither a file nor a folder"}


def test_names_of_every_script(tmp_path: Path) -> None:
    fill(tmp_path, "train/caf\u00e9/\u732b.png", "train/\u72ac/1.png", "test/cafe\u0301/2.png")
    listing = list_folder(tmp_path)
    assert listing.labels.count("caf\u00e9") == 2  # composed or not, it is the same class
    assert "train/caf\u00e9/\u732b.png" in listing.names


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/a"
    os.mkdir(folder)
    try:
        with open(folder + b"/\xff.png", "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes names of text alone")
    assert list_folder(tmp_path).names == ["a/\ufffd.png"]


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a/1.png", "b/2.png")
    listdir = os.listdir

    def refuse(folder: Path) -> list[str]:
        if folder.name == "b":
            raise PermissionError(13, "Permission denied")
        return listdir(folder)

    monkeypatch.setattr(image_listing.os, "listdir", refuse)  # who runs tests as root may read everything
    listing = list_folder(tmp_path)
    assert listing.names == ["a/1.png"]
    assert reasons(listing) == {"b": "permission denied"}
    assert listing.empty == ["b"]


def test_all_files_without_labels(tmp_path: Path) -> None:
    listing = list_files(fill(tmp_path, "x.png", "deep/y.png", ".hidden.png"))
    assert listing.names == ["deep/y.png", "x.png"]
    assert listing.labels == [None, None]


def test_natural_key() -> None:
    names = ["b", "a10", "A2", "a2", "1", "\u00b2", "01", "", "a"]
    ordered = sorted(names, key=natural_key)
    assert ordered.index("a2") < ordered.index("a10")
    assert ordered.index("1") < ordered.index("a") < ordered.index("b")
    assert ordered[:2] == ["", "01"] or ordered[:2] == ["", "1"]


def test_part_of() -> None:
    assert normalize_split_name(" Validation", "here") == "valid"
    with pytest.raises(InputError, match="'extra' is here, but is no split"):
        normalize_split_name("extra", "here")
