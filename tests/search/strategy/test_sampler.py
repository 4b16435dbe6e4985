from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from toys import ToyFamily, make_trial, sample

from windvane.data.task import Task
from windvane.models.base import Config, Param
from windvane.models.search_space import fill_defaults, validate
from windvane.search.strategy.halving import Rung
from windvane.search.strategy.sampler import ConfigSampler
from windvane.search.trial import Trial
from windvane.settings import MOST_SEED

TASK = Task("binary", 100, 3, 2)
FULL = (Rung(None, 1.0),)
HALVED = (Rung(None, 1 / 4), Rung(None, 1.0))


class Line(ToyFamily):
    """Another space: two numbers."""

    def search_space(self, task: Task) -> dict[str, Param]:
        return {name: Param(FloatDistribution(-5.0, 5.0), 0.0) for name in ("x", "y")}


class Single(ToyFamily):
    """A space of two points."""

    def search_space(self, task: Task) -> dict[str, Param]:
        return {"only": Param(CategoricalDistribution(["a", "b"]), "a")}


def anything(family: str, config: Config) -> bool:
    return True


def search(
    sampler: ConfigSampler, loss: Callable[[str, Config], float], count: int, records: list[Trial] | None = None
) -> list[Trial]:
    """Suggest and evaluate, one after the other."""
    records = [] if records is None else records
    for number in range(len(records), len(records) + count):
        family, config = sampler.suggest(records, anything)
        records.append(make_trial(number, loss(family, config), family, config=config))
    return records


def bowl(family: str, config: Config) -> float:
    return float((config["x"] - 2) ** 2 + (config["y"] + 1) ** 2)  # type: ignore[operator]


def test_suggestions_are_complete_configurations_of_their_families() -> None:
    families = {"toy": ToyFamily("toy"), "line": Line("line")}
    records = search(ConfigSampler(families, TASK, 0, FULL), lambda family, config: len(family), 40)
    assert {trial.family for trial in records} == {"toy", "line"}
    assert {"strict", "plain"} == {t.config["kind"] for t in records if t.family == "toy"}
    for trial in records:
        space = families[trial.family].search_space(TASK)
        validate(trial.config, space)
        assert fill_defaults(trial.config, space) == trial.config
        assert ("power" in trial.config) == (trial.config.get("kind") == "strict")


def test_the_same_records_and_seed_give_the_same_suggestions() -> None:
    def run(seed: int) -> list[Config]:
        families = {"toy": ToyFamily("toy"), "line": Line("line")}

        def loss(family: str, config: Config) -> float:
            return len(str(config)) / 100

        return [trial.config for trial in search(ConfigSampler(families, TASK, seed, FULL), loss, 25)]

    assert run(0) == run(0)
    assert run(0) != run(1)
    assert len(run(MOST_SEED)) == 25


def test_only_what_is_allowed() -> None:
    families = {"toy": ToyFamily("toy"), "line": Line("line")}
    sampler = ConfigSampler(families, TASK, 0, FULL)
    asked = []

    def allowed(family: str, config: Config) -> bool:
        asked.append(family)
        return family == "line" and config["x"] > 0  # type: ignore[operator]

    for _ in range(15):
        family, config = sampler.suggest([], allowed)
        assert family == "line" and config["x"] > 0  # type: ignore[operator]
    assert len(asked) <= 15 * 20


def test_a_space_that_is_used_up_still_gives_suggestions_whose_results_count() -> None:
    sampler = ConfigSampler({"single": Single("single")}, TASK, 0, FULL)
    records: list[Trial] = []

    def untried(family: str, config: Config) -> bool:
        return all(trial.config != config for trial in records)

    for number in range(12):
        family, config = sampler.suggest(records, untried)
        records.append(make_trial(number, 0.1 * number, family, config=config))
    assert {str(trial.config) for trial in records[:2]} == {"{'only': 'a'}", "{'only': 'b'}"}


@pytest.mark.parametrize("seed", range(2))
def test_it_finds_more_than_chance(seed: int) -> None:
    found = search(ConfigSampler({"line": Line("line")}, TASK, seed, FULL), bowl, 45)
    space = Line("line").search_space(TASK)
    rng = np.random.default_rng(seed)
    chance = [bowl("line", sample(space, rng)) for _ in range(2000)]
    late = [trial.loss for trial in found[30:]]
    assert np.median(late) < np.quantile(chance, 0.25)
    assert min(t.loss for t in found) < np.quantile(chance, 0.02)


