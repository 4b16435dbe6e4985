from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from toys import sample

from windvane.errors import InputError
from windvane.models.base import Param
from windvane.models.search_space import fill_defaults, validate

SPACE = {
    "kind": Param(CategoricalDistribution(["tree", "line"]), "tree"),
    "leaves": Param(IntDistribution(2, 128, log=True), 31, when={"kind": ("tree",)}),
    "rate": Param(FloatDistribution(1e-3, 1.0, log=True), 0.1),
    "prune": Param(CategoricalDistribution([True, False]), False, when={"kind": ("tree",)}),
    "strength": Param(FloatDistribution(0.0, 1.0, step=0.25), 0.5, when={"prune": (True,)}),
    "degree": Param(IntDistribution(1, 3), 1, when={"kind": ("line",)}),
}


def test_defaults_of_what_is_active() -> None:
    assert fill_defaults({}, SPACE) == {"kind": "tree", "leaves": 31, "rate": 0.1, "prune": False}
    assert fill_defaults({"kind": "line", "leaves": 5, "degree": 3}, SPACE) == {
        "kind": "line",
        "rate": 0.1,
        "degree": 3,
    }
    assert fill_defaults({"prune": True}, SPACE)["strength"] == 0.5


def test_drawn_configurations_are_complete_and_of_the_space() -> None:
    rng = np.random.default_rng(0)
    drawn = [sample(SPACE, rng) for _ in range(500)]
    for config in drawn:
        validate(config, SPACE)
        assert fill_defaults(config, SPACE) == config
        assert ("degree" in config) == (config["kind"] == "line")
        assert ("strength" in config) == config.get("prune", False)
    assert {config["strength"] for config in drawn if "strength" in config} == {0, 0.25, 0.5, 0.75, 1}
    degrees = np.bincount([int(config["degree"]) for config in drawn if "degree" in config])[1:]
    assert degrees.min() > 0.7 * degrees.mean()
    # Log-uniform: half of the draws below the geometric mean of the ends.
    assert 0.4 < np.mean([config["rate"] < 10**-1.5 for config in drawn]) < 0.6
    assert sample(SPACE, np.random.default_rng(1)) == sample(SPACE, np.random.default_rng(1))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"leafs": 3}, "Did you mean 'leaves'"),
        ({"leaves": 1}, "leaves=1 is not allowed. Allowed: whole numbers from 2 to 128"),
        ({"leaves": 2.5}, "whole numbers"),
        ({"leaves": True}, "whole numbers"),
        ({"rate": 2}, "numbers from 0.001 to 1.0"),
        ({"rate": float("nan")}, "numbers from"),
        ({"rate": "fast"}, "numbers from"),
        ({"kind": "bush"}, "'tree', 'line'"),
        ({"prune": 1}, "True, False"),
    ],
)
def test_what_is_not_of_the_space_is_named(config: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate(config, SPACE)  # type: ignore[arg-type]
