"""Results are known by what they can do."""

from __future__ import annotations

from windvane.inspect.result import Result
from windvane.inspect.similarity.comparison import Comparison


def test_results_can_be_told_from_others() -> None:
    assert issubclass(Comparison, Result)
    assert not issubclass(dict, Result)
