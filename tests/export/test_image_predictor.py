from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from windvane.export.image_model import write_image_program
from windvane.runtime.ensemble import Ensemble, Member


class Session:
    """Gives the mean of each colour as the probability of a class."""

    def run(self, names: None, inputs: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        means = inputs["images"].mean(axis=(2, 3), dtype=np.float64) + 1
        return [(means / means.sum(axis=1, keepdims=True)).astype(np.float32)]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The program as an exported folder has it, with a network that looks at colours."""
    write_image_program(tmp_path)
    content: dict[str, Any] = {"classes": ["red", "green", "blue"], "image_size": 4, "crop": "squeeze"}
    (tmp_path / "model.json").write_text(json.dumps(content))
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("image_program", tmp_path / "predictor.py")
    assert spec is not None and spec.loader is not None
    program: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    monkeypatch.setattr(program, "open_session", Session)
    yield program
    for name in [name for name in sys.modules if name.partition(".")[0] == "runtime"]:
        del sys.modules[name]


@pytest.fixture
def files(tmp_path: Path, module: Any) -> list[Path]:
    (tmp_path / "images").mkdir()
    made = []
    for i in range(module.BATCH_SIZE + 3):
        colour = [0, 0, 0]
        colour[i % 3] = 200
        made.append(tmp_path / "images" / f"{i:03}.png")
        Image.new("RGB", (9, 5), tuple(colour)).save(made[-1])
    return made


def test_the_folder_is_a_package(tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    write_image_program(tmp_path / "birds")
    words = [sys.executable, "-c", "import birds; print([getattr(birds, name).__name__ for name in birds.__all__])"]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "['predict', 'predict_proba']"


@pytest.mark.parametrize(
    "decision",
    [
        {"decision_weights": (1e-3, 1.0, 1.0), "costs": None},
        {"decision_weights": None, "costs": ((0.0, 1.0, 1.0), (5.0, 0.0, 0.1), (900.0, 1.0, 0.0))},
    ],
)
def test_labels_follow_the_decision_of_the_ensemble(
    decision: dict[str, Any], module: Any, files: list[Path], tmp_path: Path
) -> None:
    content = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**content, **decision}))
    probabilities = module.predict_proba(files)
    expected = Ensemble((Member(0, "c", "linear", 1.0),), 0.1, **decision).decision_values(probabilities).argmax(axis=1)
    assert module.predict(files).tolist() == [content["classes"][i] for i in expected]
    assert (expected != probabilities.argmax(axis=1)).any()


def test_files_are_classified_in_order(module: Any, files: list[Path]) -> None:
    wanted = [["red", "green", "blue"][i % 3] for i in range(len(files))]
    assert module.predict(files).tolist() == wanted
    assert module.predict_proba(files).shape == (len(files), 3)


def test_the_command_prints_a_table(
    module: Any, files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (files[0].parent / "more").mkdir()
    (files[0].parent / "more" / "empty.png").touch()
    monkeypatch.setattr(sys, "argv", ["predictor.py", str(files[0].parent)])
    module.main()
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "name,prediction,probability,error" and len(lines) == len(files) + 2
    assert lines[2].startswith("001.png,green,0.99") and lines[2].endswith(",")
    assert lines[-1].startswith("more/empty.png,,,") and lines[-1].endswith("empty.png cannot be read: it is empty")
    assert f"1 of {len(files) + 1} images cannot be read" in printed.err and len(printed.err.splitlines()) == 1
    monkeypatch.setattr(sys, "argv", ["predictor.py", str(files[1]), "--proba"])
    module.main()
    assert capsys.readouterr().out.startswith("name,red,green,blue\n001.png,0.00")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["missing.png"], "does not exist"),
        (["text.png"], "has no image that can be read. The first: {folder}/text.png cannot be read: it is no image"),
        (["none"], "has no image that can be read"),
        (["text.png", "--what"], "unrecognized arguments: --what"),
        ([], "required: images"),
        (["good.png"], "model.onnx is missing or damaged"),
    ],
)
def test_an_error_is_one_line(words: list[str], told: str, module: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "none").mkdir()
    (tmp_path / "model.onnx").write_bytes(b"no network")
    Image.new("RGB", (9, 5)).save(tmp_path / "good.png")
    places = [word if word.startswith("--") else str(tmp_path / word) for word in words]
    done = subprocess.run([sys.executable, module.__file__, *places], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "") and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("predictor.py: ") and told.format(folder=tmp_path) in done.stderr


def test_damaged_settings_are_one_line(module: Any, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{")
    Image.new("RGB", (9, 5)).save(tmp_path / "good.png")
    words = [sys.executable, module.__file__, str(tmp_path / "good.png")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2 and "model.json is missing or damaged" in done.stderr
    assert len(done.stderr.splitlines()) == 1
