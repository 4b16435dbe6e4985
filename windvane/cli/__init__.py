"""The shell commands: each parses its options, calls the library and prints.

Results go to the standard output, everything else to the standard error stream. An error of windvane is one message
there and exit code 2. With --json the standard output holds one JSON object, the error if there is one. The library is
imported inside the commands, so that help appears at once.
"""

from __future__ import annotations

import gc
import warnings
from typing import Annotated

import typer

from windvane.cli import data, evaluation, fit, images, portfolio, predict, results, serving
from windvane.cli.common import Commands
from windvane.cli.examples import examples_text

# Objects between two garbage collections: importing the libraries makes some hundred thousand, and no garbage.
GC_THRESHOLD = 50_000

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Hands-free machine learning for tables and images: search, evaluate, explain, predict, export.",
)
for command in (
    *(data.describe, fit.fit, images.train, images.finetune, predict.predict, results.leaderboard),
    *(evaluation.evaluate, evaluation.threshold, evaluation.calibrate, evaluation.importance, predict.explain),
    *(results.export, fit.resume, results.compact, results.report, images.inspect, serving.serve),
):
    app.command(epilog=examples_text(command.__name__))(command)
app.add_typer(portfolio.app, name="portfolio")


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="Show where an error comes from.")] = False,
) -> None:
    """Handle the options that come before a command."""
    if version:
        from windvane.version import VERSION

        typer.echo(f"windvane {VERSION}")
        raise typer.Exit


def main() -> None:
    gc.set_threshold(GC_THRESHOLD)
    warnings.formatwarning = lambda message, *_: f"windvane: warning: {message}\n"
    try:
        app(prog_name="windvane")
    finally:
        gc.freeze()  # the end of Python would walk through all objects: a second where torch is loaded
