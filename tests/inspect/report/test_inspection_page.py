"""The page is one valid file with figures, words and numbers, and everything is escaped."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from networks import TinyResNet, images, seeded
from toys import check_html

from windvane.errors import InputError
from windvane.inspect.report.inspection_page import Analysis, write_analyses
from windvane.inspect.similarity.compare import compare
from windvane.inspect.similarity.comparison import Comparison


def test_page(tmp_path: Path) -> None:
    model = seeded(TinyResNet)
    found = compare(model, model, images(12)).renamed("<b>net</b>", "<b>net</b>")
    analysis = Analysis("Layers <i>alike</i>", "Bright is alike.", lambda: found, describe=Comparison.describe)
    written = write_analyses(tmp_path / "page.html", "Inside", "Twelve images.", [(analysis, found)])
    text = written.read_text(encoding="utf-8")
    check_html(re.sub("<img[^>]*>", "", text))
    assert "<b>net" not in text
    assert "<i>alike" not in text
    assert found.describe()[0].replace("<b>net</b>", "&lt;b&gt;net&lt;/b&gt;") in text
    assert f"The numbers: {len(found.to_frame())} rows" in text
    (data,) = re.findall(r'src="data:image/png;base64,([^"]*)"', text)
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert "http" not in re.sub(r"http://www.w3.org\S*", "", text)


def test_refused_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.html"):
        write_analyses(tmp_path / "page.pdf", "Inside", "", [])
