"""The command that shows runs in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from windvane.cli.common import AsJson, Quiet, print_json


def serve(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run, or a folder of runs.")],
    *,
    host: Annotated[str, typer.Option(help="Address to listen at; other machines need a token.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port; by default the first free one from 8321.")] = None,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="WINDVANE_TOKEN", help="Token that requests need; by default made and printed where it is needed."
        ),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open a browser.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show runs in a browser while they search, and predict from a form or by JSON, until Ctrl-C."""
    from importlib.util import find_spec

    from windvane.errors import InputError

    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise InputError("windvane serve needs starlette and uvicorn: pip install windvane[serve]")
    from windvane.serve import server

    def ready(url: str) -> None:
        if as_json:
            print_json({"url": url})
        elif not quiet:
            typer.echo(url)
        if open_browser:
            import webbrowser

            webbrowser.open(url)

    server.serve(run, host=host, port=port, token=token, ready=ready)
