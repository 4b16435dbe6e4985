"""Commands for tables and for searches over images; `predict` and `export` take runs of networks too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from windvane.cli.common import (
    AsJson,
    DateFormats,
    Device,
    Duration,
    Ignore,
    Quiet,
    Run,
    Target,
    Task,
    Time,
    Types,
    check_column,
    holds_network,
    open_model,
    parse_time,
    print_json,
    print_result,
    read_labelled,
    read_like,
    read_pairs,
    take_columns,
    take_target,
    text_columns,
    time_left,
    warn_of_missing_labels,
)

if TYPE_CHECKING:
    import pandas as pd

    from windvane.automl.loading import AutoEstimator
    from windvane.data.series.lags import Lags
    from windvane.data.series.time_split import TimeSplit
    from windvane.evaluation.metrics import Metric
    from windvane.persistence import Predictor

LEADERBOARD_ROWS = 10  # printed after a search
FAMILY = 2  # the column of a leaderboard that may be cut
MIN_FAMILY, MAX_TITLE = 6, 12  # characters


def fit(
    train: Annotated[
        Path,
        typer.Argument(metavar="TRAIN", help="Table: CSV, Parquet, Feather, ARFF, JSON, .xlsx, SQLite; or images."),
    ],
    *,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Column to learn; without it TRAIN is a folder or a table of images. Repeated: several columns of "
            "numbers, or of two values each, learned by one run."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory of the run; a run of the same data and settings is resumed.")],
    time: Time = "10m",
    task: Task = None,
    metric: Annotated[str, typer.Option(help="What to optimize, as in roc_auc, log_loss, rmse.")] = "auto",
    policy: Annotated[str, typer.Option(help="How to validate, as in holdout, cv5, cv5-halving.")] = "auto",
    families: Annotated[str | None, typer.Option(help="Families of models, as in lightgbm,catboost.")] = None,
    portfolio: Annotated[Path | None, typer.Option(help="Portfolio file: configurations to evaluate first.")] = None,
    jobs: Annotated[int, typer.Option(help="Worker processes; -1 for all cores.")] = -1,
    memory: Annotated[
        int | None, typer.Option(help="MB for all workers together; by default 80 % of what is free.")
    ] = None,
    n_trials: Annotated[int | None, typer.Option(help="Limit on trials; the time is a limit, too.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the search.")] = None,
    test: Annotated[Path | None, typer.Option(help="Rows that the search does not see, for an unbiased score.")] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            help="Column whose rows of equal value stay in one fold; for a folder of images a regular expression "
            "whose match in a name is the group."
        ),
    ] = None,
    time_column: Annotated[str | None, typer.Option(help="Column of times; later rows validate.")] = None,
    gap: Annotated[
        str | None, typer.Option(help="Time between training and validation rows: instants, or a span as in 7d, 12h.")
    ] = None,
    embargo: Annotated[
        str | None, typer.Option(help="Train on later rows, too, from so long after the validated ones.")
    ] = None,
    max_train_size: Annotated[
        str | None, typer.Option(help="Length of a rolling training window; by default all earlier rows train.")
    ] = None,
    test_size: Annotated[str | None, typer.Option(help="Length of each validation block, given as for --gap.")] = None,
    lags: Annotated[
        str | None, typer.Option(help="Steps of --time-column, as in 1,7: earlier values of the target as columns.")
    ] = None,
    lag_of: Annotated[
        list[str] | None, typer.Option(help="Column that --lags look up, in place of the target; repeatable.")
    ] = None,
    lag_by: Annotated[
        list[str] | None, typer.Option(help="Column that tells the series apart, such as shop; repeatable.")
    ] = None,
    weight: Annotated[str | None, typer.Option(help="Column with the weights of the rows.")] = None,
    valid: Annotated[float | None, typer.Option(help="For images: share of them that validates.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="For images: pretrained networks, as in efficientnet_lite0,timm/resnet18.")
    ] = None,
    positive: Annotated[str | None, typer.Option(help="Of two classes the positive one, as for f1 and recall.")] = None,
    ignore: Ignore = None,
    id_column: Annotated[
        list[str] | None, typer.Option("--id", help="Column that names a row, written beside its prediction.")
    ] = None,
    types: Types = None,
    date_formats: DateFormats = None,
    keep_ids: Annotated[
        bool, typer.Option("--keep-ids", help="Learn from columns that look like identifiers, too.")
    ] = False,
    report: Annotated[bool, typer.Option("--report", help="Write the page of the run, report.html in --out.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Search for the best ensemble and save it in a run directory.

    The columns of --groups, --time-column, --weight, --ignore and --id are not learned from, nor are columns that look
    like identifiers and say nothing about other rows.
    """
    started, seconds = monotonic(), parse_time(time)
    options: dict[str, Any] = {
        "metric": metric,
        "n_jobs": jobs,
        "memory_limit": memory,
        "policy": policy,
        "families": None if families is None else [name.strip() for name in families.split(",")],
        "portfolio": portfolio,
        "n_trials": n_trials,
        "run_dir": out,
        "random_state": seed,
        "verbose": 0 if quiet else 1,
    }
    if not target:
        from windvane import AutoImageClassifier

        names = None if weights is None else [name.strip() for name in weights.split(",") if name.strip()]
        images = AutoImageClassifier(time_left(seconds, started), weights=names, **options)
        of_tables: dict[str, object] = {"--task": task, "--time-column": time_column, "--weight": weight}
        of_tables |= {"--test": test, "--gap": gap, "--embargo": embargo, "--max-train-size": max_train_size}
        of_tables |= {"--test-size": test_size, "--lags": lags, "--lag-of": lag_of, "--lag-by": lag_by}
        of_tables |= {"--positive": positive, "--type": types, "--date-format": date_formats, "--ignore": ignore}
        of_tables |= {"--id": id_column, "--keep-ids": keep_ids or None}
        _refuse_options(of_tables, "tables, whose TRAIN has a --target")
        images.fit(train, groups=_image_groups(train, groups), valid=valid)
        _print_result(images, out, as_json, report)
        return
    _refuse_options({"--valid": valid, "--weights": weights}, "images, whose TRAIN has no --target")
    from windvane import AutoClassifier, AutoRegressor
    from windvane.data.files import read_frame
    from windvane.errors import InputError

    in_time = {"gap": gap, "embargo": embargo, "max_train_size": max_train_size, "test_size": test_size}
    split = _time_split(time_column, in_time, lags)
    table = read_frame(train)
    X, y = take_target(table, target)
    X, columns = take_columns(X, {"--groups": groups, "--weight": weight})
    warn_of_missing_labels(train, table, {"--target": target, "--groups": [] if groups is None else [groups]})
    if time_column is not None:
        check_column("--time-column", time_column, X)
    X_test: pd.DataFrame | None = None
    y_test: Any = None
    if test is not None:
        X_test, y_test = take_target(read_like(test, table), target)
    kind = AutoClassifier if _choose_task(task, y, quiet) == "classification" else AutoRegressor
    if positive is not None and kind is AutoRegressor:
        raise InputError(f"--positive={positive!r} is for two classes, but a number is learned.")
    if positive is not None:
        options["positive_class"] = positive
    model = kind(time_left(seconds, started), keep_ids=keep_ids, **options)
    model.fit(
        X,
        y,
        groups=columns.get("--groups"),
        time=time_column,
        split=split,
        lags=_read_lags(lags, lag_of, lag_by),
        sample_weight=columns.get("--weight"),
        X_test=X_test,
        y_test=y_test,
        ignore=ignore,
        id_columns=id_column,
        column_types=read_pairs("--type", types) or None,
        date_formats=read_pairs("--date-format", date_formats) or None,
    )
    _print_result(model, out, as_json, report)


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
    import pandas as pd

    from windvane import AutoClassifier, AutoImageClassifier, AutoRegressor
    from windvane.data.files import read_frame
    from windvane.errors import InputError
    from windvane.runtime.conformal import check_coverage, join_labels
    from windvane.runtime.rows_to_predict import describe_errors, predict_rows, read_rows

    wanted = {"--proba": proba, "--interval": interval is not None, "--set": class_set is not None}
    given = [option for option, is_given in wanted.items() if is_given]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} do not go together. Allowed: one of them.")
    for option, coverage in (("--interval", interval), ("--set", class_set)):
        if coverage is not None:
            check_coverage(coverage, option)
    _check_output(out, {"DATA": table})
    if holds_network(run):
        _refuse_options({"--interval": interval, "--set": class_set}, "searches, but RUN is one of a network")
        from windvane import vision
        from windvane.data.images import read_unlabelled
        from windvane.vision.training.device import find_device

        network = vision.load_model(run, str(find_device(device, "auto").device))
        _write_predictions(vision.prediction_table(network, read_unlabelled(table), proba=proba), out, as_json)
        return
    _refuse_options({"--device": device}, "runs of networks, but RUN is one of a search")
    model: Any = open_model(run, quiet=quiet)
    if interval is not None or class_set is not None:
        model.predictor_.check_one_target("--set" if interval is None else "--interval")
    if interval is not None and not isinstance(model, AutoRegressor):
        raise InputError(f"--interval is for numbers, but {str(run)!r} predicts classes. Allowed: --set.")
    if isinstance(model, AutoImageClassifier):
        found = model.prediction_table(table, proba=proba)
        if class_set is not None:
            found["set"] = join_labels(model.predict_set(table, class_set), model.classes_)
        _write_predictions(found, out, as_json)
        return
    if proba and not isinstance(model, AutoClassifier):
        raise InputError(f"--proba is for classes, but {str(run)!r} predicts a number.")
    if class_set is not None and not isinstance(model, AutoClassifier):
        raise InputError(f"--set is for classes, but {str(run)!r} predicts a number. Allowed: --interval.")
    predictor: Predictor = model.predictor_
    X, faults = read_rows(table, predictor.schema.text_columns, read_frame)

    def predict_frame(frame: pd.DataFrame) -> pd.DataFrame:
        if predictor.targets is not None:
            return predictor.probability_columns(frame) if proba else predictor.prediction_columns(frame)
        if proba:
            return pd.DataFrame(model.predict_proba(frame), columns=predictor.class_names)
        predicted = pd.DataFrame({"prediction": model.predict(frame)})
        if interval is not None:
            predicted["lower"], predicted["upper"] = model.predict_interval(frame, interval).T
        if class_set is not None:
            predicted["set"] = join_labels(model.predict_set(frame, class_set), model.classes_)
        return predicted

    found = predict_rows(predict_frame, predictor.schema, X, faults)
    if "error" in found:
        typer.echo(f"windvane: warning: {describe_errors(found)}", err=True)
    _write_predictions(found, out, as_json)


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
    print_result(record, _as_text(board, metric), as_json=as_json)


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


