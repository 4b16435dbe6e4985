"""Commands that learn a portfolio from tables of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from windvane.cli.common import AsJson, Quiet, parse_time, print_result
from windvane.cli.examples import examples_text
from windvane.pages.texts import counted

app = typer.Typer(no_args_is_help=True, help="Learn which configurations to evaluate first, from tables of your own.")


@app.command("collect", epilog=examples_text("portfolio collect"))
def collect_results(
    tables: Annotated[Path, typer.Argument(metavar="TABLES", help="Folder of tables of the kind you often have.")],
    *,
    out: Annotated[Path, typer.Option(help="File of results, as in cells.jsonl; continued if it exists.")],
    target: Annotated[
        str | None, typer.Option(help="Column to learn, in every table; by default the last one.")
    ] = None,
    time: Annotated[str, typer.Option(help="How long to collect: seconds, or as in 30m, 8h.")] = "8h",
    jobs: Annotated[int, typer.Option(help="Processes; -1 for all cores.")] = -1,
    max_rows: Annotated[int, typer.Option(help="Largest number of rows of a table that are used.")] = 10_000,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate many configurations on every table; `windvane portfolio build` learns from the results."""
    from time import monotonic

    from windvane.metalearning.collect import GUESSES, CollectSettings, collect
    from windvane.metalearning.learn import find_tables
    from windvane.settings import resolve_jobs

    until = monotonic() + parse_time(time)
    sources = find_tables(tables, target, max_rows)
    settings = CollectSettings(cache=_predictions_folder(out))
    added = collect(sources, GUESSES, settings, out, workers=resolve_jobs(jobs), deadline=until, quiet=quiet)
    record = {"file": out, "added": added, "configurations": len(GUESSES), "tables": len(sources)}
    of = f"{counted(len(GUESSES), 'configuration')} on {counted(len(sources), 'table')}"
    text = f"{counted(added, 'result')} of {of} added to {out}"
    print_result(record, text, as_json=as_json)


@app.command("build", epilog=examples_text("portfolio build"))
def build_portfolio(
    cells: Annotated[Path, typer.Argument(metavar="CELLS", help="File that `windvane portfolio collect` made.")],
    *,
    out: Annotated[Path, typer.Option(help="Portfolio, as in own.json; `fit --portfolio own.json` uses it.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Order configurations so that the ensemble is as good as possible at any time."""
    from windvane.metalearning.build_portfolio import BuildPlan
    from windvane.metalearning.learn import complete_tables, entries_of, learn_portfolio
    from windvane.metalearning.replay import read_replays
    from windvane.search.strategy.portfolio import write_portfolio

    tables = complete_tables(read_replays(cells, _predictions_folder(cells)))
    portfolio, made = learn_portfolio(tables, [], entries_of(cells), BuildPlan())
    write_portfolio(out, portfolio, made)
    cases, lines = [], []
    for case in portfolio:
        cases.append({"tasks": case.kinds, "max_rows": case.max_rows, "configurations": len(case.entries)})
        rows = "" if case.max_rows is None else f", up to {case.max_rows:,} rows"
        lines.append(f"{' and '.join(case.kinds)}{rows}: {counted(len(case.entries), 'configuration')}")
    record = {"portfolio": out, "made": made, "cases": cases}
    print_result(record, "\n".join([*lines, f"{out}: {made}"]), as_json=as_json)


def _predictions_folder(cells: Path) -> Path:
    return cells.with_name(f"{cells.stem}_predictions")
