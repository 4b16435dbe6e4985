from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from leaving import KINDS, agrees, changed, make_frame, make_predictor, make_target

from windvane.data.task import Kind
from windvane.export.plain import to_sklearn

CONFIGS: list[dict[str, Any]] = [
    {},
    {"embedding": "none", "depth": 1, "width": 40},
    {"activation": "relu", "depth": 2, "sigma": 2.0, "scale": "none"},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_pipeline_of_scikit_learn_predicts_the_same(kind: Kind, config: dict[str, Any], tmp_path: Path) -> None:
    X = make_frame()
    predictor = make_predictor(tmp_path, X, make_target(X, kind), kind, [("network", config)])
    far = changed(make_frame(seed=1))
    far["count"] = far["count"] * 1e4
    with np.errstate(over="ignore"):
        agrees(to_sklearn(predictor), predictor, far)
