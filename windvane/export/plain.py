"""A predictor said in scikit-learn's own words: a pipeline of fitted objects, none of them windvane's.

::

    columns   ColumnTransformer: numbers, then category codes          (what `windvane.runtime.columns.schema` does)
    vote      VotingClassifier or VotingRegressor over all models, each a pipeline of
                encode    the ColumnTransformer that was fitted in its fold
                model     LogisticRegression, RandomForestRegressor, LGBMClassifier, CatBoostClassifier ...

Where the ensemble has a temperature, a LogisticRegression on the logarithms of the vote follows; where it has decision
weights, a FixedThresholdClassifier holds it all. Fitted objects are put together with `FrozenEstimator`, or in objects
that were fitted to a toy table, whose learned attributes are then replaced; see `windvane.export.builders`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
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

from windvane.errors import InputError
from windvane.export.builders import BUILDERS, Kept, linear_classifier, model_steps
from windvane.persistence import Predictor
from windvane.runtime.columns.column import Column
from windvane.runtime.columns.column_values import MISSING_TEXTS, vocabulary_index
from windvane.runtime.columns.schema import Schema
from windvane.runtime.models.fitted import FittedModel

# Selects an ensemble without some families and some trials; None where that cannot be done.
SelectAgain = Callable[[Collection[str], Collection[int]], Predictor | None]
# What missing values are called when they are made texts.
_MISSING_NAMES = frozenset(("nan", "None", "<NA>", "NaT"))


def to_sklearn(predictor: Predictor, select_again: SelectAgain = lambda families, numbers: None) -> Any:
    """Build a predictor from scikit-learn's objects.

    If scikit-learn cannot express a member, `select_again` selects another ensemble without some families and trials,
    and a warning states its loss; where it returns None, the member is left out of this one. InputError if no member is
    left, or if the table itself cannot be expressed.
    """
    obstacles, left_out = _table_obstacles(predictor), _left_out(predictor)
    if left_out and not obstacles:
        other = _expressible(predictor, select_again)
        named = "; ".join(f"{name}: {reason}" for name, reason in left_out.values())
        text = f"scikit-learn cannot express {len(left_out)} of {len(predictor.models)} members ({named}). "
        if other is not None:
            metric, losses = predictor.metric, (other.ensemble.loss, predictor.ensemble.loss)
            scores = [f"{metric.score(loss):.5g} (loss {loss:.5g})" for loss in losses]
            text += (
                f"A second ensemble without them was selected on the validation rows: {metric.name} {scores[0]} there, "
                f"{scores[1]} for the whole ensemble. export(folder) keeps all members."
            )
            predictor, left_out = other, {}
        elif len(left_out) < len(predictor.models):
            text += (
                "The converted ensemble leaves them out, so it predicts differently, with a loss that is not known "
                "here: only a run directory with its data has the predictions to select another ensemble on. "
                "export(folder) keeps all members."
            )
            predictor = _only(predictor, [i for i in range(len(predictor.models)) if i not in left_out])
            left_out = {}
        if not left_out:
            warnings.warn(text, UserWarning, stacklevel=3)
    if obstacles or left_out:
        reasons = [*obstacles, *dict.fromkeys(reason for _, reason in left_out.values())]
        raise InputError(
            f"scikit-learn cannot say this model: {'; '.join(reasons)}. export(folder) may: see docs/guide/export.md."
        )
    steps = [("columns", _front(predictor.schema)), *_back(predictor)]
    pipeline, decision_weights = Pipeline(steps), predictor.ensemble.decision_weights
    if decision_weights is None or predictor.classes is None:
        return pipeline
    threshold = decision_weights[0] / (decision_weights[0] + decision_weights[1])  # p1 d1 > (1 - p1) d0
    frozen: Any = FrozenEstimator(pipeline)
    label = predictor.classes[1:].tolist()[0]
    whole = FixedThresholdClassifier(frozen, threshold=threshold, pos_label=label, response_method="predict_proba")
    return whole.fit(np.zeros((2, 1)), predictor.classes)


def _left_out(predictor: Predictor) -> dict[int, tuple[str, str]]:
    """Position -> name and reason of each member that scikit-learn cannot express."""
    found = {}
    for i, (member, models) in enumerate(zip(predictor.ensemble.members, predictor.models, strict=True)):
        reason = _member_obstacle(predictor, member.family, models)
        if reason is not None:
            found[i] = f"{member.family} #{member.number} (weight {member.weight:.2f})", reason
    return found


def _expressible(predictor: Predictor, select_again: SelectAgain) -> Predictor | None:
    """Select ensembles until scikit-learn can express every member."""
    families: set[str] = set()
    numbers: set[int] = set()
    found: Predictor | None = predictor
    while found is not None and (left_out := _left_out(found)):
        for i in left_out:
            member, models = found.ensemble.members[i], found.models[i]
            numbers.add(member.number)
            if _family_obstacle(found, member.family, models) is not None:
                families.add(member.family)
        found = select_again(families, numbers)
    return None if found is None or _table_obstacles(found) else found


def _only(predictor: Predictor, kept: Sequence[int]) -> Predictor:
    """Return the predictor with some members alone, their weights scaled to sum 1."""
    members = [predictor.ensemble.members[i] for i in kept]
    total = sum(member.weight for member in members)
    scaled = tuple(replace(member, weight=member.weight / total) for member in members)
    return replace(
        predictor,
        ensemble=replace(predictor.ensemble, members=scaled),
        models=[predictor.models[i] for i in kept],
        folders=[predictor.folders[i] for i in kept],
    )


def _table_obstacles(predictor: Predictor) -> list[str]:
    """Name what scikit-learn has no word for, in the table and the decision."""
    found = []
    schema, ensemble = predictor.schema, predictor.ensemble
    if schema.n_sparse:
        found.append("the table is sparse")
    if schema.lags is not None:
        found.append("lags, which are found among other rows")
    for kind in ("date", "duration", "text"):
        names = [repr(column.name) for column in schema.columns if column.kind == kind]
        if names:
            found.append(f"columns of {kind}s ({', '.join(names)})")
    written = [repr(column.name) for column in schema.columns if column.number_format is not None]
    if written:
        found.append(f"numbers written as texts ({', '.join(written)}): convert these columns to numbers before fit")
    odd = [repr(c.name) for c in schema.columns if c.kind == "category" and _MISSING_NAMES & set(c.vocabulary)]
    if odd:
        found.append(f"categories called as missing values are ({', '.join(odd)})")
    if ensemble.decision_weights is not None and len(ensemble.decision_weights) > 2:
        found.append(f"decision weights of {len(ensemble.decision_weights)} classes")
    if ensemble.costs is not None:
        found.append("costs of errors")
    if ensemble.calibration is not None:
        found.append("a calibration curve")
    return found


def _member_obstacle(predictor: Predictor, family: str, models: Sequence[Any]) -> str | None:
    """Name what scikit-learn has no word for in the models of a member."""
    of_family = _family_obstacle(predictor, family, models)
    if of_family is not None:
        return of_family
    if any(isinstance(model, FittedModel) and model.encoder.generated is not None for model in models):
        return "features generated from pairs of columns"
    if any(0 < len(getattr(model, "classes", ())) < predictor.task.n_classes for model in models):
        return "a model whose fold had not all classes"
    return None


def _family_obstacle(predictor: Predictor, family: str, models: Sequence[Any]) -> str | None:
    """Name what scikit-learn has no word for in any model of a family on this table."""
    kinds = {getattr(model, "kind", "") for model in models}
    if not kinds <= set(BUILDERS):
        return f"the family {family!r}"
    if "catboost" in kinds and any(column.kind == "category" for column in predictor.schema.columns):
        return "CatBoost with categories, which it wants as texts beside numbers"
    return None


def _front(schema: Schema) -> ColumnTransformer:
    """Turn a table into numbers and category codes, as `Schema.transform` does."""
    used = [(column, place) for place, column in enumerate(schema.columns) if column.kind != "dropped"]
    where: dict[str, list[Any]] = {"number": [], "category": []}
    for column, place in used:
        where[column.kind].append(column.name if schema.named else place)
    steps: list[tuple[str, Any, list[Any]]] = []
    if where["number"]:
        steps.append(("numbers", _numbers(schema.named), where["number"]))
    categories = [column for column, _ in used if column.kind == "category"]
    for column, key in zip(categories, where["category"], strict=True):
        steps.append((f"category {column.name}", FrozenEstimator(_category(column)), [key]))
    # Two rows of the right kind, for scikit-learn to learn the names from.
    row = [column.vocabulary[0] if column.kind == "category" else 0.0 for column in schema.columns]
    toy = pd.DataFrame([row, row], columns=schema.feature_names if schema.named else None)
    return ColumnTransformer(steps, sparse_threshold=0.0).fit(toy if schema.named else toy.to_numpy(dtype=object))


def _numbers(named: bool) -> Pipeline:
    """Read numbers as float64; what is missing or infinite is NaN."""
    if named:
        read = FunctionTransformer(pd.DataFrame.to_numpy, kw_args={"dtype": "float64", "na_value": np.nan})
    else:
        read = FunctionTransformer(np.asarray, kw_args={"dtype": "float64"})
    nan = {"nan": np.nan, "posinf": np.nan, "neginf": np.nan}
    return Pipeline([("read", read), ("infinite", FunctionTransformer(np.nan_to_num, kw_args=nan))])


def _category(column: Column) -> Pipeline:
    """Look texts up: a TargetEncoder maps each level to a number, here to its code."""
    codes = vocabulary_index(column.vocabulary)
    for text in column.vocabulary:
        if re.fullmatch(r"-?\d{1,18}", text):
            codes.setdefault(str(float(text)), codes[text])  # what 1 is called beside missing values: 1.0
    codes |= dict.fromkeys(MISSING_TEXTS - set(codes), np.nan)
    levels: NDArray[np.object_] = np.array(list(codes), dtype=object)
    toy = np.array([[levels[0]], [levels[0]]], dtype=object)
    lookup = TargetEncoder(categories=[levels], target_type="continuous").fit(toy, [0.0, 1.0])
    lookup.encodings_, lookup.target_mean_ = [np.array(list(codes.values()))], float(len(column.vocabulary))
    text = FunctionTransformer(np.asarray, kw_args={"dtype": "str"})
    return Pipeline([("text", text), ("strip", FunctionTransformer(np.strings.strip)), ("code", lookup)])


def _back(predictor: Predictor) -> list[tuple[str, Any]]:
    """Average all models, then sharpen or flatten."""
    models, weights = [], []
    for member, folds, folders in zip(predictor.ensemble.members, predictor.models, predictor.folders, strict=True):
        for i, (model, folder) in enumerate(zip(folds, folders, strict=True)):
            steps = model_steps(Kept(model, folder, predictor.task, member.family))
            models.append((f"{member.family} {member.number}.{i}", FrozenEstimator(Pipeline(steps))))
            weights.append(member.weight / len(folders))
    if predictor.classes is None:
        return [("vote", VotingRegressor(models, weights=weights).fit(np.zeros((2, 1)), [0.0, 1.0]))]
    labels = np.repeat(predictor.classes, 2)
    toy = np.zeros((len(labels), 1))
    vote = VotingClassifier(models, voting="soft", weights=weights).fit(toy, labels)
    temperature = predictor.ensemble.temperature
    if temperature == 1.0:
        return [("vote", vote)]
    one = VotingClassifier([("vote", FrozenEstimator(vote))], voting="soft").fit(toy, labels)
    slopes = np.eye(len(predictor.classes)) / temperature
    if len(slopes) == 2:
        slopes = slopes[1:] - slopes[:1]
    return [
        ("vote", one),  # as a transformer, which gives the probabilities
        ("clip", FunctionTransformer(np.clip, kw_args={"a_min": 1e-15, "a_max": 1.0})),
        ("log", FunctionTransformer(np.log)),
        ("temperature", linear_classifier(slopes, np.zeros(len(slopes)), predictor.classes)),
    ]
