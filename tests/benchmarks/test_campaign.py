"""The campaign finds what it looks for, and a part of it runs without a broken promise."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks.reliability import campaign, cases
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

    monkeypatch.setattr(campaign, "KINDS", {"some": campaign.Kind(case, 3, 10, "")})
    results = ResultTable(tmp_path / "results.jsonl", ("kind", "seed"))
    campaign.run(results, ["some"])
    campaign.run(results, ["some"])
    assert ran == [0, 1, 2]
    assert [row["outcome"] for row in results.rows()] == ["ok", "traceback", "ok"]
    campaign.run(results, ["some"], again=True)
    assert ran == [0, 1, 2, 1]
    assert [row["outcome"] for row in results.rows()] == ["ok", "ok", "ok"]


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
