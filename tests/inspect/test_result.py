"""Results are recognized by their methods."""

from __future__ import annotations

from windvane.inspect.result import Result
from windvane.inspect.similarity.comparison import Comparison


def test_results_are_recognized() -> None:
    assert issubclass(Comparison, Result)
    assert not issubclass(dict, Result)
