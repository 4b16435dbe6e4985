"""What the commands share: types of options, results and errors as text or JSON, old names."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    import pandas as pd

    from windvane.automl.loading import AutoEstimator
    from windvane.runtime.columns.schema import Schema

# Renamed commands and options of image runs that people may still type.
RENAMED = {"transfer": "finetune", "--rate": "--learning-rate", "--batch": "--batch-size", "--size": "--image-size"}

TRACEBACK = "--traceback"  # shows where an error comes from; any command takes it
JSON, QUIET = "--json", "--quiet"  # every command has them, also those that show no progress
# Arguments of Python -> the options that they are in a shell, for messages.
OPTIONS = {
    "coverage": "--interval or --set",
    "by": "--by",
    "column_types": "--type",
    "date_formats": "--date-format",
    "embargo": "--embargo",
    "families": "--families",
    "folder": "--out",
    "gap": "--gap",
    "id_columns": "--id",
    "ignore": "--ignore",
    "label": "--label",
    "lags": "--lags",
    "max_train_size": "--max-train-size",
    "memory_limit": "--memory",
    "method": "--method",
    "metric": "--metric",
    "n_jobs": "--jobs",
    "n_trials": "--n-trials",
    "path": "--out",
    "policy": "--policy",
    "portfolio": "--portfolio",
    "positive_class": "--positive",
    "precision": "--precision",
    "random_state": "--seed",
    "recall": "--recall",
    "run_dir": "--out",
    "sample_weight": "--weight",
    "test_size": "--test-size",
    "threshold": "--value",
    "time": "--time-column",
    "valid": "--valid",
    "weights": "--weights",
}
_ARGUMENT = re.compile(rf"({'|'.join(OPTIONS)})(?=[=\[]| cannot | has | must )")
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # click's, wherever typer has click

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run, or folder of a saved model.")]
Duration = Annotated[str, typer.Option(help="Time to compute at most: seconds, or as in 60s, 10m.")]
Task = Annotated[str | None, typer.Option(help="classification or regression; by default guessed from the target.")]
Ignore = Annotated[list[str] | None, typer.Option(help="Column that is not learned from; repeatable.")]
Time = Annotated[str, typer.Option(help="How long to search: seconds, or as in 60s, 10m, 1h30m.")]
Device = Annotated[str | None, typer.Option(help="Such as cpu or cuda:1; by default a GPU if there is one.")]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="COLUMN=KIND", help="Read a column as number, category, date or text; repeatable."),
]
DateFormats = Annotated[
    list[str] | None,
    typer.Option("--date-format", metavar="COLUMN=FORMAT", help="Format of dates, as in day=%d.%m.%Y; repeatable."),
]
Target = Annotated[list[str] | None, typer.Option(help="Column of the target, repeated for several; not for images.")]
Quiet = Annotated[bool, typer.Option(QUIET, help="Turn progress and remarks off; results, warnings and errors stay.")]
AsJson = Annotated[bool, typer.Option(JSON, help="Print one JSON object, also for an error.")]


class Commands(TyperGroup):
    """Reports the errors of all commands, and accepts old names of commands and options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take --traceback wherever it stands."""
        ctx.meta[JSON] = JSON in args
        if QUIET in args:
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # of weights that timm downloads
        with _report_errors(as_json=ctx.meta[JSON]):
            return list(super().parse_args(ctx, [arg for arg in args if arg != TRACEBACK]))

    def invoke(self, ctx: Any) -> Any:
        with _report_errors(as_json=ctx.meta[JSON]):
            return super().invoke(ctx)

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


@contextmanager
def _report_errors(*, as_json: bool) -> Iterator[None]:
    """Print an error as one message and exit with code 2: of windvane, of files, of memory, of texts.

    What is wrong with a command line is printed here as JSON, else by click. SIGTERM exits with code 143, after
    temporary files are removed.
    """
    from windvane.errors import WindvaneError
    from windvane.runtime.program import describe_error

    try:
        with _exit_on_sigterm():
            yield
    except _UsageError as error:
        if not as_json:
            raise
        print_error("UsageError", error.format_message(), as_json=True)  # type: ignore[attr-defined]
        raise typer.Exit(2) from error
    except BrokenPipeError:  # the reader of the output has ended
        raise
    except (WindvaneError, OSError, MemoryError, UnicodeError, RecursionError) as error:
        if TRACEBACK in sys.argv:
            traceback.print_exc()
        text = _with_options(str(error)) if isinstance(error, WindvaneError) else describe_error(error)
        print_error(type(error).__name__, text, as_json=as_json)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as stop:
        if not as_json:
            raise
        text = " ".join(["ended by Ctrl-C", *getattr(stop, "__notes__", ())])
        print_error("KeyboardInterrupt", text, as_json=True)
        raise typer.Exit(130) from stop
    except SystemExit:
        if as_json:
            print_error("SystemExit", "ended by SIGTERM", as_json=True)
        raise


def _with_options(message: str) -> str:
    """Name the argument that a message begins with as the option that it is in a shell."""
    found = _ARGUMENT.match(message)
    return message if found is None else f"{OPTIONS[found[1]]}{message[found.end() :]}"


def print_error(kind: str, text: str, *, as_json: bool) -> None:
    """Print an error: one message on the standard error stream, or a JSON object on the standard output."""
    if as_json:
        typer.echo(json.dumps({"error": {"type": kind, "message": text}}, indent=2, ensure_ascii=False))
    else:
        typer.echo(f"windvane: {text}", err=True)


def print_json(record: Mapping[str, Any]) -> None:
    """Print a result as one JSON object; numbers that are not finite become null."""
    typer.echo(json.dumps(_to_json(record), indent=2, ensure_ascii=False, allow_nan=False))


def print_result(record: Mapping[str, Any], text: object, *, as_json: bool) -> None:
    """Print a result as one JSON object, or else as a text."""
    if as_json:
        print_json(record)
    else:
        typer.echo(text)


def _to_json(value: Any) -> Any:
    from windvane.evaluation.evaluation import plain_value

    if isinstance(value, Mapping):
        return {str(name): _to_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(one) for one in value]
    return plain_value(value)


def open_model(run: Path, *, quiet: bool) -> AutoEstimator:
    from windvane import load

    model = load(run)
    model.set_params(verbose=0 if quiet else 1)
    return model


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an exit that removes what is temporary, where Python allows it: in the main thread."""
    import signal
    import threading

    def exit_at_once(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, exit_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def read_labelled(
    model: AutoEstimator, data: Path | None, target: list[str] | None, weight: str | None = None
) -> tuple[Any, Any, Any]:
    """Read rows with their target and weights as `evaluate` takes them; of images the source, without data None."""
    from windvane import AutoImageClassifier
    from windvane.data.files import read_frame
    from windvane.errors import InputError

    if data is None:
        if target:
            raise InputError("--target is a column of --data or --test, which was not given.")
        return None, None, None
    if isinstance(model, AutoImageClassifier):
        if target or weight is not None:
            raise InputError("--target and --weight are for tables; images have their labels with them.")
        return data, None, None
    if not target:
        raise InputError(f"--target is missing: the column of {data} that the model predicts.")
    targets = model.predictor_.targets
    if targets is not None and len(target) != len(targets):
        raise InputError(
            f"--target names {', '.join(target)}, but the model has {len(targets)} targets: "
            f"{', '.join(targets.titles)}. Allowed: --target for each of them."
        )
    check_roles({"--target": target}, {"--weight": weight})
    check_not_learned({"--target": target, "--weight": weight}, model.predictor_.schema)
    X = read_frame(data, text_columns(model, target))
    X, y = take_target(X, target)
    X, columns = take_columns(X, {"--weight": weight})
    return X, y, columns.get("--weight")


def text_columns(model: AutoEstimator, target: list[str] | None) -> list[str]:
    """Return the columns that stay texts in a file with the target: those of training, and labels such as 01."""
    predictor = model.predictor_
    labels: list[Any] = [predictor.classes] if predictor.targets is None else list(predictor.targets.values or ())
    are_texts = [isinstance(values.tolist()[0], str) for values in labels if values is not None]
    names = [name for name, is_text in zip(target or (), are_texts, strict=False) if is_text]
    return [*predictor.schema.text_columns, *names]


def read_like(file: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Read a table in which a column is read as text where it is one in another table: 01 stays 01."""
    import pandas as pd

    from windvane.data.files import read_frame

    return read_frame(file, [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name].dtype)])


def warn_of_missing_labels(file: Path, frame: pd.DataFrame, named: Mapping[str, str | list[str] | None]) -> None:
    """Warn of words such as None in columns of labels (option -> their names): they are read as missing."""
    import pandas as pd

    from windvane.data.files import missing_words

    for option, names in named.items():
        for name in _listed(names):
            values = frame[name]
            if pd.api.types.is_numeric_dtype(values.dtype) or not values.isna().any():
                continue
            words = missing_words(file, name)
            if words:
                typer.echo(
                    f"windvane: warning: {option}={name!r}: {int(values.isna().sum()):,} values are read as missing, "
                    f"among them {', '.join(map(repr, words))}. If that is a label, write it in another way, as in "
                    f"'no {name}'.",
                    err=True,
                )


def take_columns(frame: pd.DataFrame, named: dict[str, str | None]) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """Take columns (option -> name, None where it was not given) out of a table: the rest, and option -> column."""
    given = {option: name for option, name in named.items() if name is not None}
    for option, name in given.items():
        check_column(option, name, frame)
    return _without(frame, list(given.values())), {option: frame[name] for option, name in given.items()}


def check_roles(taken: Mapping[str, str | list[str] | None], others: Mapping[str, Any]) -> None:
    """Raise InputError if options name a column that another option has taken out of the table.

    Both map options to names, lists of names, or mappings whose keys are names; None where one was not given.
    """
    from windvane.errors import InputError

    roles = {name: option for option, names in taken.items() for name in _listed(names)}
    for option, names in others.items():
        for name in _listed(names):
            if name in roles:
                raise InputError(f"{option}={name!r} is the column of {roles[name]}, which is no column to learn from.")


def _listed(names: Any) -> list[str]:
    return [] if names is None else [names] if isinstance(names, str) else list(names)


def check_not_learned(taken: Mapping[str, str | list[str] | None], schema: Schema) -> None:
    """Raise InputError if an option takes a column out of a table that the model needs."""
    from windvane.errors import InputError

    kinds = {column.name: column.kind for column in schema.columns}
    needed = [name for name in schema.input_names if schema.named and kinds.get(name) != "dropped"]
    for option, names in taken.items():
        for name in _listed(names):
            if name in needed:
                raise InputError(
                    f"{option}={name!r} is a column that the model was trained on, and is read as such. Allowed: the "
                    "name of another column."
                )


def take_target(frame: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, Any]:
    """Take the column, or the columns, that --target names out of a table: the rest, and a series or a table."""
    from windvane.errors import InputError

    for name in names:
        check_column("--target", name, frame)
        if names.count(name) > 1:
            raise InputError(f"--target={name!r} is there twice.")
    return _without(frame, names), frame[names[0]] if len(names) == 1 else frame[names]


def _without(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    from windvane.errors import InputError

    rest = frame.drop(columns=names)
    if not rest.shape[1]:
        raise InputError(f"The table has no column beside {', '.join(names)}. Allowed: at least one to learn from.")
    return rest


def check_column(option: str, name: str, frame: pd.DataFrame) -> None:
    """Raise InputError if the column that an option names is not there."""
    from windvane.errors import InputError, unknown_name_error

    if name not in frame.columns:
        error = unknown_name_error(option, name, map(str, frame.columns))
        unnamed = sum(str(column).startswith("Unnamed: ") for column in frame.columns)  # so called by pandas
        if unnamed > 1:  # one is that of row numbers
            error = InputError(
                f"{error} The first line has no name for {unnamed} columns; if the names stand further down, delete "
                "the lines above them."
            )
        raise error


def parse_time(time: str) -> float:
    """Read the option --time."""
    from windvane.settings import parse_seconds

    return parse_seconds(time, "--time")


def time_left(seconds: float, started: float) -> float:
    """Return what is left of --time for a search, at least half: the imports and the reading before it count, too."""
    return max(round(seconds - (monotonic() - started), 1), seconds / 2)


def holds_network(run: Path) -> bool:
    """Whether a run is that of a network; torch is loaded for these alone."""
    try:
        return bool(json.loads((run / "manifest.json").read_text(encoding="utf-8"))["kind"] == "image_model")
    except (OSError, ValueError, LookupError, TypeError):
        return False


def read_pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """Read an option of the form COLUMN=VALUE that may be repeated."""
    from windvane.errors import InputError

    pairs = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InputError(f"{option}={text!r} is not usable. Allowed: COLUMN=VALUE.")
        pairs[name] = value
    return pairs


def refuse_options(given: Mapping[str, object], whose: str) -> None:
    """Raise InputError if one of the options was given: they are for other data."""
    from windvane.errors import InputError

    for option, value in given.items():
        if value is not None:
            raise InputError(f"{option} is for {whose}.")
