"""A compact run predicts, reports and resumes as before."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from typer.testing import CliRunner

from windvane import AutoClassifier, RunError, load
from windvane.cli import app
from windvane.runtime.serialization import file_digests, read_arrays, read_json, read_sealed, seal
from windvane.search.run.compact import size_of
from windvane.search.run.run_directory import RunDirectory

X, y = (part.iloc[::4] for part in load_breast_cancer(return_X_y=True, as_frame=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run whose ensemble has one trial of two, which could be trained further."""
    settings = {"n_jobs": 1, "n_trials": 2, "families": ["extra_trees"], "ensemble_size": 1}
    run = tmp_path_factory.mktemp("runs") / "run"
    model = AutoClassifier(300, policy="cv10", random_state=0, verbose=0, run_dir=run, **settings).fit(X, y)
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
    fold = model.predictor_.folders[0][0]
    n_trees = sum(len(read_arrays(file)["sizes"]) for file in fold.glob("trees_*.npz"))
    before, after = model.compact()
    assert before == size_of(run) + before - after
    assert after < before - 10 * 100_000
    assert [folder.name for folder in (run / "trials").iterdir()] == [f"{member.number:05d}"]
    assert not list(run.rglob("training.state"))
    assert not list(run.rglob("temporary*"))
    for fold in run.glob("trials/*/*/fold_*"):  # trees that are averaged, and no portion of others
        sizes = [len(read_arrays(file)["sizes"]) for file in sorted(fold.glob("trees_*.npz"))]
        assert sum(sizes[:-1]) < -(-128 // 10)
    assert sum(sizes) < n_trees
    for same in (model, load(run)):
        assert (same.predict_proba(X) == expected).all()
        assert same.leaderboard().equals(board)
    assert "ROC AUC" in model.report(tmp_path / "page.html").read_text()
    model.save(tmp_path / "saved")
    assert (load(tmp_path / "saved").predict_proba(X) == expected).all()
    assert model.compact() == (after, after)


def test_new_trials_join_those_that_are_left(run):
    model = load(run)
    model.compact()
    loss = model.predictor_.ensemble.loss
    model.set_params(verbose=0, n_jobs=1).resume(300, n_trials=2)
    assert len(model.trials_) == 4
    assert model.predictor_.ensemble.loss <= loss
    assert np.isfinite(model.predict_proba(X)).all()


def test_shell(run):
    done = CliRunner().invoke(app, ["compact", str(run)])
    assert (done.exit_code, "MB before" in done.stdout) == (0, True)
    done = CliRunner().invoke(app, ["compact", str(run.parent)])
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
