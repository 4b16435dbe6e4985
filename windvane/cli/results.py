"""Commands on a finished run: `leaderboard`, `report`, `export`, `compact`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from windvane.cli.common import (
    AsJson,
    Quiet,
    Run,
    Target,
    check_not_learned,
    holds_network,
    open_model,
    print_result,
    read_labelled,
    take_target,
    text_columns,
)

if TYPE_CHECKING:
    import pandas as pd

    from windvane.evaluation.metrics import Metric


FAMILY = 2  # the column of a leaderboard that may be cut
MIN_FAMILY, MAX_TITLE = 6, 12  # characters


def leaderboard(
    run: Run,
    *,
    test: Annotated[
        Path | None, typer.Option(help="Rows or images that the search did not see, to score every trial on.")
    ] = None,
    target: Target = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Print every trial of a run and a constant prediction, the best first.

    The source "baseline" marks the constant, the first linear model and LightGBM with its defaults.
    """
    from windvane.evaluation.evaluation import records

    model = open_model(run, quiet=quiet)
    X_test, y_test, _ = read_labelled(model, test, target)
    board, metric = model.leaderboard(X_test, y_test), model.predictor_.metric
    record = {"metric": metric.name, "trials": records(board.reset_index())}
    print_result(record, leaderboard_text(board, metric), as_json=as_json)


def report(
    run: Run,
    out: Annotated[Path, typer.Option(help="Page to write; ends in .html.")] = Path("report.html"),
    test: Annotated[
        Path | None, typer.Option(help="Rows or images the search did not see, for an unbiased score.")
    ] = None,
    target: Target = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write one self-contained page on a run."""
    from windvane import AutoImageClassifier
    from windvane.data.files import read_frame
    from windvane.errors import InputError

    if test is None and target:
        raise InputError("--target is a column of --test, which was not given.")
    model = open_model(run, quiet=quiet)
    X: Any = test
    y: Any = None
    if test is not None and not isinstance(model, AutoImageClassifier):
        X = read_frame(test, text_columns(model, target))
        check_not_learned({"--target": target}, model.predictor_.schema)
        if target:
            X, y = take_target(X, target)
        elif not quiet:
            typer.echo(
                f"windvane: without --target there is no score on {test}; the report compares its columns alone",
                err=True,
            )
    page = model.report(out, X, y)
    print_result({"page": page}, page, as_json=as_json)


def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="New folder or file to write.")],
    form: Annotated[
        str, typer.Option("--format", help="folder (a program), onnx, or optuna (the trials, in SQLite).")
    ] = "folder",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a folder or an ONNX file that predicts without windvane, or the trials for Optuna."""
    from windvane.errors import InputError, check_choice

    check_choice("--format", form, ("folder", "onnx", "optuna"))
    if holds_network(run):
        if form == "optuna":
            raise InputError("--format=optuna is for searches, but RUN is one of a network.")
        from windvane import vision
        from windvane.export.image_model import export_image_model

        write = vision.export_onnx if form == "onnx" else export_image_model
        write(vision.load_model(run), out)
    else:
        model = open_model(run, quiet=quiet)
        {"folder": model.export, "onnx": model.to_onnx, "optuna": model.to_optuna}[form](out)
    text = f"exported to {out}" + "; see its README.txt" * (form == "folder")
    print_result({form if form == "folder" else "file": out}, text, as_json=as_json)


def compact(run: Run, *, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Make a run smaller: delete what its ensemble does not need.

    The ensemble, the records of all trials and the data stay: predict, report, evaluate and explain work as before. The
    models of other trials are deleted, so resume can only add new trials to those of the ensemble.
    """
    before, after = open_model(run, quiet=quiet).compact()
    text = f"{run}: {before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB now"
    print_result({"run": run, "bytes_before": before, "bytes": after}, text, as_json=as_json)


def leaderboard_text(board: pd.DataFrame, metric: Metric) -> str:
    """Write a leaderboard for a terminal; long names of families are cut."""
    from windvane.evaluation.score_text import metric_name, natural_score, score_number
    from windvane.pages.texts import align_columns, cut

    title = cut(metric_name(metric), MAX_TITLE)
    tests = ["test"] if "test_score" in board else []
    rows = [["", "trial", "family", "weight", title, *tests, "fit s", "pred s", "status", "source"]]
    rows += [
        [
            str(rank),
            "" if str(row["trial"]) == "<NA>" else str(row["trial"]),
            str(row["family"]),
            f"{row['ensemble_weight']:.2f}",
            score_number(metric.score(row["validation_loss"])),
            *(score_number(natural_score(metric, row["test_score"])) for _ in tests),
            f"{row['fit_seconds']:.3g}",
            f"{row['predict_seconds']:.2g}",
            str(row["status"]),
            "baseline" if row["baseline"] else str(row["source"]),
        ]
        for rank, row in board.iterrows()
    ]
    status = len(rows[0]) - 2
    return "\n".join(align_columns(rows, (FAMILY, status, status + 1), FAMILY, MIN_FAMILY))
