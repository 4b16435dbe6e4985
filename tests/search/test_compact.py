"""A compact run predicts, reports and resumes as before."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from shell import shell
from sklearn.datasets import load_breast_cancer
from sklearn.tree import DecisionTreeClassifier

from windvane import AutoClassifier, RunError, load
from windvane.runtime.models.trees import FittedForest, TreeArrays
from windvane.runtime.serialization import file_digests, read_json, read_sealed, seal
from windvane.search.run.compact import size_of
from windvane.search.run.run_directory import RunDirectory

X, y = (part.iloc[::4] for part in load_breast_cancer(return_X_y=True, as_frame=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run whose ensemble has one trial of two, which could be trained further."""
    settings = {"n_jobs": 1, "n_trials": 2, "families": ["extra_trees"], "ensemble_size": 1}
    run = tmp_path_factory.mktemp("runs") / "run"
    model = AutoClassifier(300, policy="cv3", random_state=0, verbose=0, run_dir=run, **settings).fit(X, y)
    (member,) = model.predictor_.ensemble.members
    checkpoint = RunDirectory(run).checkpoint(member.number, member.checkpoint)
    for fold in checkpoint.glob("fold_*"):
        progress = {**read_json(fold / "training.json"), "finished": False}
        (fold / "training.json").write_text(json.dumps(progress))
        (fold / "training.state").write_bytes(bytes(100_000))
    record = {**read_sealed(checkpoint / "trial.json"), "files": file_digests(checkpoint, ["trial.json"])}
    (checkpoint / "trial.json").write_text(json.dumps(seal(record)))
    return run


@pytest.fixture
def run(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "run"))


def test_the_ensemble_stays(run, tmp_path):
    model = load(run)
    expected, board = model.predict_proba(X), model.leaderboard()
    (member,) = model.predictor_.ensemble.members
    before, after = model.compact()
    assert before == size_of(run) + before - after
    assert after < before - 3 * 100_000
    assert [folder.name for folder in (run / "trials").iterdir()] == [f"{member.number:05d}"]
    assert not list(run.rglob("training.state"))
    assert not list(run.rglob("temporary*"))
    for same in (model, load(run)):
        assert (same.predict_proba(X) == expected).all()
        assert same.leaderboard().equals(board)
    assert "ROC AUC" in model.report(tmp_path / "page.html").read_text()
    model.save(tmp_path / "saved")
    assert (load(tmp_path / "saved").predict_proba(X) == expected).all()
    assert model.compact() == (after, after)


def test_trees_that_are_not_read_go(tmp_path):
    """Of 13 forests that are averaged each is read up to 10 trees, which are in its first two portions."""
    tree = DecisionTreeClassifier(max_depth=2).fit(X, y).tree_
    for i, size in enumerate((8, 8, 4)):
        TreeArrays.of([tree] * size).write(tmp_path / f"trees_{i}.npz")
    (tmp_path / "model.json").write_text(json.dumps({"kind": "forest", "parts": 3}))
    FittedForest.drop_unread(tmp_path, 13)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "trees_0.npz", "trees_1.npz"]
    assert read_json(tmp_path / "model.json") == {"kind": "forest", "parts": 2}


def test_new_trials_join_those_that_are_left(run):
    model = load(run)
    model.compact()
    loss = model.predictor_.ensemble.loss
    model.set_params(verbose=0, n_jobs=1).resume(300, n_trials=2)
    assert len(model.trials_) == 4
    assert model.predictor_.ensemble.loss <= loss
    assert np.isfinite(model.predict_proba(X)).all()


def test_shell(run):
    done = shell("compact", run)
    assert (done.exit_code, "MB before" in done.stdout) == (0, True)
    done = shell("compact", run.parent)
    assert (done.exit_code, "holds no run" in done.stderr) == (2, True)


def test_what_cannot_be_made_smaller(run, tmp_path):
    model = load(run)
    model.save(tmp_path / "saved")
    with pytest.raises(RunError, match="no run to make smaller"):
        load(tmp_path / "saved").compact()
    directory = RunDirectory(run)
    directory.lock()
    with pytest.raises(RunError, match="in use"):
        model.compact()
    directory.unlock()
    (run / "ensemble.json").unlink()
    with pytest.raises(RunError, match="no whole ensemble: resume it"):
        load(run).compact()
