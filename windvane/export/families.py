"""How each family of models is exported: native files and what JSON says of them.

A family needs a writer here and an opener in `windvane.export.members`, by the name that the writer calls its kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from windvane.data.encoders import Encoder
from windvane.data.store import read_json, write_arrays
from windvane.data.task import Task
from windvane.models.sklearn_family import takes_sparse
from windvane.models.sklearn_files import write_estimator


@dataclass(frozen=True)
class Kept:
    """A model with the folder where it is kept.

    Attributes
    ----------
    model
        What `windvane.models.base.Family.load` gave.
    folder
        Written by its `save`.
    encoder
        Of that folder.
    task
        What was learned.
    """

    model: Any
    folder: Path
    encoder: Encoder
    task: Task

    @property
    def units(self) -> tuple[float, float]:
        """Mean and spread of the target that the model was trained on."""
        mean, spread = read_json(self.folder / "state.json")["units"]
        return float(mean), float(spread)


def _write_lightgbm(kept: Kept, folder: Path) -> dict[str, Any]:
    """Write LightGBM's text with the trees that predict, so that it is right in other hands too."""
    kept.model.booster.save_model(folder / "model.txt", num_iteration=kept.model.best_iteration)
    return {"kind": "lightgbm", "units": kept.units}


def _write_catboost(kept: Kept, folder: Path) -> dict[str, Any]:
    """Write CatBoost's file with the trees that predict."""
    import catboost

    read_catboost(catboost.CatBoost(), kept).save_model(str(folder / "model.cbm"))
    p, cardinalities = kept.encoder.n_numbers, kept.encoder.cardinalities
    places = [p, p + len(cardinalities)]
    return {"kind": "catboost", "units": kept.units, "categories": places, "largest": max(cardinalities, default=0)}


def _write_forest(kept: Kept, folder: Path) -> dict[str, Any]:
    """Write the trees as arrays."""
    parts = [vars(part) for part in kept.model.parts]
    write_arrays(folder / "trees.npz", {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    return {"kind": "forest", "classes": kept.model.classes.tolist()}


def _write_linear(kept: Kept, folder: Path) -> dict[str, Any]:
    """Write coefficients and intercept."""
    arrays = {"coefficients": kept.model.coefficients, "intercept": kept.model.intercept}
    write_arrays(folder / "linear.npz", arrays)
    return {"kind": "linear", "units": kept.units, "classes": kept.model.classes.tolist()}


def _write_mlp(kept: Kept, folder: Path) -> dict[str, Any]:
    """Write the layers of the best epoch."""
    layers = len(kept.model.best) // 2
    arrays = {f"weights_{i}": array for i, array in enumerate(kept.model.best[:layers])}
    arrays |= {f"bias_{i}": array for i, array in enumerate(kept.model.best[layers:])}
    write_arrays(folder / "mlp.npz", arrays)
    return {"kind": "mlp", "units": kept.units, "layers": layers, "activation": kept.model.activation}


def _write_network(kept: Kept, folder: Path) -> dict[str, Any]:
    """Write the parameters of the best epoch."""
    model = kept.model
    write_arrays(folder / "network.npz", {"best": model.best, "stretch": model.stretch})
    return {"kind": "network", "units": kept.units, "design": asdict(model.design), "range": [model.low, model.high]}


def _write_sklearn(kept: Kept, folder: Path) -> dict[str, Any]:
    """Copy skops' file; what it holds is opened again only where this module's list of types has all of them."""
    write_estimator(folder / "model.skops", kept.model.estimator, (), kept.model.family.name)
    return {"kind": "sklearn", "units": kept.units, "dense": not takes_sparse(kept.model.estimator)}


# Family -> what writes its model into a folder and gives what JSON says of it; "kind" names the opener.
WRITERS: dict[str, Callable[[Kept, Path], dict[str, Any]]] = {
    "lightgbm": _write_lightgbm,
    "catboost": _write_catboost,
    "random_forest": _write_forest,
    "extra_trees": _write_forest,
    "linear": _write_linear,
    "mlp": _write_mlp,
    "hist_gradient_boosting": _write_sklearn,
    "sgd": _write_sklearn,
    "kernel": _write_sklearn,
    "neighbours": _write_sklearn,
    "discriminant": _write_sklearn,
    "network": _write_network,
}


def read_catboost(model: Any, kept: Kept) -> Any:
    """Read CatBoost's model anew and cut off the trees after the best iteration.

    Parameters
    ----------
    model
        An empty one of CatBoost's classes.
    kept
        Of the family "catboost".

    Returns
    -------
    catboost.CatBoost
        The same object, with the trees that predict.
    """
    model.load_model(str(kept.folder / "model.cbm"))
    model.shrink(ntree_end=kept.model.best_iteration)
    return model
