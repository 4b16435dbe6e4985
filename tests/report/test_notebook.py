"""What a notebook shows of an estimator."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import sklearn
from toys import HOSTILE_LABEL, HOSTILE_NAME

from windvane import AutoClassifier, AutoImageClassifier, AutoRegressor


def shown(model: Any) -> str:
    """What Jupyter takes, which is what older programs take."""
    bundle = model._repr_mimebundle_()
    assert bundle["text/plain"] == repr(model)
    assert model._repr_html_() == bundle["text/html"]
    return str(bundle["text/html"])


@pytest.mark.parametrize("kind", [AutoClassifier, AutoRegressor, AutoImageClassifier])
def test_settings_before_the_fit(kind: type[Any]) -> None:
    text = shown(kind(90, metric="<b>", n_jobs=-1, run_dir=Path("runs") / ("x" * 200), random_state=0))
    assert f"<b>{kind.__name__}</b>" in text and "Not fitted" in text
    assert "<td>time_budget</td><td>1 min 30 s</td>" in text
    assert "<td>metric</td><td>&#x27;&lt;b&gt;&#x27;</td>" in text
    assert "<td>random_state</td><td>0</td>" in text, "0 is not the default None"
    assert "n_jobs" not in text and "policy" not in text, "they are as by default"
    assert "…" in text and len(text) < 1000


@pytest.mark.parametrize("budget", [float("inf"), float("nan"), -1, None, "10m", True, [1]])
def test_settings_that_no_fit_takes(budget: Any) -> None:
    assert "<td>time_budget</td>" in shown(AutoClassifier(budget))


def test_result_after_the_fit(binary: Any, regression: Any) -> None:
    model = binary[0]
    text = shown(model)
    assert "validation ROC AUC 0." in text and "most of all" in text
    assert text.count("<tr>") == 1 + len(model.leaderboard())
    assert HOSTILE_NAME not in text and HOSTILE_LABEL not in text
    assert "RMSE" in shown(regression[0])


def test_link_to_the_report(binary: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pickle.loads(pickle.dumps(binary[0]))
    model._report_path = None  # that of another test
    assert "report(&quot;report.html&quot;)" in shown(model)
    monkeypatch.chdir(tmp_path)
    model.report("report.html")
    assert 'href="report.html"' in shown(model), "a notebook opens files beside it"
    monkeypatch.chdir(tmp_path.parent)
    assert f'href="{tmp_path.name}/report.html"' in shown(model)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert f'href="{(tmp_path / "report.html").as_uri()}"' in shown(model)
    (tmp_path / "report.html").unlink()
    assert "href" not in shown(model)


def test_display_of_scikit_learn_is_respected() -> None:
    with sklearn.config_context(display="text"):
        assert "text/html" not in AutoClassifier()._repr_mimebundle_()
