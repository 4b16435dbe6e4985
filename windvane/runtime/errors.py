"""The exceptions and warnings of a prediction; `windvane.errors` has the whole tree."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence


class WindvaneError(Exception):
    """Root of every exception that windvane raises on purpose."""


class InputError(WindvaneError, ValueError):
    """An argument or a column is not usable."""


class MissingColumnsError(InputError):
    """A table to predict lacks columns that the model was trained on."""


class ModelFileError(WindvaneError):
    """A model file is missing, damaged or not trusted."""


class DiskError(WindvaneError, OSError):
    """A file cannot be written: the disk is full, read-only or gone."""


def some_of(texts: Sequence[str], most: int) -> str:
    """Join the first of many texts for a message, and count the others."""
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the caller that is outside this package, and of the wrappers of its methods."""
    inner = {__name__.split(".")[0], "contextlib"}
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in inner:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
