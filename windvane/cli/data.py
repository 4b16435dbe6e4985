"""The command that looks at a table before anything is learned from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from windvane.cli.common import (
    AsJson,
    DateFormats,
    Ignore,
    Quiet,
    Task,
    Types,
    check_roles,
    print_result,
    read_like,
    read_pairs,
    take_columns,
    warn_of_missing_labels,
)


def describe(
    table: Annotated[
        Path, typer.Argument(metavar="DATA", help="Table: CSV, Parquet, Feather, ARFF, JSON, .xlsx or SQLite.")
    ],
    *,
    target: Annotated[str | None, typer.Option(help="Column that is to be learned, if there is one.")] = None,
    task: Task = None,
    test: Annotated[Path | None, typer.Option(help="Table of other rows, such as test rows, to compare.")] = None,
    ignore: Ignore = None,
    id_column: Annotated[list[str] | None, typer.Option("--id", help="Column that names a row; repeatable.")] = None,
    types: Types = None,
    date_formats: DateFormats = None,
    out: Annotated[Path | None, typer.Option(help="Page to write, as in data.html.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show how a table is read and what looks suspicious in it, before anything is learned.

    That is types of columns, missing values, the target, columns that reveal it, duplicates, identifiers, columns that
    are left out, and how another table differs.
    """
    from windvane import describe as describe_table
    from windvane.data.files import read_frame
    from windvane.pages.html_builder import check_path

    if out is not None:
        check_path(out)
    forms = {"--type": read_pairs("--type", types), "--date-format": read_pairs("--date-format", date_formats)}
    check_roles({"--target": target}, {"--ignore": ignore, "--id": id_column, **forms})
    frame = read_frame(table)
    X, columns = take_columns(frame, {"--target": target})
    warn_of_missing_labels(table, frame, {"--target": target})
    other = None if test is None else read_like(test, X)
    if other is not None and target in other.columns:
        other = other.drop(columns=[target])
    found = describe_table(
        X,
        columns.get("--target"),
        other,
        task=task,
        ignore=ignore,
        id_columns=id_column,
        column_types=forms["--type"] or None,
        date_formats=forms["--date-format"] or None,
    )
    page = {} if out is None else {"page": found.write_html(out)}
    print_result({**found.to_json(), **page}, "\n".join(map(str, [found, *page.values()])), as_json=as_json)