def test_it_learns_from_results_that_it_did_not_suggest() -> None:
    rng = np.random.default_rng(0)
    space = Line("line").search_space(TASK)
    configs = [sample(space, rng) for _ in range(60)]
    records = [make_trial(i, bowl("line", c), "line", config=c) for i, c in enumerate(configs)]
    sampler = ConfigSampler({"line": Line("line")}, TASK, 0, FULL)
    losses = [bowl(*sampler.suggest(records, anything)) for _ in range(10)]
    assert np.median(losses) < np.median([trial.loss for trial in records]) / 3


def test_defaults_count_as_what_they_stand_for() -> None:
    """The default of `line` is its origin. Alone it is good; all else is the better the nearer it is to a corner."""
    rng = np.random.default_rng(0)
    space = Line("line").search_space(TASK)
    configs: list[Any] = [{}] * 6 + [sample(space, rng) for _ in range(24)]
    losses = [1 + math.hypot(c["x"] - 4, c["y"] - 4) if c else 0.0 for c in configs]
    records = [make_trial(i, losses[i], "line", config=c) for i, c in enumerate(configs)]
    sampler = ConfigSampler({"line": Line("line")}, TASK, 0, FULL)
    found: list[Any] = [sampler.suggest(records, anything)[1] for _ in range(12)]
    assert np.median([math.hypot(c["x"], c["y"]) for c in found]) < 3


def test_the_highest_rung_with_enough_results_teaches() -> None:
    """Low rung: small x is best. High rung: large x is. Eight results up there turn the suggestions round."""
    rng = np.random.default_rng(0)
    space = Line("line").search_space(TASK)
    configs = [sample(space, rng) for _ in range(40)]

    def on(rung: Rung, sign: float, some: list[Any], start: int) -> list[Trial]:
        return [
            replace(
                make_trial(start + i, sign * c["x"], "line", config=c),
                n_rows=rung.n_rows,
                iteration_fraction=rung.iteration_fraction,
            )
            for i, c in enumerate(some)
        ]

    low, high = on(HALVED[0], 1, configs, 0), on(HALVED[1], -1, configs[:30], 100)

    def lean(records: list[Trial]) -> float:
        sampler = ConfigSampler({"line": Line("line")}, TASK, 0, HALVED)
        return float(np.mean([sampler.suggest(records, anything)[1]["x"] for _ in range(8)]))

    assert lean([*low, *high[:7]]) < -1
    assert lean([*low, *high]) > 1


def test_failed_trials_and_foreign_families_do_no_harm() -> None:
    records = [make_trial(i, math.inf, "line") for i in range(5)]
    records += [make_trial(10 + i, 0.5, "gone", config={"z": 1}) for i in range(5)]
    sampler = ConfigSampler({"line": Line("line")}, TASK, 0, FULL)
    assert sampler.suggest(records, anything)[0] == "line"
    family, config = sampler.suggest(records, anything)
    records.append(replace(make_trial(20, math.inf, family), config=config))
    assert sampler.suggest(records, anything)[0] == "line"


def test_a_resumed_trial_counts_with_its_better_loss() -> None:
    """The clock stops slow families first; by that loss, the sampler would never come back to them."""

    def suggested(early: float) -> list[str]:
        families = {"line": Line("line"), "toy": ToyFamily("toy")}
        sampler, rng = ConfigSampler(families, TASK, 0, FULL), np.random.default_rng(0)
        records = []
        for number in range(24):
            family = ("line", "toy")[number % 2]
            config = sample(families[family].search_space(TASK), rng)
            records.append(make_trial(number, early if family == "line" else 1.0, family, config=config))
        sampler.suggest(records, anything)
        records += [replace(t, loss=0.1) for t in records if t.family == "line"]
        return [sampler.suggest(records, anything)[0] for _ in range(30)]

    assert suggested(5.0) == suggested(3.0)  # what they were worth before makes no difference
    assert suggested(5.0).count("line") > 20


@pytest.mark.parametrize("n_earlier", [1, 50])
def test_trials_at_rungs_of_an_earlier_fit_teach_nothing(n_earlier: int) -> None:
    """A resumed run may have other rungs, as where its first trial is slower."""
    families = {"line": Line("line")}
    earlier = [make_trial(i, float(i), "line", config={"x": i / 10, "y": 0.0}, n_rows=1000) for i in range(n_earlier)]
    found = ConfigSampler(families, TASK, 0, FULL).suggest(earlier, anything)
    assert found == ConfigSampler(families, TASK, 0, FULL).suggest([], anything)
