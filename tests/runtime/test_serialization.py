from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from windvane.errors import InputError, ModelFileError
from windvane.runtime.serialization import (
    digest,
    new_folder,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)


def test_json_and_arrays_come_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, None, 0.1, "ä"], "b": float("inf")})
    assert read_json(tmp_path / "a.json") == {"a": [1, None, 0.1, "ä"], "b": float("inf")}
    arrays = {"x": np.arange(3), "y": np.array([[True, False]])}
    write_arrays(tmp_path / "a.npz", arrays)
    found = read_arrays(tmp_path / "a.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("read", [read_json, read_arrays])
@pytest.mark.parametrize("content", [None, b"", b"nothing of the kind", b"[1]", b"PK\x03\x04", b"\xff\xfe" * 40])
def test_what_cannot_be_read_is_one_error(read: object, content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFileError, match="file"):
        read(path)  # type: ignore[operator]


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ModelFileError):
        read_arrays(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="allow_pickle"):
        write_arrays(tmp_path / "b.npz", {"a": np.array([{}], dtype=object)})


def test_digest_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError):
        digest(tmp_path / "nothing")


def test_a_new_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / "a", "path") as making:
        (making / "file").touch()
        assert not (tmp_path / "deep" / "a").exists()
    assert [path.name for path in (tmp_path / "deep").rglob("*")] == ["a", "file"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(KeyError), new_folder(tmp_path / "empty", "path") as making:
        (making / "file").touch()
        raise KeyError
    assert not any((tmp_path / "empty").iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"deep", "empty"}
    for taken in (tmp_path / "deep", tmp_path / "deep" / "a" / "file"):
        with pytest.raises(InputError, match=r"folder=.*exists and is not empty"), new_folder(taken, "folder"):
            raise AssertionError("nothing is written over")
