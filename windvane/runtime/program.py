"""What the programs of exported folders share: an error is one line and exit code 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from .errors import WindvaneError

NAME = "predictor.py"


class Parser(argparse.ArgumentParser):
    """Reads the options of a program."""

    def __init__(self, description: str) -> None:
        super().__init__(prog=NAME, description=description)
        self.add_argument("--traceback", action="store_true", help="where an error comes from")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help lists the options)\n")


def run(command: Callable[[argparse.Namespace], None], parser: Parser) -> None:
    """Call a command with the options that were given."""
    options = parser.parse_args()
    try:
        command(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has ended; Python would flush again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if options.traceback:
            raise
        advice = " (requirements.txt lists what is needed)" if isinstance(error, ImportError) else ""
        print(f"{NAME}: {describe_error(error)}{advice}", file=sys.stderr)
        sys.exit(2)


def describe_error(error: BaseException) -> str:
    """Describe an error in one line."""
    if isinstance(error, MemoryError):
        return "the memory does not suffice"
    if isinstance(error, OSError) and not isinstance(error, WindvaneError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
