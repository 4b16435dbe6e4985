"""Saved models: whole or refused, and nothing in them is executed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.naive_bayes import GaussianNB

import windvane
from windvane import AutoClassifier, ModelFileError, RunError, load
from windvane.errors import VersionError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three families."""
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = AutoClassifier(
        n_trials=3, n_jobs=2, random_state=0, verbose=0, policy="cv3", families=["linear", "extra_trees", "lightgbm"]
    ).fit(X, y)
    path = tmp_path_factory.mktemp("saved") / "model"
    model.save(path)
    return path


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def test_no_file_is_a_pickle(saved: Path) -> None:
    files = [file for file in saved.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".json", ".npz", ".txt", ".cbm", ""}
    for file in files:
        with pytest.raises((pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, UnicodeDecodeError)):
            pickle.loads(file.read_bytes())


def test_one_changed_byte_anywhere_is_found(saved: Path, tmp_path: Path) -> None:
    names = [f.relative_to(saved) for f in saved.rglob("*") if f.is_file() and f.name != "manifest.json"]
    for i, name in enumerate(names[:: max(1, len(names) // 8)]):
        damaged = Path(shutil.copytree(saved, tmp_path / str(i)))
        content = bytearray((damaged / name).read_bytes())
        content[len(content) // 2] ^= 1
        (damaged / name).write_bytes(content)
        with pytest.raises(ModelFileError, match="damaged"):
            load(damaged)


def test_a_missing_or_added_file_is_found(copy: Path) -> None:
    (copy / "extra.txt").write_text("hello")
    with pytest.raises(ModelFileError, match=r"extra\.txt"):
        load(copy)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 1}', "null"])
def test_a_damaged_manifest_is_refused(copy: Path, content: str) -> None:
    (copy / "manifest.json").write_text(content)
    with pytest.raises((RunError, ModelFileError)):
        load(copy)


def test_another_format_names_both_versions(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "format": 99, "windvane": "9.9"}))
    with pytest.raises(VersionError, match=rf"9\.9.*{windvane.__version__}"):
        load(copy)


def test_a_poisoned_encoder_with_the_right_hash_is_not_executed(tmp_path: Path) -> None:
    X, y = load_iris(return_X_y=True, as_frame=True)
    copy = tmp_path / "model"
    AutoClassifier(n_trials=1, n_jobs=1, random_state=0, verbose=0, families=["linear"]).fit(X, y).save(copy)

    class Poison:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    poisoned = next(copy.rglob("encoder.npz"))
    with poisoned.open("wb") as file:
        np.savez(file, allow_pickle=True, tree=np.array([Poison()], dtype=object))
    manifest = json.loads((copy / "manifest.json").read_text())
    name = poisoned.relative_to(copy).as_posix()
    manifest["files"][name] = hashlib.sha256(poisoned.read_bytes()).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelFileError):
        load(copy)
    assert not (tmp_path / "executed").exists()


def test_a_folder_that_is_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run and no saved model"):
        load(tmp_path)


def test_the_copy_predicts_the_same(copy: Path, saved: Path) -> None:
    X, _ = load_iris(return_X_y=True, as_frame=True)
    np.testing.assert_array_equal(load(copy).predict_proba(X), load(saved).predict_proba(X))


def test_an_exported_folder_is_a_saved_model_with_a_program(saved: Path, tmp_path: Path) -> None:
    X, _ = load_iris(return_X_y=True, as_frame=True)
    model = load(saved)
    model.export(tmp_path / "out")
    again = load(tmp_path / "out")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    written = [
        {path.relative_to(folder) for path in folder.rglob("members/**/*") if path.is_file()}
        for folder in (saved, tmp_path / "out")
    ]
    assert written[0] == written[1] and not any(path.name.startswith("training") for path in written[0])


def test_a_run_opens_without_an_estimator_that_is_not_in_its_ensemble(tmp_path: Path) -> None:
    X, y = load_iris(return_X_y=True, as_frame=True)
    run = tmp_path / "run"
    families = [DummyClassifier(), "linear"]
    AutoClassifier(
        families=families, n_trials=2, n_jobs=1, random_state=0, verbose=0, ensemble_size=1, run_dir=run
    ).fit(X, y)
    model = load(run)
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict_proba(X), model.predict_proba(X))
    assert model.leaderboard(X, y).set_index("family")["test_score"].notna()["linear"]
    with pytest.raises(RunError, match="own families \\['dummy_classifier'\\]: load"):
        model.resume("1s")


def test_an_estimator_of_the_session_comes_back_with_the_session(tmp_path: Path) -> None:
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = AutoClassifier(n_trials=2, n_jobs=1, random_state=0, verbose=0, families=[GaussianNB()]).fit(X, y)
    model.save(tmp_path / "model")
    with pytest.raises(ModelFileError, match="'gaussian_nb', which is not part of windvane"):
        load(tmp_path / "model")
    again = load(tmp_path / "model", families=[GaussianNB()])
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    model.export(tmp_path / "out")
    plain = model.to_sklearn()
    np.testing.assert_allclose(plain.predict_proba(X), model.predict_proba(X), rtol=1e-12, atol=1e-12)
