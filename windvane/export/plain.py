"""A predictor as a pipeline of fitted scikit-learn objects, none of them windvane's.

::

    columns   ColumnTransformer: numbers, then category codes          (what `windvane.runtime.columns.schema` does)
    vote      VotingClassifier or VotingRegressor over all models, each a pipeline of
                encode    the ColumnTransformer that was fitted in its fold
                model     LogisticRegression, RandomForestRegressor, LGBMClassifier, CatBoostClassifier ...

Where the ensemble averages roots, or a member has a temperature, the models of a member vote in a separate pipeline;
where the ensemble has a temperature, a LogisticRegression on the logarithms of the vote follows; where it has decision
weights, a FixedThresholdClassifier holds it all. Fitted objects are put together with `FrozenEstimator`, or in objects
that were fitted to a toy table, whose learned attributes are then replaced; see `windvane.export.builders`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, TargetEncoder

from windvane.export.builders import BUILDERS, FoldModel, model_steps
from windvane.export.encoder_pipeline import Steps, arrays_inside, category_texts, clip, linear_classifier
from windvane.export.selection import ExportFormat, SelectAgain, choose_members, column_obstacles
from windvane.persistence import Predictor
from windvane.runtime.columns.column import Column
from windvane.runtime.columns.column_values import MISSING_TEXTS
from windvane.runtime.columns.schema import Schema
from windvane.runtime.models.fitted import FittedModel
from windvane.runtime.output import SMALLEST_PROBABILITY

# Missing values as texts.
_MISSING_NAMES = frozenset(("nan", "None", "<NA>", "NaT"))


def to_sklearn(predictor: Predictor, select_again: SelectAgain = lambda families, numbers: None) -> Any:
    """Build a predictor from scikit-learn's objects.

    If scikit-learn cannot express the table or some members, this warns or raises as `choose_members` does.
    """
    predictor = choose_members(predictor, select_again, _FORMAT)
    pipeline = Pipeline([("columns", _front(predictor.schema)), *_back(predictor)])
    decision_weights = predictor.ensemble.decision_weights
    if decision_weights is None or predictor.classes is None:
        return pipeline
    threshold = decision_weights[0] / (decision_weights[0] + decision_weights[1])  # p1 d1 > (1 - p1) d0
    frozen: Any = FrozenEstimator(pipeline)
    label = predictor.classes.tolist()[1]
    whole = FixedThresholdClassifier(frozen, threshold=threshold, pos_label=label, response_method="predict_proba")
    return whole.fit(np.zeros((2, 1)), predictor.classes)


def _table_obstacles(predictor: Predictor) -> list[str]:
    """Name what scikit-learn cannot express in the table and the decision."""
    schema, ensemble = predictor.schema, predictor.ensemble
    found = column_obstacles(schema)
    odd = [repr(c.name) for c in schema.columns if c.kind == "category" and _MISSING_NAMES & set(c.vocabulary)]
    if odd:
        found.append(f"categories called as missing values are ({', '.join(odd)})")
    if ensemble.decision_weights is not None and len(ensemble.decision_weights) > 2:
        found.append(f"decision weights of {len(ensemble.decision_weights)} classes")
    if ensemble.costs is not None:
        found.append("costs of errors")
    if ensemble.calibration is not None:
        found.append("a calibration curve")
    if predictor.classes is not None and list(predictor.classes) != sorted(predictor.classes):
        found.append("classes in an order that is not the sorted one")
    return found


def _member_obstacle(predictor: Predictor, family: str, models: Sequence[Any]) -> str | None:
    """Name what scikit-learn cannot express in the models of a member."""
    of_family = _family_obstacle(predictor, family, models)
    if of_family is not None:
        return of_family
    if any(isinstance(model, FittedModel) and model.encoder.generated is not None for model in models):
        return "features generated from pairs of columns"
    if any(0 < len(getattr(model, "classes", ())) < predictor.task.n_classes for model in models):
        return "a model whose fold had not all classes"
    return None


def _family_obstacle(predictor: Predictor, family: str, models: Sequence[Any]) -> str | None:
    """Name what scikit-learn cannot express in any model of a family on this table."""
    kinds = {getattr(model, "kind", "") for model in models}
    if not kinds <= set(BUILDERS):
        return f"the family {family!r}"
    if "catboost" in kinds and any(column.kind == "category" for column in predictor.schema.columns):
        return "CatBoost with categories, which it wants as texts beside numbers"
    return None


_FORMAT = ExportFormat("scikit-learn", _table_obstacles, _member_obstacle, _family_obstacle)


def _front(schema: Schema) -> ColumnTransformer:
    """Turn a table into numbers and category codes, as `Schema.transform` does."""
    keys = [(column, column.name if schema.named else place) for place, column in enumerate(schema.columns)]
    numbers = [key for column, key in keys if column.kind == "number"]
    steps: list[tuple[str, Any, list[Any]]] = [("numbers", _numbers(schema.named), numbers)] if numbers else []
    steps += [
        (f"category {column.name}", _category(column), [key]) for column, key in keys if column.kind == "category"
    ]
    # Two rows of the right kind, for scikit-learn to learn the names from.
    row = [column.vocabulary[0] if column.kind == "category" else 0.0 for column in schema.columns]
    toy = pd.DataFrame([row, row], columns=schema.feature_names if schema.named else None)
    front = ColumnTransformer(steps, sparse_threshold=0.0, verbose_feature_names_out=False)
    return front.fit(toy if schema.named else toy.to_numpy(dtype=object))


def _numbers(named: bool) -> FunctionTransformer:
    """Read numbers as float64; what is missing or infinite is NaN."""
    if named:
        read = FunctionTransformer(pd.DataFrame.to_numpy, kw_args={"dtype": "float64", "na_value": np.nan})
    else:
        read = FunctionTransformer(np.asarray, kw_args={"dtype": "float64"})
    nan = {"nan": np.nan, "posinf": np.nan, "neginf": np.nan}
    return _as_function(Pipeline([("read", read), ("infinite", FunctionTransformer(np.nan_to_num, kw_args=nan))]))


def _category(column: Column) -> FunctionTransformer:
    """Look texts up: a TargetEncoder maps each level to a number, here to its code."""
    codes = category_texts(column.vocabulary)
    codes |= dict.fromkeys(MISSING_TEXTS - set(codes), np.nan)
    levels: NDArray[np.object_] = np.array(list(codes), dtype=object)
    toy = np.array([[levels[0]], [levels[0]]], dtype=object)
    lookup = TargetEncoder(categories=[levels], target_type="continuous").fit(toy, [0.0, 1.0])
    lookup.encodings_, lookup.target_mean_ = [np.array(list(codes.values()))], float(len(column.vocabulary))
    text = FunctionTransformer(np.asarray, kw_args={"dtype": "str"})
    return _as_function(Pipeline([("text", text), ("strip", FunctionTransformer(np.strings.strip)), ("code", lookup)]))


def _as_function(pipeline: Pipeline) -> FunctionTransformer:
    """Make one step, with arrays inside, whose output has the names of its input where frames are asked for."""
    return FunctionTransformer(arrays_inside(pipeline).transform, feature_names_out="one-to-one")


def _back(predictor: Predictor) -> Steps:
    """Average all models, then sharpen or flatten."""
    labels = None if predictor.classes is None else np.repeat(predictor.classes, 2)
    models, weights = [], []
    for member, folds, folders in zip(predictor.ensemble.members, predictor.models, predictor.folders, strict=True):
        name = f"{member.family} {member.number}"
        of_folds = [
            (f"{name}.{i}", _on_arrays(model_steps(FoldModel(model, folder, predictor.task, member.family))))
            for i, (model, folder) in enumerate(zip(folds, folders, strict=True))
        ]
        averages_roots = predictor.ensemble.averages_roots and len(of_folds) > 1
        of_average = member.temperature_of(len(of_folds))
        if labels is not None and (averages_roots or of_average != 1.0):
            of_folds = [(name, _average(of_folds, labels, averages_roots, of_average))]
        models += of_folds
        weights += [member.weight / len(of_folds)] * len(of_folds)
    if labels is None or predictor.classes is None:
        return [("vote", VotingRegressor(models, weights=weights).fit(np.zeros((2, 1)), [0.0, 1.0]))]
    toy = np.zeros((len(labels), 1))
    vote = VotingClassifier(models, voting="soft", weights=weights).fit(toy, labels)
    temperature = predictor.ensemble.temperature
    if temperature == 1.0:
        return [("vote", vote)]
    one = VotingClassifier([("vote", FrozenEstimator(vote))], voting="soft").fit(toy, labels)
    # The vote is a transformer here, which gives the probabilities.
    return [("vote", _on_arrays([("vote", one), *_power(1 / temperature, predictor.classes)]))]


def _average(models: Steps, labels: NDArray[Any], of_roots: bool, temperature: float) -> Any:
    """Average the models of a member, by the roots of their probabilities or plainly, then sharpen or flatten."""
    classes = np.unique(labels)
    mean = np.tile(np.eye(len(classes)), (len(models), 1)) / len(models)  # (m k, k)
    vote = VotingClassifier(models, voting="soft").fit(np.zeros((len(labels), 1)), labels)
    steps = [
        ("vote", vote),  # as a transformer, which gives the probabilities of all models side by side
        *([("root", FunctionTransformer(np.sqrt))] if of_roots else []),
        ("mean", FunctionTransformer(np.tensordot, kw_args={"b": mean, "axes": 1})),
        *_power((2.0 if of_roots else 1.0) / temperature, classes),
    ]
    return _on_arrays(steps)


def _power(exponent: float, classes: NDArray[Any]) -> Steps:
    """Raise values of classes to a power and divide them by their sum: a linear classifier of their logarithms."""
    k = len(classes)
    return [
        ("clip", clip(SMALLEST_PROBABILITY, 1.0)),
        ("log", FunctionTransformer(np.log)),
        ("power", linear_classifier(exponent * np.eye(k), np.zeros(k), classes)),
    ]


def _on_arrays(steps: Steps) -> Any:
    """Make a fitted model that computes with arrays, also of a frame."""
    return FrozenEstimator(arrays_inside(Pipeline([("array", FunctionTransformer(np.asarray)), *steps])))
