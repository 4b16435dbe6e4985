"""A folder with one run of each kind, served in process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import HOSTILE_LABEL

from windvane import AutoClassifier, AutoRegressor
from windvane.pages.html_builder import Page, write_page

sys.path.insert(0, str(Path(__file__).resolve().parent))  # served.py

from served import ORIGIN, rows, write_network
from starlette.testclient import TestClient

from windvane.serve.app import create_app

SETTINGS = {"families": ["linear"], "n_trials": 1, "n_jobs": 1, "random_state": 0, "verbose": 0}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs "classes", "number" and "running", a saved model, a network, damaged ones, and links out of the folder."""
    outside = tmp_path_factory.mktemp("outside")
    root = tmp_path_factory.mktemp("served") / "runs"
    root.mkdir()
    X = rows()
    y = np.where(X["size"] + (X["colour"] == "red") > 0.5, HOSTILE_LABEL, "good")
    classifier: Any = AutoClassifier(run_dir=root / "classes", **SETTINGS)  # type: ignore[arg-type]
    classifier.fit(X, y, X_test=X[:20], y_test=y[:20])
    classifier.save(root / "saved model?")
    regressor: Any = AutoRegressor(run_dir=root / "number", **SETTINGS)  # type: ignore[arg-type]
    regressor.fit(X[["size", "colour"]].to_numpy(dtype=object), X["size"] * 3 + 1)
    for name in ("running", "waiting"):
        shutil.copytree(root / "classes", root / name)
        (root / name / "ensemble.json").unlink()
        (root / name / "lock").write_text(str(os.getpid()))  # this process lives
    (root / "waiting" / "history.jsonl").unlink()
    write_network(root / "network")
    (root / "damaged").mkdir()
    (root / "damaged" / "manifest.json").write_text('{"format": ')
    (root / "empty").mkdir()
    shutil.copytree(root / "classes", outside / "secret")
    (root / "link").symlink_to(outside / "secret", target_is_directory=True)
    (outside / "secret.html").write_text('<meta name="generator" content="windvane 1">secret')
    (root / "link.html").symlink_to(outside / "secret.html")
    (root / "foreign.html").write_text("<p>of somebody else</p>")
    write_page(Page("windvane: two networks", [], []), root / "inspect.html")
    return root


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(folder), base_url=ORIGIN, follow_redirects=False) as opened:
        yield opened
