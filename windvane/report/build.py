"""The report of a run: what its sections show is computed here, and put in order."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from windvane.errors import some_of
from windvane.evaluation.columns.identifiers import find_identifiers
from windvane.evaluation.columns.importance import encoded_columns, permutation_importance
from windvane.evaluation.evaluation import evaluate
from windvane.evaluation.predictions import Predictions
from windvane.pages.html_builder import Page, Section, check_path, code, note, paragraph, table, write_page
from windvane.report.data_checks import find_data_issues, single_column_scores
from windvane.report.data_section import data_section, shift_section
from windvane.report.description import SEED, Description
from windvane.report.explanation_section import explain_sample, explanation_section
from windvane.report.images.doubts import doubts_section
from windvane.report.images.inside import inside_sections
from windvane.report.images.networks import networks_section
from windvane.report.images.overview import evaluated_images, examples_section, image_names, images_section
from windvane.report.predictions_section import (
    classification_section,
    describe_rows,
    evaluation_section,
    headline,
    importance_section,
    regression_section,
)
from windvane.report.report_data import ReportData
from windvane.report.search_section import ensemble_section, failure_section, search_section
from windvane.version import VERSION

MAX_INTERVAL_SECONDS = 4.0  # for the intervals of all metrics
MAX_IMPORTANCE_ROWS, MAX_IMPORTANCE_SECONDS = 1_000, 10.0
MAX_NAMED_COLUMNS, MAX_NAME_LENGTH = 8, 60


def write_report(model: Any, path: Path, X_test: Any = None, y_test: Any = None) -> Path:
    """Write the page of a fitted estimator, with the unbiased score of a test set if there is one."""
    check_path(path)
    return write_page(build_report(ReportData.of(model, X_test, y_test)), path)


def build_report(data: ReportData) -> Page:
    """Compute everything on the page; what is unknown is left out."""
    if data.predictor.images is not None:
        return _page(data, [images_section(data)], {})
    description = _describe(data)
    sections = [data_section(description)]
    if description.n_test:
        sections.append(shift_section(description))
    return _page(data, sections, dict(description.column_scores))


def _describe(data: ReportData) -> Description:
    """Describe the data of a run as they were learned from, and the rows that the search did not see."""
    schema, labels, problem = data.schema, data.labels, data.problem
    if problem is None:
        return Description(data.task.n_rows, schema, labels)
    columns, table, ids = schema.matrix_places, problem.table, find_identifiers(schema, problem.table)
    target = problem.target if problem.task.n_targets == 1 else None
    scores = {} if target is None else single_column_scores(table, target, problem.task.n_classes, columns, SEED)
    issues = find_data_issues(table, schema, target, scores, labels, ids=ids)
    description = Description(data.task.n_rows, schema, labels, target, issues, column_scores=scores)
    return description if data.other_rows is None else description.compare(table, data.other_rows, ids)


def _page(data: ReportData, first: list[Section], column_scores: dict[str, float]) -> Page:
    """Make the page of the first sections and of those that tables and images share."""
    sections = [
        *first,
        search_section(data) if data.trials else None,
        ensemble_section(data),
        *_predictions_sections(data, column_scores),
        failure_section(data.trials),
        _use_section(data),
        _versions_section(data),
    ]
    title = "windvane report" if data.kept_in is None else f"windvane: {data.kept_in.name}"
    footer = f"Written by windvane {VERSION}. Samples on this page are drawn with seed {SEED}."
    return Page(title, headline(data, SEED), [section for section in sections if section is not None], footer)


def _predictions_sections(data: ReportData, column_scores: dict[str, float]) -> list[Section]:
    predictions = data.predictions
    if predictions is None:
        return []
    evaluation = evaluate(
        predictions,
        data.metric,
        data.task,
        data.predictor.classes,
        columns=_names_of_rows(data, predictions),
        targets=data.predictor.targets,
        max_seconds=MAX_INTERVAL_SECONDS,
        seed=SEED,
    )
    sections = [evaluation_section(evaluation, predictions, data.tuning)]
    if data.task.is_classification:
        sections.append(classification_section(predictions, data.labels, data.metric.positive))
    elif data.task.n_targets == 1:
        sections.append(regression_section(predictions, SEED))
    if data.predictor.images is not None:
        return [*sections, *_images_sections(data, predictions)]
    return [*sections, *_columns_sections(data, predictions, column_scores)]


def _names_of_rows(data: ReportData, predictions: Predictions) -> pd.DataFrame | None:
    """The names of images, which say more than the numbers of rows."""
    if data.predictor.images is None:
        return None
    places = np.arange(predictions.table.n_rows)
    return pd.DataFrame({"image": image_names(data, places, is_test=predictions.is_test)})


def _columns_sections(data: ReportData, predictions: Predictions, column_scores: dict[str, float]) -> list[Section]:
    """How much the columns matter, those first that predict most on their own, and why rows are predicted so."""
    columns = {name: column for name, column in encoded_columns(data.schema).items() if column.is_read}
    importance = permutation_importance(
        predictions,
        data.metric,
        {name: columns[name] for name in sorted(columns, key=lambda name: -column_scores.get(name, 0.0))},
        max_rows=MAX_IMPORTANCE_ROWS,
        max_seconds=MAX_IMPORTANCE_SECONDS,
        seed=SEED,
    )
    sections = []
    if importance is not None:
        sections.append(importance_section(importance, predictions, data.metric_title))
    if data.problem is not None and data.schema.columns and data.task.n_targets == 1:
        some = predictions.table.take(predictions.rows)
        found = explain_sample(data.predictor, some, data.problem.table, SEED)
        sections.append(explanation_section(found, describe_rows(predictions).partition(" (")[0]))
    return sections


def _images_sections(data: ReportData, predictions: Predictions) -> list[Section]:
    one = evaluated_images(data, predictions)
    if one is None:
        return []
    networks = networks_section(data)
    trained = [] if networks is None else [networks]
    return [examples_section(one), doubts_section(data), *inside_sections(data, one), *trained]


def _use_section(data: ReportData) -> Section:
    probabilities = "\nmodel.predict_proba(X)" if data.predictor.has_probabilities else ""
    run = None if data.kept_in is None else data.kept_in.absolute()
    lines = f"from windvane import load\n\nmodel = load({str(run or 'model')!r})\nmodel.predict(X){probabilities}"
    content = [code(lines)]
    if run is not None:
        source = "table.csv" if data.predictor.images is None else "images/"
        content.append(code(f"windvane predict {run} {source} --out predictions.csv"))
    else:
        content.insert(0, paragraph("Save the model first: model.save('model')."))
    if data.predictor.images is not None:
        content.append(paragraph("X is a folder, a list of paths or arrays, or a table with a column of images."))
        return Section("Use it", content)
    names = some_of([name[:MAX_NAME_LENGTH] for name in data.schema.feature_names], MAX_NAMED_COLUMNS)
    matched = "by name, in any order" if data.schema.named else "by position, or by number where X has these as names"
    content.append(paragraph(f"X needs the columns of training, matched {matched}: {names}."))
    return Section("Use it", content)


def _versions_section(data: ReportData) -> Section:
    manifest = data.manifest
    rows: list[list[object]] = []
    if manifest:
        rows += [["policy", manifest["policy"]["name"]], ["seed", str(manifest["seed"])]]
        rows += [["metric", manifest["metric"]], ["families", ", ".join(manifest["families"])]]
        rows += [["windvane", manifest["windvane"]], ["Python", manifest["python"]]]
        rows += [[name, version] for name, version in manifest["libraries"].items()]
    else:
        rows += [["windvane", VERSION], ["Python", platform.python_version()]]
    content = [table(["", ""], rows, label="Versions and settings")]
    if not manifest:
        content.insert(0, note("These are the versions of this session; the run directory is not available."))
    return Section("Versions and settings", content)
