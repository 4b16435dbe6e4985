from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from windvane.export import image_predictor as module


class Session:
    """Gives the mean of each colour as the probability of a class."""

    def run(self, names: None, inputs: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        means = inputs["images"].mean(axis=(2, 3), dtype=np.float64) + 1
        return [(means / means.sum(axis=1, keepdims=True)).astype(np.float32)]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    content: dict[str, Any] = {"classes": ["red", "green", "blue"], "image_size": 4, "crop": "squeeze"}
    (tmp_path / "model.json").write_text(json.dumps(content))
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "open_session", Session)
    module.read_settings.cache_clear()
    (tmp_path / "images").mkdir()
    made = []
    for i in range(module.BATCH_SIZE + 3):
        colour = [0, 0, 0]
        colour[i % 3] = 200
        made.append(tmp_path / "images" / f"{i:03}.png")
        Image.new("RGB", (9, 5), tuple(colour)).save(made[-1])
    return made


def test_files_are_classified_in_order(files: list[Path]) -> None:
    wanted = [["red", "green", "blue"][i % 3] for i in range(len(files))]
    assert module.predict(files).tolist() == wanted
    assert module.predict_proba(files).shape == (len(files), 3)


def test_the_command_prints_a_table(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (files[0].parent / "more").mkdir()
    (files[0].parent / "more" / "empty.png").touch()
    monkeypatch.setattr(sys, "argv", ["predictor.py", str(files[0].parent)])
    module.main()
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "name,prediction,probability" and len(lines) == len(files) + 1
    assert lines[2].startswith("001.png,green,0.99")
    assert printed.err.endswith("empty.png is left out: it is empty\n")
    monkeypatch.setattr(sys, "argv", ["predictor.py", str(files[1]), "--proba"])
    module.main()
    assert capsys.readouterr().out.startswith("name,red,green,blue\n001.png,0.00")
