"""The commands `predict` and `explain`: rows or images in, a table out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from windvane.cli.common import (
    AsJson,
    Device,
    Duration,
    Quiet,
    Run,
    holds_network,
    open_model,
    parse_time,
    print_json,
    print_result,
    refuse_options,
)

if TYPE_CHECKING:
    import pandas as pd

    from windvane.automl import AutoImageClassifier
    from windvane.persistence import Predictor


@dataclass(frozen=True)
class _Extras:
    """What `predict` writes beside the prediction; the numbers are coverages."""

    proba: bool
    interval: float | None
    class_set: float | None


def predict(
    run: Run,
    table: Annotated[Path, typer.Argument(metavar="DATA", help="Rows with the columns of training, or images.")],
    out: Annotated[Path, typer.Option(help="CSV, Parquet or Feather file to write; - for CSV on the standard output.")],
    proba: Annotated[bool, typer.Option("--proba", help="Write a column of probabilities for each class.")] = False,
    interval: Annotated[
        float | None,
        typer.Option(metavar="COVERAGE", help="Intervals of this coverage: columns lower and upper, as in 0.9."),
    ] = None,
    class_set: Annotated[
        float | None,
        typer.Option("--set", metavar="COVERAGE", help="Sets of this coverage: classes joined by |, as in 0.9."),
    ] = None,
    device: Device = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Predict the rows of a table, or images.

    Rows that cannot be predicted come back without a prediction; a column "error" says why.
    """
    from windvane import AutoImageClassifier
    from windvane.errors import InputError
    from windvane.runtime.conformal import check_coverage

    wanted = {"--proba": proba, "--interval": interval is not None, "--set": class_set is not None}
    given = [option for option, is_given in wanted.items() if is_given]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} do not go together. Allowed: one of them.")
    for option, coverage in (("--interval", interval), ("--set", class_set)):
        if coverage is not None:
            check_coverage(coverage, option)
    _check_output(out, {"DATA": table})
    if holds_network(run):
        refuse_options({"--interval": interval, "--set": class_set}, "searches, but RUN is one of a network")
        _write_predictions(_predict_by_network(run, table, device, proba), out, as_json)
        return
    refuse_options({"--device": device}, "runs of networks, but RUN is one of a search")
    model = open_model(run, quiet=quiet)
    extras = _Extras(proba, interval, class_set)
    _check_extras(extras, model, run)
    predict_by_search = _predict_images if isinstance(model, AutoImageClassifier) else _predict_rows
    _write_predictions(predict_by_search(model, table, extras), out, as_json)


