"""What runs on a Dask worker, as far as it needs none; test_dask_pool.py shows the rest."""

from __future__ import annotations

import gc
import io
import pickle
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from windvane.packing import pack_folder, unpack_folder
from windvane.search.run import checkpoint
from windvane.search.run.checkpoint import pack_checkpoint
from windvane.search.trial import Trial
from windvane.search.workers.dask_task import RunData, TrialTask, _local_context, _memory, check_worker
from windvane.search.workers.messages import RunContext
from windvane.settings import available_memory
from windvane.version import VERSION


def make_task(root: Path, memory: float | None = 500.0) -> TrialTask:
    context = RunContext(root, "objects")
    return TrialTask(context, Trial(3, "toy", {}, "portfolio", 0), 1.0, 0.5, memory, "events")


def make_worker(folder: Path, limit: float | None = None, nthreads: int = 2) -> SimpleNamespace:
    return SimpleNamespace(
        local_directory=str(folder),
        address="tcp://here",
        memory_manager=SimpleNamespace(memory_limit=limit),
        state=SimpleNamespace(nthreads=nthreads),
    )


def make_folder(folder: Path) -> Path:
    (folder / "fold_0").mkdir(parents=True)
    (folder / "fold_1").mkdir()  # a model without files
    (folder / "valid.npy").write_bytes(b"\x00\x01")
    (folder / "fold_0" / "state.json").write_text("{}")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_packed_and_unpacked(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "checkpoint_0000")
    unpack_folder(pack_folder(folder), tmp_path / "new" / "checkpoint_0000")
    assert files(tmp_path / "new" / "checkpoint_0000") == files(folder)
    assert (tmp_path / "new" / "checkpoint_0000" / "fold_1").is_dir()


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("../outside", "")
        packed.writestr(f"{tmp_path}/absolute", "")
    unpack_folder(archive.getvalue(), tmp_path / "inside")
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


def test_data_are_unpacked_once_and_go_with_their_object(tmp_path: Path) -> None:
    data = pickle.loads(pickle.dumps(RunData(pack_folder(make_folder(tmp_path / "data")))))
    (tmp_path / "scratch").mkdir()
    root = data.root(str(tmp_path / "scratch"))
    assert data.root(str(tmp_path / "scratch")) == root
    assert files(root / "data") == files(tmp_path / "data")
    del data
    gc.collect()
    assert not list((tmp_path / "scratch").iterdir())


def test_a_context_without_the_run_directory_has_a_folder_of_its_own(tmp_path: Path) -> None:
    data, step = RunData(pack_folder(make_folder(tmp_path / "data"))), pack_folder(make_folder(tmp_path / "step"))
    with _local_context(make_task(tmp_path / "far"), data, ("checkpoint_0004", step), make_worker(tmp_path)) as context:
        assert context.root != tmp_path / "far"
        assert files(context.root / "data") == files(tmp_path / "data")
        assert files(context.root / "trials" / "00003" / "checkpoint_0004") == files(tmp_path / "step")
        assert context.objects == "objects"
    assert not context.root.exists()
    assert (data.root(str(tmp_path)) / "data" / "valid.npy").exists()


def test_a_shared_run_directory_is_used_as_it_is(tmp_path: Path) -> None:
    with _local_context(make_task(tmp_path), None, None, make_worker(tmp_path)) as context:
        assert context.root == tmp_path
    with (
        pytest.raises(FileNotFoundError, match="tcp://here does not see the run directory"),
        _local_context(make_task(tmp_path / "gone"), None, None, make_worker(tmp_path)),
    ):
        pass


def test_each_program_has_its_part_of_the_memory(tmp_path: Path) -> None:
    task, megabyte = make_task(tmp_path, None), 2**20
    assert _memory(make_task(tmp_path, 700.0), make_worker(tmp_path)) == 700.0
    assert _memory(task, make_worker(tmp_path, 100 * megabyte)) == pytest.approx(0.8 * 100 / 2)
    assert _memory(task, make_worker(tmp_path, nthreads=1)) == pytest.approx(0.8 * available_memory(), rel=0.2)


def test_a_greeting_tells_version_and_sight(tmp_path: Path) -> None:
    assert check_worker(str(tmp_path)) == (VERSION, True)
    assert check_worker(str(tmp_path / "gone")) == (VERSION, False)


def test_a_step_that_a_later_one_replaces_while_it_is_packed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_folder(tmp_path / "checkpoint_0000")
    whole = pack_checkpoint(tmp_path, "checkpoint_0000")
    assert whole is not None
    unpack_folder(whole, tmp_path / "copy")
    assert files(tmp_path / "copy") == files(first)
    assert pack_checkpoint(tmp_path, "checkpoint_0001") is None

    def pack_late(folder: Path) -> bytes:
        make_folder(tmp_path / "checkpoint_0001")
        (folder / "valid.npy").unlink()  # what is packed may lack any file from here on
        return pack_folder(folder)

    monkeypatch.setattr(checkpoint, "pack_folder", pack_late)
    assert pack_checkpoint(tmp_path, "checkpoint_0000") is None
