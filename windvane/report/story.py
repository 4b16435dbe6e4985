"""A run's page from its beginning to its end, in the order in which a user in a hurry reads."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from windvane.html_builder import Page, Section, check_path, code, note, paragraph, table, write_page
from windvane.report.data_part import data_section, drift_section
from windvane.report.drift import measure_drift
from windvane.report.evidence import Evidence, Run, collect
from windvane.report.importance import measure_importance
from windvane.report.oddities import places, powers, remarks, shared_rows
from windvane.report.score_part import headline, importance_section, score_section
from windvane.report.search_part import ensemble_section, failure_section, search_section
from windvane.version import VERSION

MOST_LETTERS = 60  # of a column's name
SEED = 0  # of every sample that the page draws; stated on it


def write_report(run: Run, path: Path, X_test: Any = None, y_test: Any = None) -> Path:
    """Write the page of a run.

    Parameters
    ----------
    run
        The run.
    path
        A name that ends in .html; an earlier page of windvane is replaced.
    X_test, y_test
        Rows that the search did not see, or None.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    InputError
        Where the path or the test set cannot be used; nothing is written.
    """
    check_path(path)
    return write_page(make_page(collect(run, X_test, y_test)), path)


def make_page(evidence: Evidence) -> Page:
    """Compute everything that the page shows.

    Parameters
    ----------
    evidence
        Of the run.

    Returns
    -------
    Page
        What is not known is left out.
    """
    run, problem, judged = evidence.run, evidence.problem, evidence.judged
    schema, metric = run.predictor.schema, run.predictor.metric
    where = places(schema)
    alone = {} if problem is None else powers(problem, where, SEED)
    odd = [] if problem is None else remarks(problem, schema, alone, evidence.labels)
    sections: list[Section | None] = [data_section(evidence, odd, alone)]
    if problem is not None and evidence.test is not None:
        drift = measure_drift(problem.table, evidence.test.table, where, SEED)
        shared = shared_rows(problem.table, evidence.test.table)
        sections.append(drift_section(drift, shared, len(evidence.test.rows)))
    if run.trials:
        sections.append(search_section(evidence))
    sections += [ensemble_section(evidence), score_section(evidence)]
    if judged is not None:
        order = sorted(where, key=lambda name: -alone.get(name, 0.0))
        found = measure_importance(judged, where, order, SEED)
        if found is not None:
            sections.append(importance_section(found, judged, metric.name))
    sections += [failure_section(run.trials), _use(evidence), _versions(evidence)]
    title = "windvane report" if run.directory is None or not run.lasting else f"windvane: {run.directory.root.name}"
    foot = f"Written by windvane {VERSION}. Samples on this page are drawn with seed {SEED}."
    return Page(title, headline(evidence), [section for section in sections if section is not None], foot)


def _use(evidence: Evidence) -> Section:
    run = evidence.run
    probabilities = "\nmodel.predict_proba(X)" if run.predictor.task.is_classification else ""
    kept = run.directory is not None and run.lasting
    place = str(run.directory.root.absolute()) if kept and run.directory is not None else "model"
    lines = f"from windvane import load\n\nmodel = load({place!r})\nmodel.predict(X){probabilities}"
    content = [code(lines)]
    if kept:
        content.append(code(f"windvane predict {place} table.csv --out predictions.csv"))
    else:
        content.insert(0, paragraph("Save the model first: model.save('model')."))
    first = ", ".join(name[:MOST_LETTERS] for name in run.predictor.schema.feature_names[:8])
    more = len(run.predictor.schema.feature_names) - 8
    named = "by name, in any order" if run.predictor.schema.named else "by position"
    content.append(
        paragraph(f"X has the columns of training, {named}: {first}{f' and {more:,} more' if more > 0 else ''}.")
    )
    return Section("Use it", content)


def _versions(evidence: Evidence) -> Section:
    manifest = evidence.manifest
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
        content.insert(0, note("Of this session; the run's directory is not here."))
    return Section("Versions and settings", content)
