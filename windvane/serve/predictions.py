"""Predictions of rows or images, as values of JSON."""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.automl import AutoClassifier, AutoImageClassifier, AutoRegressor
from windvane.data.images import ImageDataset
from windvane.errors import InputError, WindvaneError
from windvane.evaluation.evaluation import plain_value
from windvane.runtime.columns.column import Column
from windvane.runtime.columns.schema import Schema
from windvane.runtime.conformal import check_coverage
from windvane.runtime.images import Pixels, decode_image

NO_LAG = "No lag of this row is known: its time is missing or too far from the known rows, or its series is unknown."
MAX_NAMED_KEYS = 5  # in a message


@dataclass(frozen=True)
class Options:
    """What an answer has beside the prediction."""

    proba: bool = False
    interval: float | None = None  # coverage

    def check(self, model: Any) -> None:
        """Raise InputError if the model does not have it."""
        predicts_number = isinstance(model, AutoRegressor)
        if self.proba and predicts_number:
            raise InputError("proba=true is for classes, but the model predicts a number. Allowed: interval=0.9.")
        if self.interval is not None and not predicts_number:
            raise InputError("interval is for numbers, but the model predicts classes. Allowed: proba=true.")
        if self.interval is not None:
            check_coverage(self.interval, "interval")


def predict_rows(model: Any, rows: Sequence[Mapping[str, Any]], options: Options) -> list[dict[str, Any]]:
    """Predict rows (name of a column -> value), one answer each; raises InputError as `predict` does."""
    options.check(model)
    schema = model.predictor_.schema
    frame = to_frame(rows, schema)
    answers = _predict_frame(model, frame, options)
    if schema.lags is not None:
        without = schema.with_lags(frame)[schema.lags.names].isna().all(axis=1)
        for answer in itertools.compress(answers, without):
            answer["warning"] = NO_LAG
    return answers


def _predict_frame(model: Any, frame: pd.DataFrame, options: Options) -> list[dict[str, Any]]:
    if model.predictor_.targets is not None:
        return _several(model, frame, options)
    if isinstance(model, AutoClassifier):
        probabilities = model.predict_proba(frame)
        return _classes(model.classes_, model.predictor_.decide(probabilities), probabilities, options.proba)
    answers: list[dict[str, Any]] = [{"prediction": value} for value in model.predict(frame).tolist()]
    if options.interval is not None:
        for answer, (low, high) in zip(answers, model.predict_interval(frame, options.interval).tolist(), strict=True):
            answer |= {"lower": low, "upper": high}
    return answers


def _several(model: Any, frame: pd.DataFrame, options: Options) -> list[dict[str, Any]]:
    """Answers with a value for each target, or with a list of labels if training had such lists."""
    predictor = model.predictor_
    if options.interval is not None:
        predictor.check_one_target("interval")
    if predictor.targets.form == "lists":
        predicted: list[Any] = [list(map(plain_value, labels)) for labels in model.predict(frame)]
    else:
        rows = predictor.prediction_columns(frame).to_dict("records")
        predicted = [{name: plain_value(value) for name, value in row.items()} for row in rows]
    answers: list[dict[str, Any]] = [{"prediction": one} for one in predicted]
    if options.proba:
        for answer, row in zip(answers, predictor.probability_columns(frame).to_dict("records"), strict=True):
            answer["probabilities"] = row
    return answers


def predict_images(model: Any, images: Sequence[Pixels], options: Options) -> list[dict[str, Any]]:
    """Predict images by an estimator or a network, one answer each."""
    options.check(model)
    if isinstance(model, AutoImageClassifier):
        probabilities = model.predict_proba(list(images))
        return _classes(model.classes_, model.predictor_.decide(probabilities), probabilities, options.proba)
    from windvane.vision.predict import predict_proba

    names = tuple(f"image {i}" for i in range(len(images)))
    probabilities = predict_proba(model, ImageDataset(images, None, (), names)).astype(np.float64)
    return _classes(np.array(model.classes), probabilities.argmax(axis=1), probabilities, options.proba)


