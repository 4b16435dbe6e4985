"""Commands for a model that is there: evaluate it, choose its threshold, calibrate its probabilities."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from windvane.cli.common import (
    AsJson,
    Duration,
    Quiet,
    Run,
    Target,
    open_model,
    parse_time,
    print_result,
    read_labelled,
    read_pairs,
)

if TYPE_CHECKING:
    from windvane import AutoClassifier, AutoImageClassifier

Data = Annotated[
    Path | None,
    typer.Option(help="Labelled rows or images to learn from; by default the validation rows of the run."),
]


def evaluate(
    run: Run,
    table: Annotated[Path, typer.Argument(metavar="DATA", help="Rows with their target, or labelled images.")],
    *,
    target: Target = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Column whose segments are scored one by one; repeatable.")
    ] = None,
    weight: Annotated[str | None, typer.Option(help="Column with the weights of the rows.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Metric in place of the usual ones; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Page to write as well; ends in .html.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Print how well a model predicts rows with a known target."""
    from windvane.pages.html_builder import check_path

    if out is not None:
        check_path(out)
    model: Any = open_model(run, quiet=quiet)
    X, y, sample_weight = read_labelled(model, table, target, weight)
    found = model.evaluate(X, y, by=by, sample_weight=sample_weight, metrics=metric)
    page = {} if out is None else {"page": found.report(out)}
    print_result({**found.to_dict(), **page}, found, as_json=as_json)
    if page and not (as_json or quiet):
        typer.echo(f"page: {page['page']}", err=True)


def importance(
    run: Run,
    table: Annotated[
        Path, typer.Argument(metavar="DATA", help="Rows with their target, best rows that were not trained on.")
    ],
    *,
    target: Annotated[list[str], typer.Option(help="Column of the target, repeated for several.")],
    group: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COLUMN,COLUMN", help="Columns that count as one, as in place=zip,city; repeatable."),
    ] = None,
    correlated: Annotated[
        bool,
        typer.Option("--correlated", help="Numbers and dates with rank correlations of 0.8 and more count as one."),
    ] = False,
    drop: Annotated[
        bool, typer.Option("--drop", help="Train again without each column, instead of shuffling it.")
    ] = False,
    repeats: Annotated[int, typer.Option(help="Shuffles of each column.")] = 5,
    time: Duration = "1m",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Print how much the score drops when a column, or a group of columns, is shuffled or left out."""
    from windvane.errors import InputError, check_integer
    from windvane.evaluation.evaluation import records

    if group and correlated:
        raise InputError("--group and --correlated do not go together. Allowed: one of them.")
    check_integer("--repeats", repeats)
    groups = {name: columns.split(",") for name, columns in read_pairs("--group", group).items()}
    model: Any = open_model(run, quiet=quiet)
    X, y, _ = read_labelled(model, table, target)
    found = model.feature_importance(
        X,
        y,
        n_repeats=repeats,
        time_budget=parse_time(time),
        groups="correlated" if correlated else groups or None,
        method="drop" if drop else "shuffle",
    )
    record = {"metric": model.predictor_.metric.name, "columns": records(found.reset_index())}
    print_result(record, found.to_string(float_format=lambda value: f"{value:.5g}"), as_json=as_json)


def threshold(
    run: Run,
    *,
    metric: Annotated[str | None, typer.Option(help="Best for a metric of labels, as in f1.")] = None,
    precision: Annotated[float | None, typer.Option(help="Highest recall with at least this precision.")] = None,
    recall: Annotated[float | None, typer.Option(help="Highest precision with at least this recall.")] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(metavar="TRUE:PREDICTED=COST", help="Cost of an error; repeatable. Other errors cost 1."),
    ] = None,
    value: Annotated[float | None, typer.Option(help="Threshold to set: a probability of the positive class.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Predict the most probable class again.")] = False,
    data: Data = None,
    target: Target = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Choose the probability above which the positive class is predicted, and keep it with the model.

    Each of several labels has a separate threshold. Without an option the current threshold is printed.
    """
    from windvane.automl import keep_decision
    from windvane.errors import InputError

    goals = {"--metric": metric, "--precision": precision, "--recall": recall, "--cost": cost, "--value": value}
    given = [option for option, one in goals.items() if one is not None] + ["--reset"] * reset
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} exclude each other.")
    labelled = [option for option, one in (("--data", data), ("--target", target)) if one is not None]
    if labelled and (not given or reset or value is not None):
        raise InputError(f"{labelled[0]} needs a goal. Allowed: --metric, --precision, --recall or --cost beside it.")
    model = _load_classifier(run, "threshold", quiet)
    if reset or value is not None:
        model.set_threshold(value)
    elif given:
        if cost is not None:
            model.predictor_.check_one_target("--cost")
        X, y, _ = read_labelled(model, data, target)
        costs = None if cost is None else _parse_costs(cost, model.classes_.tolist())
        model.tune_threshold(metric, precision=precision, recall=recall, costs=costs, X=X, y=y)
    if given:
        keep_decision(model, run)
    tuning = model.tuning_ if given else None
    record = {"threshold": model.threshold_} if tuning is None else tuning.to_json()
    text = tuning if tuning is not None and tuning.n_rows else _describe_decision(model)
    print_result(record, text, as_json=as_json)


def calibrate(
    run: Run,
    *,
    method: Annotated[str, typer.Option(help="auto, none, temperature, isotonic or venn_abers.")] = "auto",
    data: Data = None,
    target: Target = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make the probabilities of a model agree with frequencies, and keep that with the model."""
    from windvane.automl import keep_decision

    model = _load_classifier(run, "calibrate", quiet)
    model.predictor_.check_one_target("calibrate")
    X, y, _ = read_labelled(model, data, target)
    found = model.calibrate(method, X=X, y=y)
    keep_decision(model, run)
    print_result(asdict(found), found, as_json=as_json)


def _load_classifier(run: Path, command: str, quiet: bool) -> AutoClassifier | AutoImageClassifier:
    from windvane import AutoRegressor
    from windvane.errors import InputError

    model = open_model(run, quiet=quiet)
    if isinstance(model, AutoRegressor):
        raise InputError(f"{command} is for classes, but {str(run)!r} predicts a number.")
    return model


def _describe_decision(model: AutoClassifier | AutoImageClassifier) -> str:
    """Say how labels follow from probabilities."""
    from windvane.evaluation.decisions.thresholds import threshold_texts

    threshold, ensemble = model.threshold_, model.predictor_.ensemble
    if isinstance(threshold, dict):
        return f"each label is predicted above its probability: {threshold_texts(threshold)}"
    if threshold is not None:
        return f"{model.positive_class_} is predicted above {threshold:.4g}"
    if ensemble.costs is not None:
        return "the class with the least expected cost is predicted"
    if ensemble.decision_weights is not None:
        return "the class with the largest product of probability and factor is predicted"
    return "the most probable class is predicted"


def _parse_costs(given: list[str], labels: list[Any]) -> dict[tuple[str, str], float]:
    """Read TRUE:PREDICTED=COST; labels may hold colons."""
    from windvane.errors import InputError

    pairs = {f"{true}:{predicted}": (str(true), str(predicted)) for true in labels for predicted in labels}
    costs = {}
    for text in given:
        pair, _, cost = text.rpartition("=")
        try:
            costs[pairs[pair]] = float(cost)
        except (KeyError, ValueError) as error:
            known = ", ".join(map(str, labels[:10]))
            raise InputError(
                f"--cost={text!r} is not usable. Allowed: TRUE:PREDICTED=COST with the classes {known}."
            ) from error
    return costs
