"""The shell commands: each parses its options, calls the library and prints.

Results go to the standard output, everything else to the standard error stream. An error of windvane is one message
there and exit code 2. The library is imported inside the commands, so that help appears at once.
"""

from __future__ import annotations

import gc
import warnings
from typing import Annotated

import typer

from windvane.cli import data, evaluation, images, portfolio, serving, tables
from windvane.cli.common import Commands

# Objects between two garbage collections: importing the libraries makes some hundred thousand, and no garbage.
IMPORTED = 50_000

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find the best ensemble of models for a table within a time budget.",
)
app.command()(data.describe)
app.command()(tables.fit)
app.command()(images.train)
app.command()(images.finetune)
app.command()(tables.predict)
app.command()(tables.leaderboard)
app.command()(evaluation.evaluate)
app.command()(evaluation.threshold)
app.command()(evaluation.calibrate)
app.command()(evaluation.importance)
app.command()(tables.explain)
app.command()(tables.export)
app.command()(tables.resume)
app.command()(tables.compact)
app.command()(tables.report)
app.command()(images.inspect)
app.command()(serving.serve)
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
    """Run the command line."""
    gc.set_threshold(IMPORTED)
    warnings.formatwarning = lambda message, *_: f"windvane: warning: {message}\n"
    app(prog_name="windvane")
