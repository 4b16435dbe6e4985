"""README and docs quote what the tables of results say; the results are those of the plans in the scripts."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import pages
from benchmarks.data import ROOT
from benchmarks.inspect import cka_speed, inside_networks, inside_training
from benchmarks.pages import PAGES, Block, blocks_of, fill, is_rounded, numbers_of, other_plans, stale_figures
from benchmarks.vision import miniature, transfer_or_scratch

OUTPUT = "| table | loss |\n|---|---|\n| wine | 0.2537 |\n| iris | 12,345 |\n\nMean 3.7e-09, 81.3 %."


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "output_of", lambda command: OUTPUT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_quote_the_results(page: Path) -> None:
    assert list(stale_figures(page.read_text(encoding="utf-8"))) == []


def test_results_are_those_of_the_plans() -> None:
    assert list(other_plans()) == []


def test_a_plan_that_changes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miniature, "CPU_EPOCHS", 40)
    found = list(other_plans())
    assert len([line for line in found if "no result of" in line]) == len(list(miniature.plan()))
    assert all(line.startswith("miniature.jsonl") for line in found)


def test_every_table_of_results_has_a_plan() -> None:
    planned = {importlib.import_module(f"benchmarks.{name}").RESULTS.path for name in pages.EXPERIMENTS}
    planned |= {cka_speed.GROWTH_RESULTS.path, cka_speed.RATIO_RESULTS.path}
    collected = ROOT / "benchmarks" / "metalearning" / "cells.jsonl"  # grows with the time there is
    assert {*planned, collected} == set((ROOT / "benchmarks").glob("*/*.jsonl"))


@pytest.mark.parametrize("field", ["steps", "n_train", "batch"])
def test_networks_trained_by_another_plan_are_noticed(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size = inside_training.SIZES["cpu"]
    monkeypatch.setitem(inside_training.SIZES, "cpu", replace(size, **{field: 3000}))
    monkeypatch.setattr(inside_networks, "RESULTS", inside_networks.table_of("cpu"))
    found = list(other_plans())
    assert len(found) == len(inside_networks.plan())
    assert all(f"'settings.{field}': 3000" in line for line in found)


def test_other_seeds_and_sets_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside_networks, "SEEDS", (0, 1))
    monkeypatch.setattr(transfer_or_scratch, "DONE_SETS", ("flowers",))
    found = list(other_plans())
    assert [line for line in found if "inside_networks.jsonl: no result of ('cpu', 1" in line]
    assert [line for line in found if "transfer_or_scratch.jsonl: ('trash'" in line and "is in no plan" in line]


def change(number: str) -> str:
    """Add 3 to the last digit."""
    at = re.search(r"\d(?=\D*$)", number.partition("e")[0])
    assert at is not None
    return number[: at.start()] + str((int(at[0]) + 3) % 10) + number[at.end() :]


def test_nearly_every_changed_figure_is_noticed() -> None:
    """In a printed table all are; in a sentence one figure may become another one of the same output."""
    changed, noticed = {"figures": 0, "printed by": 0}, {"figures": 0, "printed by": 0}
    for page in PAGES:
        for block in blocks_of(page.read_text(encoding="utf-8")):
            if block.kind in changed:
                comment = f"<!-- {block.kind}: {block.source} -->"
                for number in dict.fromkeys(numbers_of(block.lines)):
                    lines = re.sub(rf"(?<![\w.,]){re.escape(number)}(?![\w.])", change(number), "\n".join(block.lines))
                    changed[block.kind] += 1
                    noticed[block.kind] += bool(list(stale_figures(f"{comment}\n{lines}\n")))
    assert noticed["printed by"] == changed["printed by"] > 300
    assert noticed["figures"] > 0.75 * changed["figures"] > 200


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ("<!-- figures: a.b -->\nThe loss is 0.254, of 81 %, error 4e-9, 12,300 rows, 7 tables.\n", None),
        ("<!-- figures: a.b -->\nThe loss is 0.253.\n", "line 2: not printed by a.b: 0.253"),
        ("<!-- figures: a.b; elsewhere: 0.253 -->\nThe loss is 0.253, theirs 0.9.\n", "0.9"),
        ("<!-- figures: a.b -->\n| 1 | 2 |\n|---|---|\n| 7 | **12,300** |\n", None),
        ("<!-- figures: a.b -->\n| 1 | 2 |\n|---|---|\n| 7 | 12,400 |\n", "12,400"),
        ("<!-- figures: a.b -->\nText.\n\n## Heading\n\nThe loss is 0.254.\n", "line 6: no comment names the command"),
        ("<!-- no results: theirs -->\nThe loss is 0.9.\n", None),
        ("In `x[0.9]` and FLAML 2.7, see [0](a-0.9.md).\n\n```\n0.9\n```\n", None),
        ("<!-- printed by: a.b -->\n| table | loss |\n|---|---|\n| wine | 0.2537 |\n| iris | 12,345 |\n", None),
        ("<!-- printed by: a.b -->\n| table | loss |\n|---|---|\n| wine | 0.2537 |\n", "prints another table"),
        (f"<!-- whole output of: a.b -->\n{OUTPUT}\n<!-- end of output -->\n", None),
        (f"<!-- whole output of: a.b -->\n{OUTPUT[:-3]}\n<!-- end of output -->\n", "prints something else"),
    ],
)
def test_comments(page: str, problem: str | None, printed: None) -> None:
    found = list(stale_figures(page))
    assert len(found) == (problem is not None)
    assert problem is None or problem in found[0]


def test_the_part_of_an_output_under_a_heading() -> None:
    rates = pages.output_of("benchmarks.fisher.replication table :: Rates")
    assert rates.startswith("Rates\n\n1 to 40 epochs") and "Alphas" not in rates
    assert list(stale_figures("<!-- figures: benchmarks.fisher.replication table :: Rates -->\nBest: 59.10 %.\n")) == []
    assert list(stale_figures("<!-- figures: benchmarks.fisher.replication table :: None -->\nBest: 59.10 %.\n"))


def test_fill_renews_what_is_printed(printed: None) -> None:
    table = "\n".join(OUTPUT.splitlines()[:4])
    whole = f"<!-- whole output of: a.b -->\n{OUTPUT}\n{pages.END}\nEnd.\n"
    page = f"# A\n\n<!-- printed by: a.b -->\n{table}\n\nText.\n{whole}"
    assert fill(page) == page
    assert fill(page.replace("0.2537", "0.3").replace("Mean 3.7e-09", "Mean 4e-09, more\nlines")) == page


@given(st.floats(0.001, 1e9), st.integers(0, 4))
def test_rounding(value: float, decimals: int) -> None:
    written = f"{value:,.{decimals}f}"
    assert is_rounded(written, value)
    if decimals:
        assert not is_rounded(written, value + 1.01 * 10**-decimals)


def test_numbers_of_sentences_and_cells() -> None:
    sentence = "ResNet-18 and 10,000 rows: 2.5 s, -0.4 to +12 %, 2e-9, 5 tables, 1.2.3, `0.1` and timm 1.0."
    assert numbers_of([sentence]) == ["2.5", "0.4", "12", "2e-9"]
    assert numbers_of(["600 steps of 128 images, 3 seeds, 40 epochs, 2 cores"]) == ["600", "128", "3", "40"]
    assert numbers_of(["| a | b |", "|---|---|", "| 3 | 5 tables (**0.5**) |"]) == ["5", "0.5"]
    assert Block(0, ("| a |",)).is_table
