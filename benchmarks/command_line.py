"""The command lines of the scripts: one of some commands, with the docstring of the script as its help."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence


def make_parser(doc: str | None, *commands: str) -> argparse.ArgumentParser:
    """Return a parser of one of the commands, to which further arguments can be added."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if commands:
        parser.add_argument("command", choices=commands)
    return parser


def make_main(doc: str | None, commands: Mapping[str, Callable[[], None]]) -> Callable[..., None]:
    """Return the main function of a script whose commands take no arguments."""

    def main(words: Sequence[str] | None = None) -> None:
        commands[make_parser(doc, *commands).parse_args(words).command]()

    return main