def resume(
    run: Run,
    time: Time,
    n_trials: Annotated[int | None, typer.Option(help="Limit on the trials that are added.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Continue a run for some more time."""
    started, seconds = monotonic(), parse_time(time)
    model = open_model(run, quiet=quiet)
    model.resume(time_left(seconds, started), n_trials=n_trials)
    _print_result(model, run, as_json)


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
        if target:
            X, y = take_target(X, target)
        elif not quiet:
            typer.echo(
                f"windvane: without --target there is no score on {test}; the report compares its columns alone",
                err=True,
            )
    page = model.report(out, X, y)
    print_result({"page": page}, page, as_json=as_json)


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


def _refuse_options(given: Mapping[str, object], whose: str) -> None:
    """Raise InputError if one of the options was given: they are for other data."""
    from windvane.errors import InputError

    for option, value in given.items():
        if value is not None:
            raise InputError(f"{option} is for {whose}.")


def _time_split(time_column: str | None, given: dict[str, str | None], lags: str | None) -> TimeSplit | None:
    """Return the validation in order of time that --gap, --embargo and their like describe; None without them."""
    from windvane.data.series.time_split import TimeSplit
    from windvane.errors import InputError

    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if time_column is None and (options or lags is not None):
        option = next(iter(options), "lags").replace("_", "-")
        raise InputError(f"--{option} orders rows by time, but --time-column is missing.")
    return TimeSplit(**options) if options else None


def _read_lags(lags: str | None, of: list[str] | None, by: list[str] | None) -> Lags | None:
    """Return the lags of --lags, --lag-of and --lag-by; None without --lags."""
    from windvane.data.series.lags import Lags
    from windvane.errors import InputError

    if lags is None:
        if of or by:
            raise InputError(f"--lag-{'of' if of else 'by'} is for --lags, which is missing.")
        return None
    steps = [step.strip() for step in lags.split(",")]
    if not all(step.isdecimal() for step in steps):
        raise InputError(f"--lags={lags!r} is not usable. Allowed: whole numbers from 1, as in 1,7.")
    return Lags([int(step) for step in steps], of=of or None, by=by or None)


def _image_groups(images: Path, groups: str | None) -> Any:
    """Return a column of a table of images as it is; else a function that finds what a pattern matches in a name."""
    import re

    from windvane.data.files import READABLE
    from windvane.errors import InputError

    if groups is None or images.name.lower().endswith(READABLE):
        return groups
    try:
        pattern = re.compile(groups)
    except re.error as error:
        raise InputError(f"--groups={groups!r} is not a pattern: {error}.") from error
    names = (file.relative_to(images).as_posix() for file in images.rglob("*") if file.is_file())
    if images.is_dir() and not any(map(pattern.search, names)):
        raise InputError(f"--groups={groups!r} matches no name of a file in {images}. Allowed: a pattern that does.")

    def group_of(name: str) -> str:
        found = pattern.search(name)
        return name if found is None else "|".join(part or "" for part in (found.groups() or (found.group(),)))

    return group_of


def _choose_task(task: str | None, target: Any, quiet: bool) -> str:
    """Return the task of --task, or infer it from the target and print it."""
    from windvane.data.target import infer_task
    from windvane.errors import InputError, check_choice

    if task is not None:
        check_choice("--task", task, ("classification", "regression"))
        return task
    if target.ndim == 2:
        found = {str(name): infer_task(target[name])[0] for name in target}
        if len(set(found.values())) > 1:
            each = ", ".join(f"{name}: {one}" for name, one in found.items())
            raise InputError(f"The columns of --target are of two tasks ({each}). Allowed: one of them, or --task.")
        task = next(iter(found.values()))
        if not quiet:
            typer.echo(f"windvane: {task} of {target.shape[1]} targets; --task says otherwise", err=True)
        return task
    task, reason = infer_task(target)
    if not quiet:
        typer.echo(f"windvane: {task}, as the target has {reason}; --task says otherwise", err=True)
    return task


def _print_result(model: AutoEstimator, run: Path, as_json: bool, with_report: bool = False) -> None:
    from windvane.evaluation.evaluation import records
    from windvane.evaluation.score_text import natural_score, score_text
    from windvane.pages.texts import counted

    metric, ensemble = model.predictor_.metric, model.predictor_.ensemble
    scores = {"validation_score": metric.score(ensemble.loss)}
    if hasattr(model, "test_score_"):
        scores["test_score"] = natural_score(metric, model.test_score_)
    board = model.leaderboard()
    if as_json:
        record = {"run": run, "metric": metric.name, **scores, "members": len(ensemble.members)}
        page = {"page": model.report(run / "report.html")} if with_report else {}
        print_json({**record, "trials": records(board.reset_index()), **page})
        return
    typer.echo(_as_text(board.head(LEADERBOARD_ROWS), metric))
    trials = counted(len(ensemble.members), "trial")
    validation = score_text(metric, scores["validation_score"])
    typer.echo(f"validation {validation} of the ensemble of {trials}, which it selected")
    if "test_score" in scores:
        about = f" ({metric.name} of {model.positive_class_})" if metric.uses_positive else ""
        typer.echo(f"test {score_text(metric, scores['test_score'])} on rows that chose nothing{about}")
    typer.echo(f"kept in {run}")
    if with_report:
        typer.echo(f"report: {model.report(run / 'report.html')}")


def _as_text(board: pd.DataFrame, metric: Metric) -> str:
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
