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
from windvane.data.store import read_json, split_rows, write_arrays
from windvane.data.task import Task
from windvane.models.boosting_histogram import packed


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


def _write_histogram(kept: Kept, folder: Path) -> dict[str, Any]:
    """Write the trees up to the best round, by the encoder's features; a category goes left where its set has its code.

    Codes that training did not see go where a missing value goes, so a set of all codes says everything.
    """
    model = kept.model
    trees = packed(model.trees[: model.best_iteration])
    nodes, bits = trees["nodes"], trees["bits"]
    c, p = len(model.levels.ranks), kept.encoder.n_numbers
    place = np.concatenate([np.arange(p, p + c), np.arange(p), np.arange(p + c, model.n_features)])
    split = np.flatnonzero((nodes["is_leaf"] == 0) & (nodes["is_categorical"] != 0))  # (S,)
    first = np.repeat(np.cumsum(bits) - bits, trees["sizes"])  # (N,): set of the tree's first split
    raw = np.unpackbits(trees["raw"].astype("<u4").view(np.uint8), axis=1, bitorder="little")  # (sets, 256)
    lefts = raw[(first + nodes["bitset_idx"])[split]]  # (S, 256): by the rank of the level
    sets = np.zeros((len(split), 256), dtype=np.uint8)  # by its code
    for j, ranks in enumerate(model.levels.ranks[:, :-1]):
        mine = np.flatnonzero(nodes["feature_idx"][split] == j)
        sets[mine, : len(ranks)] = nodes["missing_go_to_left"][split][mine, None]
        seen = np.flatnonzero(~np.isnan(ranks))
        sets[np.ix_(mine, seen)] = lefts[np.ix_(mine, ranks[seen].astype(int))]
    which = np.full(len(nodes), -1)
    which[split] = np.arange(len(split))
    arrays = {name: nodes[name] for name in ("left", "right", "value")}
    arrays |= {"sizes": trees["sizes"], "threshold": nodes["num_threshold"], "baseline": model.baseline}
    arrays |= {"feature": np.where(nodes["is_leaf"] != 0, -1, place[nodes["feature_idx"]])}
    arrays |= {"missing_left": nodes["missing_go_to_left"] != 0, "which": which}
    write_arrays(folder / "trees.npz", {**arrays, "sets": np.packbits(sets, axis=1, bitorder="little")})
    return {"kind": "hist_gradient_boosting", "units": kept.units, "classes": model.classes.tolist()}


def _write_sgd(kept: Kept, folder: Path) -> dict[str, Any]:
    """Write the coefficients of the best epoch and what makes probabilities of their scores."""
    model = kept.model
    arrays = {"coefficients": model.best[:, :-1], "intercept": model.best[:, -1]}
    write_arrays(folder / "sgd.npz", {**arrays, "slope": model.sigmoids.slope, "shift": model.sigmoids.shift})
    return {"kind": "sgd", "units": kept.units, "classes": model.classes.tolist()}


def _write_kernel(kept: Kept, folder: Path) -> dict[str, Any]:
    """Write landmarks and the coefficients of their kernels."""
    model = kept.model
    arrays = {"dual": model.dual, "intercept": model.intercept, **split_rows(model.landmarks)}
    write_arrays(folder / "kernel.npz", arrays)
    facts = {"kernel": model.kernel, "gamma": model.gamma, "degree": model.degree}
    return {"kind": "kernel", "units": kept.units, "classes": model.classes.tolist(), **facts}


def _write_neighbours(kept: Kept, folder: Path) -> dict[str, Any]:
    """Write the rows to be compared with."""
    model = kept.model
    write_arrays(folder / "neighbours.npz", {"target": model.target, "weight": model.weight, **split_rows(model.rows)})
    return {"kind": "neighbours", "units": kept.units, **model.config}


def _write_discriminant(kept: Kept, folder: Path) -> dict[str, Any]:
    """Write the normal distributions of the classes."""
    model = kept.model
    write_arrays(folder / "discriminant.npz", {name: getattr(model, name) for name in ("means", "maps", "offsets")})
    facts = {"linear": model.linear, "sharpness": model.sharpness}
    return {"kind": "discriminant", "classes": model.classes.tolist(), **facts}


def _write_network(kept: Kept, folder: Path) -> dict[str, Any]:
    """Write the parameters of the best epoch."""
    model = kept.model
    write_arrays(folder / "network.npz", {"best": model.best, "stretch": model.stretch})
    return {"kind": "network", "units": kept.units, "design": asdict(model.design), "range": [model.low, model.high]}


# Family -> what writes its model into a folder and gives what JSON says of it; "kind" names the opener.
WRITERS: dict[str, Callable[[Kept, Path], dict[str, Any]]] = {
    "lightgbm": _write_lightgbm,
    "catboost": _write_catboost,
    "random_forest": _write_forest,
    "extra_trees": _write_forest,
    "linear": _write_linear,
    "mlp": _write_mlp,
    "hist_gradient_boosting": _write_histogram,
    "sgd": _write_sgd,
    "kernel": _write_kernel,
    "neighbours": _write_neighbours,
    "discriminant": _write_discriminant,
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
