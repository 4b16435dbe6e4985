"""The campaign finds what it looks for, and a part of it runs without a broken promise."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks.reliability import campaign, cases, faults
from benchmarks.reliability.cases import BROKEN, Failure, evaluate
from benchmarks.reliability.odd_tables import make_table
from benchmarks.result_table import ResultTable
from windvane import InputError


def raising(error: Exception) -> cases.Case:
    def case(seed: int, folder: Path) -> str:
        raise error

    return case


@pytest.mark.parametrize(
    ("case", "outcome"),
    [
        (lambda seed, folder: "fine", "ok"),
        (raising(InputError("no")), "refused"),
        (raising(KeyError("x")), "traceback"),
        (raising(Failure("lost", "a trial")), "lost"),
        (lambda seed, folder: str(time.sleep(20)), "hang"),
    ],
)
def test_every_outcome_is_told_apart(case: cases.Case, outcome: str, tmp_path: Path) -> None:
    assert evaluate(case, 0, tmp_path, limit=0.5)["outcome"] == outcome


def test_a_campaign_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def case(seed: int, folder: Path) -> str:
        ran.append(seed)
        if seed == 1 and len(ran) < 4:
            raise ValueError("a bug")
        return "fine"

    monkeypatch.setattr(campaign, "KINDS", {"some": campaign.Kind(case, 3, 10, 1, "")})
    results = ResultTable(tmp_path / "results.jsonl", ("kind", "seed"))
    campaign.run(results, ["some"])
    campaign.run(results, ["some"])
    assert ran == [0, 1, 2]
    assert [row["outcome"] for row in results.rows()] == ["ok", "traceback", "ok"]
    campaign.run(results, ["some"], again=True)
    assert ran == [0, 1, 2, 1]
    assert [row["outcome"] for row in results.rows()] == ["ok", "ok", "ok"]


def test_the_time_left_follows_the_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    took: dict[str, list[float]] = {kind: [] for kind in campaign.KINDS}
    expected = campaign.KINDS["disk"].seconds
    assert campaign.seconds_left(["disk"] * 10, took) == 10 * expected
    took["disk"] = [2 * expected] * 1000
    assert campaign.seconds_left(["disk"] * 10, took) == pytest.approx(20 * expected, rel=0.01)
    campaign.run(ResultTable(tmp_path / "results.jsonl", ("kind", "seed")), ["odd_table"], minutes=0)
    assert capsys.readouterr().out == ""


def test_the_faults_of_one_fit_share_its_outcome(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []

    def fit(number: int) -> tuple[tuple[str, ...], str | Exception]:
        calls.append(number)
        return ("a", "b", "c"), Failure("lost", "a trial") if number == 1 else "fine"

    monkeypatch.setattr(faults, "_disturbed_fit", fit)
    assert [faults.disturb_worker(seed, tmp_path) for seed in range(3)] == ["a: fine", "b: fine", "c: fine"]
    assert [evaluate(faults.disturb_worker, seed, tmp_path, 5)["outcome"] for seed in range(3, 6)] == ["lost"] * 3
    assert calls == [0, 0, 0, 1, 1, 1]


def test_any_beginning_of_the_plan_holds_every_kind() -> None:
    plan = campaign.plan()
    assert {kind for kind, _ in plan[:200]} == set(campaign.KINDS)
    assert {campaign.RESULTS.key_of(row) for row in campaign.RESULTS.rows()} <= set(plan)
    assert len(plan) == len(set(plan)) == sum(kind.count for kind in campaign.KINDS.values())


def test_odd_tables_are_functions_of_their_seed() -> None:
    assert [make_table(seed)[3] for seed in range(40)] == [make_table(seed)[3] for seed in range(40)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_minutes_of_the_campaign(tmp_path: Path) -> None:
    results = ResultTable(tmp_path / "results.jsonl", ("kind", "seed"))
    campaign.run(results, list(campaign.KINDS), minutes=10)
    rows = results.rows()
    assert len(rows) > 20
    broken = [row for row in rows if row["outcome"] in BROKEN]
    assert not broken, json.dumps(broken, indent=1)
