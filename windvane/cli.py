"""The shell commands: each parses its options, calls the library and prints.

Results go to the standard output, everything else to the standard error stream. What windvane has to complain of is
one message there and exit code 2. The library is imported inside the commands, so that help comes at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    import pandas as pd

    from windvane import AutoClassifier, AutoRegressor

BEST_ROWS = 10  # of the leaderboard, after a search
TASKS = ("classification", "regression")

# What was renamed: commands and options of image runs that people may still type.
RENAMED = {
    "transfer": "finetune",
    "--rate": "--learning-rate",
    "--batch": "--batch-size",
    "--size": "--image-size",
}


class Commands(TyperGroup):
    """Accepts the old names of commands and options, with one line that names the new one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Replace old names before the command is looked up."""
        if args and args[0] in ("train", "finetune", "transfer"):
            args = [_new_name(arg) if i == 0 or arg.startswith("--") else arg for i, arg in enumerate(args)]
        return super().resolve_command(ctx, args)


def _new_name(word: str) -> str:
    name, equals, value = word.partition("=")
    if name not in RENAMED:
        return word
    typer.echo(f"windvane: {name} is now called {RENAMED[name]}", err=True)
    return f"{RENAMED[name]}{equals}{value}"


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find the best ensemble of models for a table within a time budget.",
)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run, or a saved model.")]
Time = Annotated[str, typer.Option(help="How long to search: seconds, or as in 60s, 10m, 1h30m.")]
Images = Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder with a folder for each class, or a table.")]
Device = Annotated[str | None, typer.Option(help="Such as cpu or cuda:1; by default a GPU if there is one.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]


def main() -> None:
    """Run the command line."""
    warnings.formatwarning = lambda message, *_: f"windvane: warning: {message}\n"
    app(prog_name="windvane")


@app.command()
def fit(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help="CSV (also .gz), Parquet, Feather or ARFF.")],
    *,
    target: Annotated[str, typer.Option(help="Column to learn.")],
    out: Annotated[Path, typer.Option(help="Directory of the run; an earlier run of the same is gone on with.")],
    time: Time = "10m",
    task: Annotated[str | None, typer.Option(help="classification or regression; guessed from the target.")] = None,
    metric: Annotated[str, typer.Option(help="What to optimise, as in roc_auc, log_loss, rmse.")] = "auto",
    policy: Annotated[str, typer.Option(help="How to validate, as in holdout, cv5, cv5-halving.")] = "auto",
    families: Annotated[str | None, typer.Option(help="Families of models, as in lightgbm,catboost.")] = None,
    portfolio: Annotated[Path | None, typer.Option(help="Configurations to evaluate first: an own portfolio.")] = None,
    jobs: Annotated[int, typer.Option(help="Worker programs; -1 for all cores.")] = -1,
    memory: Annotated[int | None, typer.Option(help="Limit for all workers together, in MB.")] = None,
    seed: Annotated[int | None, typer.Option(help="Root of all randomness.")] = None,
    test: Annotated[Path | None, typer.Option(help="Rows the search does not see, for an unbiased score.")] = None,
    groups: Annotated[str | None, typer.Option(help="Column: rows of one value stay in one fold.")] = None,
    time_column: Annotated[str | None, typer.Option(help="Column: later rows validate earlier ones.")] = None,
    weight: Annotated[str | None, typer.Option(help="Column: how much a row counts.")] = None,
    quiet: Quiet = False,
) -> None:
    """Search for the best ensemble and keep it in a directory.

    The columns of --groups, --time-column and --weight are not learned from.
    """
    with _complaints():
        from windvane import AutoClassifier, AutoRegressor
        from windvane.data.files import read_frame
        from windvane.settings import parse_seconds

        named = {"--target": target, "--groups": groups, "--time-column": time_column, "--weight": weight}
        X, columns = _take_columns(read_frame(train), named)
        X_test, test_columns = (None, {}) if test is None else _take_columns(read_frame(test), {"--target": target})
        kind = AutoClassifier if _choose_task(task, columns["--target"], quiet) == "classification" else AutoRegressor
        model = kind(
            parse_seconds(time, "--time"),
            metric=metric,
            n_jobs=jobs,
            memory_limit=memory,
            policy=policy,
            families=None if families is None else [name.strip() for name in families.split(",")],
            portfolio=portfolio,
            run_dir=out,
            random_state=seed,
            verbose=0 if quiet else 1,
        )
        model.fit(
            X,
            columns["--target"],
            groups=columns.get("--groups"),
            time=columns.get("--time-column"),
            sample_weight=columns.get("--weight"),
            X_test=X_test,
            y_test=test_columns.get("--target"),
        )
        _print_result(model, out)
        if test is not None:
            typer.echo(f"score on {test}, which chose nothing: {model.test_score_:.5g}")


@app.command()
def train(
    images: Images,
    *,
    out: Annotated[Path | None, typer.Option(help="Directory of the run.")] = None,
    model: Annotated[str, typer.Option(help="Any network of timm, or ViT-Lite and CCT of windvane.")] = "vit_lite_7_4",
    recipe: Annotated[str | None, typer.Option(help="Named recipe, instead of --model and its settings.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Width and height in pixels; else as the network.")] = None,
    epochs: Annotated[float, typer.Option(help="Passes over the images.")] = 50.0,
    time: Annotated[str | None, typer.Option(help="Time budget instead of epochs, such as 10m.")] = None,
    augreg: Annotated[str | None, typer.Option(help="AugReg level; by default the advised one.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    flip: Annotated[bool, typer.Option(help="Flip half of the images left to right.")] = True,
    fisher_penalty: Annotated[float | None, typer.Option(help="Alpha of the Fisher Penalty, such as 0.01.")] = None,
    track_fisher: Annotated[bool | None, typer.Option("--track-fisher", help="Measure the Fisher trace.")] = None,
    fisher_reference: Annotated[
        str | None, typer.Option(help="A good run with --track-fisher to compare with.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Root of all randomness.")] = 0,
    device: Device = None,
    advise: Annotated[bool, typer.Option("--advise", help="Print advised settings and reasons, and exit.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in --out.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a network on images: a folder with a folder for each class, or a table of them."""
    with _complaints(), _interruptible():
        from windvane import vision
        from windvane.data.images import read_images
        from windvane.settings import parse_seconds

        data = read_images(images)
        if recipe is not None:
            chosen = vision.load_recipe(recipe).recipe
        else:
            chosen = vision.default_recipe(
                model,
                data,
                image_size=image_size,
                epochs=epochs,
                time_budget=None if time is None else parse_seconds(time, "--time"),
                batch_size=batch_size,
                learning_rate=learning_rate,
                horizontal_flip=flip,
                augreg=augreg,
                seed=seed,
            )
        if advise:
            typer.echo(vision.format_advice(chosen, data.train))
            return
        asked = {"fisher_penalty": fisher_penalty, "fisher_reference": fisher_reference, "track_fisher": track_fisher}
        chosen = replace(chosen, **{k: v for k, v in asked.items() if v is not None})  # type: ignore[arg-type]
        trained = vision.train(chosen, data, out=_given(out), resume=resume, device=device, quiet=quiet)
        typer.echo(f"page: {vision.write_report(trained, data)}\n{vision.format_result(trained)}")


