from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.metalearning.published import read_published, translate
from windvane.data.task import Task
from windvane.metalearning.collect import GUESSES, LARGE
from windvane.models import TABLE_FAMILIES
from windvane.models.search_space import fill_defaults, validate
from windvane.search.strategy.portfolio import PortfolioEntry

BINARY, NUMBERS = Task("binary", 1000, 10, 2), Task("regression", 1000, 10)
NUMERIC = "data_preprocessor:feature_type:numerical_transformer:"
NETWORK: dict[str, Any] = {
    "classifier:__choice__": "mlp",
    "classifier:mlp:hidden_layer_depth": 3,
    "classifier:mlp:num_nodes_per_layer": 161,
    "classifier:mlp:activation": "tanh",
    "classifier:mlp:alpha": 0.0525251169,
    "classifier:mlp:learning_rate_init": 0.0004936858,
    "classifier:mlp:solver": "adam",
    NUMERIC + "rescaling:__choice__": "quantile_transformer",
    NUMERIC + "imputation:strategy": "mean",
}


@pytest.mark.parametrize("task", [BINARY, NUMBERS])
def test_guesses_are_of_the_search_spaces(task: Task) -> None:
    for entry in (*GUESSES, *LARGE):
        validate(entry.config, TABLE_FAMILIES[entry.family].search_space(task))


def test_a_published_network_in_our_words() -> None:
    entry = translate(NETWORK, TABLE_FAMILIES)
    assert entry == PortfolioEntry(
        "mlp",
        {
            "depth": 3,
            "width": 161,
            "activation": "tanh",
            "learning_rate": 0.0004937,
            "alpha": 0.05253,
            "scale": "quantile",
            "impute": "mean",
        },
    )


def test_a_published_forest_in_our_words() -> None:
    forest = {
        "classifier:__choice__": "extra_trees",
        "classifier:extra_trees:bootstrap": "False",
        "classifier:extra_trees:criterion": "entropy",
        "classifier:extra_trees:max_depth": "None",
        "classifier:extra_trees:max_features": 0.99593,
        "classifier:extra_trees:min_samples_leaf": 1,
        "classifier:extra_trees:min_samples_split": 3,
    }
    same = {"criterion": "entropy", "max_features": 0.9959, "min_samples_split": 3, "min_samples_leaf": 1}
    assert translate(forest, TABLE_FAMILIES) == PortfolioEntry("extra_trees", {**same, "bootstrap": False})


def test_what_has_no_counterpart_here_is_left_out() -> None:
    assert translate({**NETWORK, "classifier:mlp:learning_rate_init": 0.4}, TABLE_FAMILIES) is None  # beyond our space
    assert translate({"classifier:__choice__": "passive_aggressive"}, TABLE_FAMILIES) is None
    assert translate(NETWORK, {"linear": TABLE_FAMILIES["linear"]}) is None


def test_portfolios_are_read_rank_by_rank(tmp_path: Path) -> None:
    for name, depths in (("a", [1, 2]), ("b", [3, 2])):
        (tmp_path / name).mkdir()
        portfolio = {str(i): {**NETWORK, "classifier:mlp:hidden_layer_depth": d} for i, d in enumerate(depths)}
        (tmp_path / name / "portfolio_x.json").write_text(json.dumps({"portfolio": portfolio}))
    assert [entry.config["depth"] for entry in read_published(tmp_path, TABLE_FAMILIES, 9)] == [1, 3, 2]
    assert [entry.config["depth"] for entry in read_published(tmp_path, TABLE_FAMILIES, 2)] == [1, 3]


def test_what_was_published_is_understood(shared_tables: Path) -> None:
    found = read_published(shared_tables.parent / "askl2", TABLE_FAMILIES, 1000)
    counts = {name: sum(entry.family == name for entry in found) for name in TABLE_FAMILIES}
    assert counts["mlp"] > 50 and counts["extra_trees"] > 20 and counts["lightgbm"] > 50
    for entry in found:
        space = TABLE_FAMILIES[entry.family].search_space(BINARY)
        validate(entry.config, space)
        assert set(entry.config) <= set(fill_defaults(entry.config, space))
