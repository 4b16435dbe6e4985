"""Commands as in a shell, within the process of the tests."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner

from windvane.cli import app


def shell(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])