@app.command()
def finetune(
    images: Images,
    *,
    weights: Annotated[str, typer.Option(help="efficientnet_lite0 to 2, timm, a file, or a run directory.")],
    out: Annotated[Path, typer.Option(help="Directory of the run.")],
    model: Annotated[str | None, typer.Option(help="Network of the weights, if they do not determine it.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Largest width and height in pixels.")] = None,
    time: Annotated[str | None, typer.Option(help="Such as 5m; by default 10m on a CPU, 500 steps on a GPU.")] = None,
    seed: Annotated[int, typer.Option(help="Root of all randomness.")] = 0,
    device: Device = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in --out.")] = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune pre-trained weights on images."""
    with _complaints(), _interruptible():
        from windvane import vision
        from windvane.data.images import read_images
        from windvane.settings import parse_seconds

        budget = vision.default_time_budget(device) if time is None else parse_seconds(time, "--time")
        recipe = vision.finetune_recipe(weights, model=model, image_size=image_size, time_budget=budget, seed=seed)
        data, run = read_images(images), vision.train if budget is None else vision.finetune_timed
        trained = run(recipe, data, out=out, resume=resume, device=device, quiet=quiet)
        typer.echo(f"page: {vision.write_report(trained, data)}\n{vision.format_result(trained)}")


@app.command()
def predict(
    run: Run,
    table: Annotated[Path, typer.Argument(metavar="DATA", help="Rows with the columns of training, or images.")],
    out: Annotated[Path, typer.Option(help="File to write: CSV, Parquet or Feather.")],
    proba: Annotated[bool, typer.Option("--proba", help="A column of probabilities for each class.")] = False,
    device: Device = None,
) -> None:
    """Predict the rows of a table, or images where the run is one of a network."""
    with _complaints():
        import pandas as pd

        from windvane import AutoClassifier, load
        from windvane.data.files import read_frame, write_frame
        from windvane.errors import InputError

        if _holds_network(run):
            from windvane import vision
            from windvane.data.images import read_unlabelled
            from windvane.vision.device import find_device

            network = vision.load_model(run, str(find_device(device, "auto").device))
            write_frame(vision.prediction_table(network, read_unlabelled(table), proba=proba), out)
            return
        model, X = load(run), read_frame(table)
        if not proba:
            frame = pd.DataFrame({"prediction": model.predict(X)})
        elif isinstance(model, AutoClassifier):
            frame = pd.DataFrame(model.predict_proba(X), columns=[str(label) for label in model.classes_])
        else:
            raise InputError(f"--proba is for classes, but {str(run)!r} predicts a number.")
        write_frame(frame, out)


@app.command()
def leaderboard(
    run: Run, as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one record a trial.")] = False
) -> None:
    """Print every trial of a run, the best first."""
    with _complaints():
        from windvane import load

        board = load(run).leaderboard()
        typer.echo(board.reset_index().to_json(orient="records", indent=2) if as_json else _as_text(board))


@app.command()
def export(run: Run, out: Annotated[Path, typer.Option(help="Folder to write; nothing is written over.")]) -> None:
    """Write a folder that predicts without windvane."""
    with _complaints():
        if _holds_network(run):
            from windvane import vision
            from windvane.export.image_model import export_image_model

            export_image_model(vision.load_model(run), out)
        else:
            from windvane import load

            load(run).export(out)
        typer.echo(f"exported to {out}; see its README.txt")


@app.command()
def resume(run: Run, time: Time, quiet: Quiet = False) -> None:
    """Go on with a run for some more time."""
    with _complaints():
        from windvane import load
        from windvane.settings import parse_seconds

        seconds = parse_seconds(time, "--time")
        model = load(run)
        model.set_params(verbose=0 if quiet else 1)
        model.resume(seconds)
        _print_result(model, run)


@app.command()
def report(
    run: Run,
    out: Annotated[Path, typer.Option(help="Page to write; ends in .html.")] = Path("report.html"),
    test: Annotated[Path | None, typer.Option(help="Rows the search did not see, for an unbiased score.")] = None,
    target: Annotated[str | None, typer.Option(help="Column of --test that was learned.")] = None,
) -> None:
    """Write one self-contained page on a run."""
    with _complaints():
        from windvane import load
        from windvane.data.files import read_frame
        from windvane.errors import InputError

        if (test is None) != (target is None):
            raise InputError("--test and --target belong together; only one of them was given.")
        X, columns = (None, {}) if test is None else _take_columns(read_frame(test), {"--target": target})
        typer.echo(load(run).report(out, X, columns.get("--target")))


@app.command("inspect")
def inspect_networks(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of timm, NAME=FILE with its weights, or a run.")],
    others: Annotated[
        list[str], typer.Argument(metavar="[MODEL2] IMAGES", help="A second network; a folder of images.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="Page to write; ends in .html.")] = Path("inspect.html"),
    n_images: Annotated[int, typer.Option(help="Images, drawn at random.")] = 256,
    untrained: Annotated[bool, typer.Option("--untrained", help="Random weights where no file is named.")] = False,
    layers: Annotated[list[str] | None, typer.Option(help="Layers of the matrices: glob or kind (residual).")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images at a time; default: of each analysis.")] = None,
    repeats: Annotated[int, typer.Option(help="Draws of half of the images, for intervals.")] = 1,
    device: Annotated[str, typer.Option(help="As torch names it.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Root of all randomness.")] = 0,
) -> None:
    """Inspect one or two networks on a folder of images, and write one page."""
    with _complaints():
        from windvane.errors import InputError
        from windvane.inspect.report.inspection import InspectionSettings, write_inspection_page

        *second, folder = others
        if len(second) > 1:
            raise InputError(f"{1 + len(second)} networks were named. Allowed: one or two, then a folder of images.")
        chosen = tuple(layers) if layers else "*"
        settings = InspectionSettings(n_images, chosen, batch_size or "auto", repeats, device, not untrained, seed)
        typer.echo(write_inspection_page([model, *second], folder, out, settings))


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Answer the options that come before a command."""
    if version:
        from windvane.version import VERSION

        typer.echo(f"windvane {VERSION}")
        raise typer.Exit


@contextmanager
def _complaints() -> Iterator[None]:
    """Turn what windvane raises on purpose into one message and exit code 2."""
    from windvane.errors import WindvaneError

    try:
        yield
    except WindvaneError as error:
        typer.echo(f"windvane: {error}", err=True)
        raise typer.Exit(2) from error


@contextmanager
def _interruptible() -> Iterator[None]:
    """Make Ctrl-C and SIGTERM one message and exit code 130; what was kept stays."""
    import signal

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as stop:
        typer.echo(f"windvane: {stop or 'stopped'}", err=True)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _take_columns(frame: pd.DataFrame, named: dict[str, str | None]) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """Take columns (option -> name, None where it was not given) out of a table: the rest, and option -> column."""
    from windvane.errors import unknown

    given = {option: name for option, name in named.items() if name is not None}
    for option, name in given.items():
        if name not in frame.columns:
            raise unknown(option, name, map(str, frame.columns))
    return frame.drop(columns=list(given.values())), {option: frame[name] for option, name in given.items()}


def _choose_task(task: str | None, target: pd.Series, quiet: bool) -> str:
    """Take the task that was asked for, or guess it and say so."""
    from windvane.data.target import infer_task
    from windvane.errors import unknown

    if task is None:
        task, reason = infer_task(target)
        if not quiet:
            typer.echo(f"windvane: {task}, as the target has {reason}; --task says otherwise", err=True)
    elif task not in TASKS:
        raise unknown("--task", task, TASKS)
    return task


def _print_result(model: AutoClassifier | AutoRegressor, run: Path) -> None:
    typer.echo(_as_text(model.leaderboard().head(BEST_ROWS)))
    typer.echo(f"kept in {run}")


def _holds_network(run: Path) -> bool:
    """Whether a run is one of a network; torch is loaded for these alone."""
    import json

    try:
        return bool(json.loads((run / "manifest.json").read_text(encoding="utf-8"))["kind"] == "image_model")
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _given(out: Path | None) -> Path:
    from windvane.errors import InputError

    if out is None:
        raise InputError("--out is missing: the directory of the run.")
    return out


def _as_text(board: pd.DataFrame) -> str:
    return board.reset_index().to_string(index=False, float_format=lambda value: f"{value:.5g}")


portfolio_app = typer.Typer(
    no_args_is_help=True, help="Learn which configurations to evaluate first, from tables of your own."
)
app.add_typer(portfolio_app, name="portfolio")


@portfolio_app.command("collect")
def collect_cells(
    tables: Annotated[Path, typer.Argument(metavar="TABLES", help="Folder of tables of the kind you often have.")],
    *,
    out: Annotated[Path, typer.Option(help="File of results, as in cells.jsonl; continued if it exists.")],
    target: Annotated[str | None, typer.Option(help="Column to learn, in every table; the last one if absent.")] = None,
    time: Annotated[str, typer.Option(help="How long to collect: seconds, or as in 30m, 8h.")] = "8h",
    jobs: Annotated[int, typer.Option(help="Processes; -1 for all cores.")] = -1,
    max_rows: Annotated[int, typer.Option(help="Rows of a table that are used at most.")] = 10_000,
    quiet: Quiet = False,
) -> None:
    """Evaluate many configurations on every table; `windvane portfolio build` learns from the results."""
    with _complaints():
        from time import monotonic

        from windvane.metalearning.candidates import GUESSES
        from windvane.metalearning.collect import CollectSettings, collect
        from windvane.metalearning.learn import find_tables
        from windvane.settings import parse_seconds, resolve_jobs

        until = monotonic() + parse_seconds(time, "--time")
        sources = find_tables(tables, target, max_rows)
        settings = CollectSettings(cache=_predictions_folder(out))
        added = collect(sources, GUESSES, settings, out, workers=resolve_jobs(jobs), until=until, quiet=quiet)
        typer.echo(f"{added} results of {len(GUESSES)} configurations on {len(sources)} tables added to {out}")


@portfolio_app.command("build")
def build_portfolio(
    cells: Annotated[Path, typer.Argument(metavar="CELLS", help="File that `windvane portfolio collect` made.")],
    *,
    out: Annotated[Path, typer.Option(help="Portfolio, as in own.json; `fit --portfolio own.json` uses it.")],
    size: Annotated[int, typer.Option(help="Configurations of each task kind.")] = 20,
) -> None:
    """Order configurations so that the ensemble is as good as possible at any time."""
    with _complaints():
        from windvane.metalearning.learn import complete_tables, entries_of, learn_portfolio
        from windvane.metalearning.portfolio import BuildPlan
        from windvane.metalearning.replay import read_replays
        from windvane.search.portfolio import write_portfolio

        tables = complete_tables(read_replays(cells, _predictions_folder(cells)))
        learned = learn_portfolio(tables, [], entries_of(cells), BuildPlan(size=size))
        write_portfolio(out, learned.cases, learned.made)
        for case in learned.cases:
            rows = "" if case.max_rows is None else f", up to {case.max_rows:,} rows"
            typer.echo(f"{' and '.join(case.kinds)}{rows}: {len(case.entries)} configurations")
        typer.echo(f"{out}: {learned.made}")


def _predictions_folder(cells: Path) -> Path:
    return cells.with_name(f"{cells.stem}_predictions")
