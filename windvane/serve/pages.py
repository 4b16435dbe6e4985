"""The pages of the live view."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pandas as pd

from windvane.evaluation.score_text import metric_name, natural_score, score_number, score_text
from windvane.pages.html_builder import (
    Html,
    Link,
    Page,
    Section,
    bars,
    code,
    figure,
    metric_cards,
    note,
    number,
    paragraph,
    side_by_side,
    table,
    tag,
)
from windvane.pages.svg_charts import Axis, Series, plot
from windvane.pages.texts import counted
from windvane.report.search_section import describe_direction, failure_section, leaderboard_tables, score_over_time
from windvane.serve.form import MAX_FIELDS, Field, form_html, image_form_html
from windvane.serve.runs import Network, Run, SearchSummary
from windvane.settings import format_duration
from windvane.version import VERSION

SCRIPT = "/live.js"
FOOT = f"windvane {VERSION}"
MAX_PROBABILITIES = 12  # classes that are shown of a prediction
EXAMPLE_WIDTH = 96  # characters in a line of the example of a request

_STATES = {
    "running": "The search is running; this page follows it.",
    "ended early": "The search ended without its final ensemble: it was stopped or killed, or has just begun. "
    "windvane resume continues it.",
}


def run_address(name: str, page: str = "") -> str:
    """Address of a page of a run."""
    return f"/runs/{quote(name, safe='')}" + (f"/{page}" if page else "")


# All runs.


def folder_page(title: str, runs: Sequence[Run], pages: Sequence[str]) -> Page:
    """The runs of a folder, the running ones first."""
    order = sorted(runs, key=lambda run: (run.status != "running", run.name))
    if runs:
        header = ["run", "state", "task", "validation", "trials", "time"]
        content = [table(header, [_row(run) for run in order], label="Runs")]
    else:
        content = [note("There is no run in this folder yet. One that begins appears here.")]
    sections = [Section("Runs", content)]
    if pages:
        links = [tag("li", Link(name, f"/pages/{quote(name, safe='')}").to_html()) for name in pages]
        sections.append(Section("Pages", [tag("ul", *links)]))
    return Page(f"windvane: {title}", [], sections, FOOT, [Link("All runs", "/", True)], SCRIPT, "/live")


def _row(run: Run) -> list[object]:
    link = Link(run.name, run_address(run.name)).to_html()
    content = run.content
    if isinstance(content, str):
        return [link, run.status, "", "", "", ""]
    if isinstance(content, Network):
        best = content.manifest.get("best", {}).get("valid_accuracy")
        score = "" if best is None else f"accuracy {score_number(best)}"
        seconds = content.evaluations["seconds"].max() if len(content.evaluations) else math.nan
        time_text = "" if math.isnan(seconds) else format_duration(seconds)
        return [link, _network_state(content), f"{len(content.labels):,} classes of images", score, "", time_text]
    left = _time_left(content) if run.status == "running" else format_duration(content.seconds)
    return [link, run.status, _task(content), _quality(content), len(content.trials), left]


def _task(search: SearchSummary) -> str:
    task = search.task
    kind = "regression" if task.kind == "regression" else f"{task.n_classes:,} classes"
    if task.n_targets > 1:
        kind = f"{task.n_targets:,} {'targets' if task.kind == 'regression' else 'labels'}"
    return f"{kind}, {task.n_rows:,} {'images' if search.is_of_images else 'rows'}"


def _quality(search: SearchSummary) -> str:
    return "" if math.isnan(search.loss) else score_text(search.metric, search.metric.score(search.loss))


def _time_left(search: SearchSummary) -> str:
    budget = search.budget
    if budget is None:
        return ""
    left = budget.seconds - budget.elapsed
    return f"{format_duration(left)} left" if left > 0 else "finishing"


# One run.


def run_page(run: Run) -> Page:
    """The progress of a run, and its leaderboard."""
    if isinstance(run.content, str):
        sections = [Section("Not readable", [note(run.content, "warn")])]
    elif isinstance(run.content, Network):
        sections = _network_sections(run.content)
    else:
        sections = _search_sections(run, run.content)
    return _page(run, "", sections, live=run_address(run.name, "live"))


def _page(run: Run, here: str, sections: Sequence[Section], *, live: str = "") -> Page:
    entries = [("", "Progress" if run.status == "running" else "Overview")]
    if not isinstance(run.content, str):
        entries.append(("predict", "Predict"))
    if isinstance(run.content, SearchSummary):
        entries.append(("report", "Report"))
    links = [Link(title, run_address(run.name, page), page == here) for page, title in entries]
    for name in run.pages:
        title = {"page.html": "Training", "inspect.html": "Inspection"}.get(name, name)
        links.append(Link(title, run_address(run.name, f"pages/{quote(name, safe='')}")))
    if not run.is_alone:
        links.insert(0, Link("All runs", "/"))
    return Page(f"windvane: {run.name}", [], sections, FOOT, links, SCRIPT, live)


def _search_sections(run: Run, search: SearchSummary) -> list[Section]:
    is_running, budget = run.status == "running", search.budget
    content: list[Html] = [metric_cards(_search_cards(search, is_running))]
    if is_running and budget is not None:
        share = budget.elapsed / budget.seconds
        if budget.n_trials is not None:
            share = max(share, len(search.trials) / budget.n_trials)
        content.append(_progress_bar(min(1.0, share)))
    if run.status in _STATES:
        content.append(note(_STATES[run.status], "good" if is_running else "warn"))
    if len(search.curve) > 1:
        content.append(score_over_time(search.curve, search.metric, metric_name(search.metric)))
    sections = [Section("Progress" if is_running else "Overview", content)]
    if search.trials:
        board = leaderboard_tables(search.trials, search.ensemble, search.metric, search.constant)
        sections.append(Section("Leaderboard", board))
    failures = failure_section(search.trials)
    return sections if failures is None else [*sections, failures]


def _search_cards(search: SearchSummary, is_running: bool) -> list[tuple[str, str, object]]:
    """Name, value and remark of each figure: the test score first if there is one."""
    metric, budget = search.metric, search.budget
    cards: list[tuple[str, str, object]] = []
    if search.test_score is not None:
        value = natural_score(metric, search.test_score)
        remark = f"rows that the search did not see; {describe_direction(metric)}"
        cards.append((f"Test {metric_name(metric)}", score_number(value), remark))
    title = f"Validation {metric_name(metric)}"
    if math.isnan(search.loss):
        cards.append((title, "-", "no model yet"))
    else:
        of = "the ensemble, which it selected"
        if search.ensemble is None and search.best is not None:
            of = f"the best trial, {search.best.family} #{search.best.number}"
        cards.append((title, score_number(metric.score(search.loss)), f"of {of}; {describe_direction(metric)}"))
    n_failed = sum(not trial.usable for trial in search.trials)
    remark = f"{n_failed:,} without a model" if n_failed else "all usable" if search.trials else "none has ended yet"
    cards.append(("Trials", f"{len(search.trials):,}", remark))
    if is_running and budget is not None:
        workers = counted(budget.n_workers, "worker")
        cards.append(("Time", _time_left(search), f"of {format_duration(budget.seconds)}, {workers}"))
    else:
        cards.append(("Time", format_duration(search.seconds), "of searching"))
    cards.append(("Data", f"{search.task.n_rows:,}", "images" if search.is_of_images else "rows"))
    return cards


def _progress_bar(share: float) -> Html:
    words = {"role": "progressbar", "aria-valuenow": round(100 * share), "aria-valuemin": 0, "aria-valuemax": 100}
    bar = tag("i", attributes={"style": f"width:{100 * share:.1f}%"})
    return tag("div", bar, attributes={"class": "bar", "aria-label": "Share of the budget", **words})


# Networks.


def _network_state(network: Network) -> str:
    if not len(network.evaluations):
        return "network"
    progress = float(network.evaluations["progress"].iloc[-1])
    return "trained" if progress >= 1 else f"{progress:.0%} trained"


def _network_sections(network: Network) -> list[Section]:
    frame, best = network.evaluations, network.manifest.get("best", {})
    recipe = network.manifest.get("recipe", {})
    entries: list[tuple[str, str, object]] = []
    if "valid_accuracy" in best:
        remark = f"at epoch {best.get('epoch', math.nan):.1f}; it selected the model, so it is slightly too good"
        entries.append(("Validation accuracy", f"{best['valid_accuracy']:.1%}", remark))
    entries.append(("Network", str(recipe.get("model", "-")), f"{len(network.labels):,} classes"))
    if not len(frame):
        return [Section("Overview", [metric_cards(entries)])]
    last = frame.iloc[-1]
    remark = f"{format_duration(last['seconds'])}, epoch {last['epoch']:.1f}"
    entries.append(("Training", _network_state(network), remark))
    speed = number(float(last["images_per_second"]), 3)
    entries.append(("Speed", speed, "images a second"))
    content = [metric_cards(entries)]
    if last["progress"] < 1:
        content.append(_progress_bar(float(last["progress"])))
    pictures = [
        _curves(frame, "accuracy", ("train_accuracy", "valid_accuracy")),
        _curves(frame, "loss", ("train_loss", "valid_loss")),
    ]
    return [Section("Overview", content), Section("Training", [side_by_side(*pictures)])]


def _curves(frame: pd.DataFrame, what: str, columns: tuple[str, str]) -> Html:
    series = [
        Series(frame["epoch"].to_numpy(), frame[column].to_numpy(), color=color, name=name)
        for column, color, name in zip(columns, (4, 0), ("training, augmented images", "validation"), strict=True)
    ]
    x = Axis.around("epoch", frame["epoch"], margin=0.0)
    y = Axis.around(what, frame[list(columns)].to_numpy())
    return figure(what.capitalize(), plot(series, x, y, f"{what} over epochs"), "", series)


# Predictions.


def predict_page(run: Run, fields: Sequence[Field], origin: str) -> Page:
    """The form for a row (of `fields`) or an image, and how a program asks for the same at the server `origin`."""
    search = run.content if isinstance(run.content, SearchSummary) else None
    address = f"/predict?run={quote(run.name, safe='')}"
    shown = f"{address}&form=1"
    if run.takes_images:
        form = [image_form_html(shown)]
    elif search is not None and search.schema.n_sparse:
        form = [note("The table of this run is sparse; the endpoint below takes its rows.")]
    elif len(fields) > MAX_FIELDS:
        words = f"The {len(fields):,} columns of this run are too many for a form; the endpoint below takes its rows."
        form = [note(words)]
    else:
        words = "An empty field is a missing value."
        if any(field.value for field in fields):
            words = f"Filled in is what is typical of the training table. {words}"
        form = [paragraph(words), form_html(fields, shown)]
    result = tag("div", attributes={"id": "result", "aria-live": "polite"})
    needs_script = tag("noscript", note("The form needs JavaScript.", "warn"))
    sections = [Section("Predict", [*form, needs_script, result])]
    asked = "&proba=true"
    if search is not None and search.task.kind == "regression":
        asked = "&interval=0.9" if search.task.n_targets == 1 else ""
    sections.append(_endpoint_section(f"{origin}{address}{asked}", run.takes_images, fields))
    return _page(run, "predict", sections)


def no_model_page(run: Run, reason: str) -> Page:
    """Why a run cannot predict."""
    sections = [Section("No model", [note(reason, "plain" if run.status == "running" else "warn")])]
    return _page(run, "predict", sections)


def _endpoint_section(url: str, takes_images: bool, fields: Sequence[Field]) -> Section:
    if takes_images:
        words = 'Send the file of an image, or JSON: {"image": the file in base64}, or a list of these.'
        lines = f"curl '{url}' \\\n  -H 'Content-Type: image/jpeg' --data-binary @photo.jpg"
    else:
        words = "Send a row as a JSON object, or a list of rows; the answer has the same form."
        row = _json({field.name: field.example for field in fields})
        lines = f"curl '{url}' \\\n  -H 'Content-Type: application/json' \\\n  -d '{row}'"
    return Section("From a program", [paragraph(words), code(lines)])


def _json(row: Mapping[str, Any]) -> str:
    """A row as JSON in several lines, between quotation marks of a shell."""
    lines = ["{"]
    for position, (name, value) in enumerate(row.items()):
        pair = json.dumps({name: value}, ensure_ascii=False)[1:-1].replace("'", "\\u0027")
        pair += "," * (position < len(row) - 1)
        if position and len(lines[-1]) + len(pair) >= EXAMPLE_WIDTH:
            lines.append("    " + pair)
        else:
            lines[-1] += " " * (position > 0) + pair
    return "\n".join(lines) + "}"


def answer_html(answer: Mapping[str, Any], run: Run, coverage: float) -> Html:
    """A prediction, for the form; `coverage` is that of its interval, if it has one."""
    shown = answer["prediction"]
    is_several = isinstance(shown, Mapping)
    remark = ""
    if "lower" in answer:
        remark = f"{100 * coverage:g} % interval {score_number(answer['lower'])} to {score_number(answer['upper'])}"
    values = shown if is_several else {"Prediction": shown}
    parts = [note(answer["warning"], "warn")] if "warning" in answer else []
    parts += [metric_cards([(name, _value_text(value), remark) for name, value in values.items()])]
    shares = sorted(answer.get("probabilities", {}).items(), key=lambda pair: -pair[1])
    if shares:
        entries = [(label, share, f"{share:.1%}") for label, share in shares[:MAX_PROBABILITIES]]
        of_each = "label" if is_several or isinstance(shown, list) else "class"
        parts.append(figure(f"Probability of each {of_each}", bars(entries, label="Probabilities", full=1.0)))
        if len(shares) > MAX_PROBABILITIES:
            parts.append(paragraph(f"and {counted(len(shares) - MAX_PROBABILITIES, 'less probable label')}"))
    parts.append(tag("p", f"by {run.name}, {time.strftime('%H:%M:%S')}", attributes={"class": "remark"}))
    return Html("".join(parts))


def _value_text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "no label"
    return score_number(value) if isinstance(value, float) else str(value)


# Others.


def wait_page(run: Run) -> Page:
    """Shown while the report is computed."""
    target = run_address(run.name, "report?wait=1")
    words = note("The report is being computed, which takes up to half a minute. It opens by itself.")
    link = tag("p", Link("Open it", target).to_html(), attributes={"data-next": target})
    return _page(run, "report", [Section("Report", [words, link])])


def message_page(title: str, text: str) -> Page:
    """A page with one message."""
    return Page("windvane", [], [Section(title, [note(text, "warn")])], FOOT, [Link("All runs", "/")])
