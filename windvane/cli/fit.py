"""The commands `fit` and `resume`: searches over tables and images."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from windvane.cli.common import (
    AsJson,
    DateFormats,
    Ignore,
    Quiet,
    Run,
    Task,
    Time,
    Types,
    check_column,
    check_roles,
    open_model,
    parse_time,
    print_json,
    read_like,
    read_pairs,
    refuse_options,
    take_columns,
    take_target,
    time_left,
    warn_of_missing_labels,
)
from windvane.cli.results import leaderboard_text

if TYPE_CHECKING:
    import pandas as pd

    from windvane.automl.loading import AutoEstimator
    from windvane.data.series.lags import Lags
    from windvane.data.series.time_split import TimeSplit


LEADERBOARD_ROWS = 10  # printed after a search


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
        refuse_options(of_tables, "tables, whose TRAIN has a --target")
        images.fit(train, groups=_image_groups(train, groups), valid=valid)
        _print_result(images, out, as_json, report)
        return
    refuse_options({"--valid": valid, "--weights": weights}, "images, whose TRAIN has no --target")
    from windvane import AutoClassifier, AutoRegressor
    from windvane.data.files import read_frame
    from windvane.errors import InputError

    in_time = {"gap": gap, "embargo": embargo, "max_train_size": max_train_size, "test_size": test_size}
    split = _time_split(time_column, in_time, lags)
    forms = {"--type": read_pairs("--type", types), "--date-format": read_pairs("--date-format", date_formats)}
    named = {"--time-column": time_column, "--ignore": ignore, "--id": id_column, **forms}
    of_lags = {"--lag-by": lag_by, "--lag-of": lag_of}
    check_roles({"--target": target}, {"--groups": groups, "--weight": weight, **named, "--lag-by": lag_by})
    check_roles({"--weight": weight}, {"--groups": groups, **named, **of_lags})
    check_roles({"--groups": groups}, named)  # groups may be series, too
    table = read_frame(train)
    X, y = take_target(table, target)
    X, columns = take_columns(X, {"--weight": weight})
    for option, name in (("--groups", groups), ("--time-column", time_column)):
        if name is not None:
            check_column(option, name, X)
    for option, names in of_lags.items():
        for name in names or ():
            check_column(option, name, table)
    warn_of_missing_labels(train, table, {"--target": target, "--groups": groups})
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
        groups=groups,
        time=time_column,
        split=split,
        lags=_read_lags(lags, lag_of, lag_by),
        sample_weight=columns.get("--weight"),
        X_test=X_test,
        y_test=y_test,
        ignore=ignore,
        id_columns=id_column,
        column_types=forms["--type"] or None,
        date_formats=forms["--date-format"] or None,
    )
    _print_result(model, out, as_json, report)


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
    typer.echo(leaderboard_text(board.head(LEADERBOARD_ROWS), metric))
    trials = counted(len(ensemble.members), "trial")
    validation = score_text(metric, scores["validation_score"])
    typer.echo(f"validation {validation} of the ensemble of {trials}, which it selected")
    if "test_score" in scores:
        about = f" ({metric.name} of {model.positive_class_})" if metric.uses_positive else ""
        typer.echo(f"test {score_text(metric, scores['test_score'])} on rows that chose nothing{about}")
    typer.echo(f"kept in {run}")
    if with_report:
        typer.echo(f"report: {model.report(run / 'report.html')}")
