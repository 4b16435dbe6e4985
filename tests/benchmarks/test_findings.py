"""Effects, intervals and verdicts, and the list of findings."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_1samp, wilcoxon

from benchmarks import findings
from benchmarks.findings import FINDINGS, PAPERS, Finding, Measured
from benchmarks.verdicts import TIMES, Effect, Rule, over_seeds, over_tables, verdict


@pytest.mark.parametrize("seed", range(20))
def test_intervals_leave_zero_out_where_the_tests_of_scipy_do(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.7, size=9)
    for found, p in (
        (over_seeds(values.tolist()), ttest_1samp(values, 0.0).pvalue),
        (over_tables(values.tolist()), wilcoxon(values, method="exact").pvalue),
    ):
        assert found.n == 9
        assert found.low < found.mean < found.high
        assert (found.low > 0 or found.high < 0) == (p < 0.05)


def test_few_values() -> None:
    assert math.isnan(over_seeds([2.0]).low)
    assert over_tables([1.0, 2.0, 3.0]).low == -math.inf
    assert over_tables([1.0, 2.0, 3.0]).mean == 2.0


POINTS, SAME = Rule("points", 1.0), Rule("points", 1.0, none=True)


@pytest.mark.parametrize(
    ("effect", "rule", "expected"),
    [
        (None, POINTS, "not measured"),
        (Effect(0.5, 0.1, 0.9, 3), POINTS, "agrees"),
        (Effect(-0.5, -0.9, -0.1, 3), POINTS, "contradicts"),
        (Effect(5.0, -0.1, 10.1, 3), POINTS, "no effect visible at this size"),
        (Effect(1.1), POINTS, "agrees"),
        (Effect(0.9), POINTS, "no effect visible at this size"),
        (Effect(-1.1), POINTS, "contradicts"),
        (Effect(0.5, 0.1, 0.9, 3), SAME, "agrees"),
        (Effect(0.5, -0.5, 1.5, 3), SAME, "no effect visible at this size"),
        (Effect(1.5, 0.5, 2.5, 3), SAME, "contradicts"),
        (Effect(-0.5), SAME, "agrees"),
        (Effect(-1.5), SAME, "contradicts"),
    ],
)
def test_verdicts(effect: Effect | None, rule: Rule, expected: str) -> None:
    assert verdict(effect, rule) == expected


def test_written() -> None:
    assert Effect(1.0, -0.5, 2.5, 3).written("points") == "+1.00 (-0.50 to +2.50) points"
    assert Effect(math.log(2)).written(TIMES) == "2.00 times"
    assert (POINTS.limit(), Rule(TIMES, math.log(1.5)).limit()) == ("1.00", "1.50")


def test_findings_are_complete() -> None:
    assert len({one.name for one in FINDINGS}) == len(FINDINGS)
    for one in FINDINGS:
        assert one.paper in PAPERS
        measured = one.measure is not None
        assert measured == (one.rule is not None) == bool(one.commands)


def test_a_finding_without_runs_is_not_measured() -> None:
    finding = Finding("a", "table 1", "A", "ours", POINTS, lambda: None, ("data run",))
    assert findings.row_of(finding) == "| A | table 1 | not measured | | | | |"


def test_two_effects_by_hand() -> None:
    """The penalty in the runs of 160 epochs, and the longer schedule, from their tables in the docs."""
    named = [one for one in FINDINGS if one.name in ("penalty", "long_schedule")]
    found = {one.name: measured for one in named if one.measure and (measured := one.measure())}
    assert found["penalty"].effect.mean == pytest.approx(61.12 - 54.94, abs=0.01)
    assert found["penalty"].effect.n == 3
    assert found["long_schedule"].effect.mean == pytest.approx(53.5 - 50.8, abs=0.1)
    assert found["long_schedule"].one_seed


def test_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    measured = [Measured(Effect(2.0), "seeds", 3.0, one_seed=True), Measured(Effect(-2.0), "seeds", 3.0, one_seed=True)]
    finding = Finding("a", "table 1", "A", "ours", POINTS, lambda: measured.pop(0), ("data run {results}",))
    monkeypatch.setenv("WINDVANE_RESULTS", "elsewhere")
    ran: list[tuple[list[str], str]] = []
    monkeypatch.setattr(
        findings.subprocess, "run", lambda words, env, check: ran.append((words[1:], env["WINDVANE_RESULTS"]))
    )
    findings.repeat(finding, tmp_path / "again")
    assert ran == [(["-m", "benchmarks.data", "run", str(tmp_path / "again")], str(tmp_path / "again"))]
    assert os.environ["WINDVANE_RESULTS"] == str(tmp_path / "again")
    lines = capsys.readouterr().out.splitlines()
    assert "**agrees** (one seed)" in lines[0]
    assert "**contradicts** (one seed)" in lines[2]
    with pytest.raises(SystemExit, match="no script measures it"):
        findings.repeat(Finding("b", "table 1", "B"), tmp_path)
