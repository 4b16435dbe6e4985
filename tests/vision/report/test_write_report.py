"""A run that was really trained has its page."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from pictures import digits, tiny_recipe
from toys import check_html

from windvane.errors import InputError
from windvane.vision.predict import predict_proba
from windvane.vision.report.training_page import format_result, write_report
from windvane.vision.training.train import train


def test_a_trained_network_has_its_page(tmp_path: Path) -> None:
    data = digits()
    assert data.valid is not None
    data = dataclasses.replace(data, test=data.valid.take(np.arange(50)))
    trained = train(tiny_recipe(), data, out=tmp_path / "run", quiet=True)
    page = write_report(trained, data)
    assert page == (tmp_path / "run" / "page.html").absolute()
    html = page.read_text(encoding="utf-8")
    check_html(html)
    assert data.test is not None
    right = np.mean(predict_proba(trained.model, data.test).argmax(axis=1) == data.test.labels)
    assert f"<dd>{right:.1%}</dd>" in html
    assert f"<dd>{trained.best.valid_accuracy:.1%}</dd>" in html
    assert "windvane predict" in html
    assert write_report(trained, data, tmp_path / "other.html").exists()
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(InputError, match="windvane did not write it"):
        write_report(trained, data, tmp_path / "mine.html")
    assert (tmp_path / "mine.html").read_text() == "mine"
    with pytest.raises(InputError, match="but the model has others"):
        write_report(trained, digits(classes=5))
    with pytest.raises(InputError, match="path is missing: the run kept no folder"):
        write_report(dataclasses.replace(trained, folder=None), data)
    best, folder = format_result(trained).splitlines()
    assert f"validation accuracy {trained.best.valid_accuracy:.4f}" in best
    assert folder == f"kept in {tmp_path / 'run'}"
    assert format_result(dataclasses.replace(trained, folder=None)).endswith("\nnot saved")
