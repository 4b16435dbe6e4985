"""Few functions stand between a public call and the library that does the work: which ones, for three calls."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import torch
from pictures import digits, tiny_recipe
from sklearn.datasets import load_iris
from torch import nn

import windvane
from windvane import AutoClassifier
from windvane.inspect import compare
from windvane.inspect.similarity import gram
from windvane.models.boosting.lightgbm import LightGBM
from windvane.search.workers.pool import WorkerProcess
from windvane.vision import train

PACKAGE = str(Path(windvane.__file__).parent)
COMPREHENSIONS = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}  # frames of some Pythons alone


def functions(stack: list[tuple[str, str]]) -> list[str]:
    """Names of the package's functions in a stack of files and functions, the outermost first."""
    return [name for file, name in stack if file.startswith(PACKAGE) and name not in COMPREHENSIONS]


def record(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[tuple[list[str], tuple[Any, ...]]]:
    """Return the list to which each call of a function adds who called it, and the arguments."""
    calls = []
    original: Callable[..., Any] = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        stack = [(one.filename, one.name) for one in traceback.extract_stack()]
        calls.append((functions(stack), args))
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)
    return calls


def test_from_fit_and_predict_to_lightgbm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Recording(LightGBM):
        """LightGBM that writes who calls `lightgbm.train`; made here, so that workers need not import this file."""

        name = "recording"

        def __init__(self, file: str) -> None:
            self.file = file

        def create_model(self, *arguments: Any) -> Any:
            import json
            import traceback

            import lightgbm

            original = lightgbm.train

            def call(*args: Any, **kwargs: Any) -> Any:
                lightgbm.train = original
                with open(self.file, "w", encoding="utf-8") as file:
                    json.dump([(one.filename, one.name) for one in traceback.extract_stack()], file)
                return original(*args, **kwargs)

            lightgbm.train = call
            return super().create_model(*arguments)

    X, y = load_iris(return_X_y=True)
    sent, stack = record(monkeypatch, WorkerProcess, "send"), tmp_path / "stack.json"
    options = {"policy": "holdout", "n_trials": 1, "n_jobs": 1, "random_state": 0, "verbose": 0}
    model = AutoClassifier(families=[Recording(str(stack))], **options).fit(X, y)
    assert next(found for found, (_, message) in sent if message["do"] == "train") == ["fit", "_fit", "run", "submit"]
    assert functions(json.loads(stack.read_text())) == [
        "main",
        "train_trial",
        "train_side_by_side",
        "train_until",
        "_train_iterations",
    ]

    predicted = record(monkeypatch, lightgbm.Booster, "predict")
    model.predict(X[:5])
    raw = ["predict_raw", "predict_raw"]  # the second has no images, and is in exported folders
    assert predicted[0][0] == ["predict", "predict_table", *raw, "blend", "_average", "predict"]


def test_from_train_to_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = record(monkeypatch, torch.Tensor, "backward")
    train(tiny_recipe(steps=1), digits(64, 8), device="cpu", quiet=True)
    assert [found for found, _ in calls] == [["train", "run_training"]]


def test_from_compare_to_the_product_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = record(monkeypatch, gram, "_block_product")
    compare(nn.Linear(3, 4), nn.Linear(3, 2), np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32))
    read = ["compare", "read_steps", "_read_layers", "observe", "on_exit", "on_output"]
    assert calls[0][0] == [*read, "summarize", "centered_gram", "_sum_blocks"]
