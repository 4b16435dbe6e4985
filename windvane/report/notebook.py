"""An estimator in a notebook: its settings before the fit, its result afterwards."""

from __future__ import annotations

import inspect
import math
import os
from pathlib import Path
from typing import Any

from windvane.evaluation.score_text import natural_score, score_text
from windvane.pages.html_builder import Html, paragraph, tag
from windvane.pages.texts import cut
from windvane.report.search_section import leaderboard_tables
from windvane.settings import format_duration

SHOWN_TRIALS = 5
MAX_SETTING = 80  # characters
_STYLE = "margin:0.4em 0"


def estimator_html(model: Any) -> Html:
    """Return what a notebook shows of an estimator, in elements that every notebook has a style for."""
    parts = _result(model) if hasattr(model, "predictor_") else [paragraph("Not fitted: call fit."), _settings(model)]
    return tag("div", tag("b", type(model).__name__), *parts, attributes={"style": _STYLE})


def _settings(model: Any) -> Html:
    """The time budget, and the settings that differ from their defaults."""
    defaults = {name: one.default for name, one in inspect.signature(type(model)).parameters.items()}
    given = model.get_params(deep=False)
    budget = given.pop("time_budget")
    # Only fit checks the settings.
    is_number = isinstance(budget, int | float) and not isinstance(budget, bool) and math.isfinite(budget)
    shown = {"time_budget": format_duration(budget) if is_number else str(budget)}
    for name, value in given.items():
        if repr(value) != repr(defaults[name]):
            shown[name] = cut(repr(value), MAX_SETTING)
    rows = [tag("tr", tag("td", name), tag("td", text)) for name, text in shown.items()]
    return tag("table", tag("tbody", *rows))


def _result(model: Any) -> list[Html]:
    predictor = model.predictor_
    metric, ensemble = predictor.metric, predictor.ensemble
    winner = ensemble.members[0]
    n = len(ensemble.members)
    models = (
        f"{winner.family} #{winner.number}" if n == 1 else f"{n} trials, most of all {winner.family} #{winner.number}"
    )
    lines = [paragraph(f"validation {score_text(metric, metric.score(ensemble.loss))}, of {models}")]
    if hasattr(model, "test_score_"):
        score = score_text(metric, natural_score(metric, model.test_score_))
        lines.append(paragraph(f"test {score}, on rows that chose nothing"))
    trials = list(model.trials_)
    if trials:
        lines.append(leaderboard_tables(trials, ensemble, metric, model.constant_, SHOWN_TRIALS)[0])
    return [*lines, _report(model)]


def _report(model: Any) -> Html:
    """A link to the report that was written last, or how to write one."""
    path: Path | None = getattr(model, "_report_path", None)
    if path is None or not path.exists():
        return paragraph("More: ", tag("code", 'report("report.html")'))
    # A notebook opens only files below its folder.
    below = path.is_relative_to(Path.cwd())
    address = Path(os.path.relpath(path)).as_posix() if below else path.as_uri()
    return paragraph("More: ", tag("a", path.name, attributes={"href": address, "target": "_blank"}))