def explain(
    run: Run,
    table: Annotated[Path, typer.Argument(metavar="DATA", help="Rows to explain, with the columns of training.")],
    *,
    label: Annotated[str | None, typer.Option(help="Class whose probability is explained.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="CSV, Parquet or Feather file of all contributions; - for CSV.")
    ] = None,
    background: Annotated[Path | None, typer.Option(help="Rows to compare with; by default those of training.")] = None,
    time: Duration = "1m",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show how much each column moves each prediction (Shapley values)."""
    from windvane import AutoImageClassifier
    from windvane.data.files import read_frame
    from windvane.errors import InputError
    from windvane.evaluation.evaluation import records
    from windvane.runtime.rows_to_predict import rename_taken

    if out is not None:
        _check_output(out, {"DATA": table, "--background": background})
    model = open_model(run, quiet=quiet)
    if isinstance(model, AutoImageClassifier):
        raise InputError("explain is for tables; the report on a run of images shows what its model looks at.")
    texts = model.predictor_.schema.text_columns
    rows = None if background is None else read_frame(background, texts)
    found = model.explain(read_frame(table, texts), label=label, background=rows, time_budget=parse_time(time))
    contributions = rename_taken(found.values, {"base", "prediction"}, "column")
    values = contributions.assign(base=found.base, prediction=found.prediction)
    to_stdout = str(out) == "-"  # which then holds one thing alone: JSON, or the CSV
    if as_json or not to_stdout:
        print_result({"rows": records(values)}, found, as_json=as_json)
    if out is not None and not (as_json and to_stdout):
        _write(values, out)


def _check_extras(extras: _Extras, model: Any, run: Path) -> None:
    """Raise InputError if an option of `predict` asks for what the model of a search cannot say."""
    from windvane import AutoRegressor
    from windvane.errors import InputError

    if extras.interval is not None or extras.class_set is not None:
        model.predictor_.check_one_target("--set" if extras.interval is None else "--interval")
    if not isinstance(model, AutoRegressor):
        if extras.interval is not None:
            raise InputError(f"--interval is for numbers, but {str(run)!r} predicts classes. Allowed: --set.")
    elif extras.proba:
        raise InputError(f"--proba is for classes, but {str(run)!r} predicts a number.")
    elif extras.class_set is not None:
        raise InputError(f"--set is for classes, but {str(run)!r} predicts a number. Allowed: --interval.")


def _predict_by_network(run: Path, images: Path, device: str | None, proba: bool) -> pd.DataFrame:
    from windvane import vision
    from windvane.data.images import read_unlabelled
    from windvane.vision.training.device import find_device

    network = vision.load_model(run, str(find_device(device, "auto").device))
    return vision.prediction_table(network, read_unlabelled(images), proba=proba)


def _predict_images(model: AutoImageClassifier, images: Path, extras: _Extras) -> pd.DataFrame:
    from windvane.runtime.conformal import join_labels

    found = model.prediction_table(images, proba=extras.proba)
    if extras.class_set is not None:
        found["set"] = join_labels(model.predict_set(images, extras.class_set), model.classes_)
    return found


def _predict_rows(model: Any, table: Path, extras: _Extras) -> pd.DataFrame:
    import pandas as pd

    from windvane.data.files import read_frame
    from windvane.runtime.conformal import join_labels
    from windvane.runtime.rows_to_predict import describe_errors, predict_rows, read_rows

    predictor: Predictor = model.predictor_
    X, faults = read_rows(table, predictor.schema.text_columns, read_frame)

    def predict_frame(frame: pd.DataFrame) -> pd.DataFrame:
        if predictor.targets is not None:
            return predictor.probability_columns(frame) if extras.proba else predictor.prediction_columns(frame)
        if extras.proba:
            return pd.DataFrame(model.predict_proba(frame), columns=predictor.class_names)
        predicted = pd.DataFrame({"prediction": model.predict(frame)})
        if extras.interval is not None:
            predicted["lower"], predicted["upper"] = model.predict_interval(frame, extras.interval).T
        if extras.class_set is not None:
            predicted["set"] = join_labels(model.predict_set(frame, extras.class_set), model.classes_)
        return predicted

    found = predict_rows(predict_frame, predictor.schema, X, faults)
    if "error" in found:
        typer.echo(f"windvane: warning: {describe_errors(found)}", err=True)
    return found


def _write_predictions(frame: pd.DataFrame, out: Path, as_json: bool) -> None:
    """Write predictions; with --json print where they are, or the predictions for the standard output."""
    from windvane.evaluation.evaluation import records

    if as_json and str(out) == "-":
        print_json({"predictions": records(frame)})
        return
    _write(frame, out)
    if as_json:
        n_errors = int(frame["error"].notna().sum()) if "error" in frame else 0
        print_json({"file": out, "rows": len(frame), "rows_with_errors": n_errors})


def _write(frame: pd.DataFrame, out: Path) -> None:
    """Write predictions to a file, or as CSV to the standard output where the name is "-"."""
    from windvane.data.files import write_frame

    if str(out) == "-":
        typer.echo(frame.to_csv(index=False, lineterminator="\n"), nl=False)
    else:
        write_frame(frame, out)


def _check_output(out: Path, inputs: Mapping[str, Path | None]) -> None:
    """Raise InputError if a table cannot be written, or would replace one that is read; names are those in the help."""
    from windvane.data.files import check_writable
    from windvane.errors import InputError

    if str(out) == "-":
        return
    check_writable(out)
    for name, file in inputs.items():
        if file is not None and out.exists() and file.exists() and out.samefile(file):
            raise InputError(f"--out={str(out)!r} is {name}, which would be replaced. Allowed: another file.")