def _classes(
    labels: NDArray[Any], chosen: NDArray[np.intp], probabilities: NDArray[np.float64], proba: bool
) -> list[dict[str, Any]]:
    values = list(map(plain_value, labels.tolist()))
    answers: list[dict[str, Any]] = [{"prediction": values[code]} for code in chosen]
    if proba:
        for answer, row in zip(answers, probabilities.tolist(), strict=True):
            answer["probabilities"] = {str(label): share for label, share in zip(values, row, strict=True)}
    return answers


def to_frame(rows: Sequence[Mapping[str, Any]], schema: Schema) -> pd.DataFrame:
    """Make a table of rows; raises InputError if they are no rows, or have no names that the schema has."""
    if not rows:
        raise InputError("The list is empty. Allowed: an object for each row, column -> value.")
    for position, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(f"Row {position} is {_kind(row)}. Allowed: an object, column -> value.")
        for name, value in row.items():
            if isinstance(value, list | dict):
                allowed = "Allowed: a number, a text, true, false or null."
                raise InputError(f"Column {name!r} holds {_kind(value)} in row {position}. {allowed}")
    frame = pd.DataFrame(list(rows))
    if not frame.shape[1]:
        raise InputError("The rows have no column. Allowed: an object for each row, column -> value.")
    if not schema.named and not set(frame.columns) & set(field_names(schema)):
        given = ", ".join(map(repr, list(frame.columns)[:MAX_NAMED_KEYS]))
        raise InputError(
            f"The model was trained on a table without names, and the order of an object means nothing: name its "
            f"columns by position, '0', '1', '2' ... Given: {given}."
        )
    return frame


def field_names(schema: Schema) -> list[str]:
    """Names of the columns in rows to predict: those of training, or positions where it had none."""
    names = schema.feature_names
    return names if schema.named else [str(i) for i in range(len(names))]


def input_columns(schema: Schema) -> dict[str, Column]:
    """Name -> column of a row to predict: those that are learned from, and those by which its lags are found."""
    columns = dict(zip(field_names(schema), schema.columns, strict=False))  # no columns of a sparse table
    if schema.lags is None:
        return {name: column for name, column in columns.items() if column.kind != "dropped"}
    time = schema.lags.grid.time
    keys = {time.name, *schema.lags.by}
    made = set(schema.lags.names)
    found = {
        name: column
        for name, column in columns.items()
        if name not in made and (column.kind != "dropped" or name in keys)
    }
    return {**found, time.name: time}


def bad_columns(schema: Schema, row: pd.DataFrame) -> dict[str, str]:
    """Name -> error, of each column of a table with one row whose value cannot be read."""
    found = {}
    for name, column in input_columns(schema).items():
        if column.kind == "dropped":
            continue
        try:
            Schema(columns=(column,), named=True).transform(row[[name]].set_axis([column.name], axis=1))
        except WindvaneError as error:
            found[name] = str(error)
    return found


def decode(body: bytes) -> Pixels:
    """Decode an uploaded image; raises InputError with the reason."""
    try:
        return decode_image(body)
    except InputError as error:
        raise InputError(f"The image cannot be read: {error}.") from error


def decode_rows(rows: Sequence[Any]) -> list[Pixels]:
    """Decode images given as objects with one key, "image": the file in base64."""
    if not rows:
        raise InputError('The list is empty. Allowed: objects with the key "image", a file in base64.')
    images = []
    for position, row in enumerate(rows):
        text = row.get("image") if isinstance(row, Mapping) else None
        if not isinstance(text, str):
            raise InputError(f'Row {position} has no text "image". Allowed: {{"image": the file in base64}}.')
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError(f'The "image" of row {position} is not base64: {error}.') from error
        images.append(decode(content))
    return images


def _kind(value: Any) -> str:
    names = {list: "a list", dict: "an object", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
