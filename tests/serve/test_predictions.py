"""What models say of images, and the form where a table has many columns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from pictures import tiny_recipe

from windvane.data.images import ImageDataset
from windvane.runtime.columns.schema import Column, Schema
from windvane.serve import pages, runs
from windvane.serve.form import make_fields, read_form, typical_values
from windvane.serve.predictions import Options, predict_images
from windvane.vision.networks.create import create_model
from windvane.vision.predict import predict_proba
from windvane.vision.saved_model import TrainedModel


def test_images_by_a_network() -> None:
    recipe = tiny_recipe()
    model = TrainedModel(create_model(recipe, 3).eval(), recipe, ("a", "b", "c"))
    images = list(np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), dtype=np.uint8))
    answers = predict_images(model, images, Options(proba=True))
    expected = predict_proba(model, ImageDataset(images, None, (), ("0", "1")))
    np.testing.assert_allclose([list(one["probabilities"].values()) for one in answers], expected, rtol=1e-6)
    assert [one["prediction"] for one in answers] == ["abc"[i] for i in expected.argmax(axis=1)]


def test_typical_values(tmp_path: Path) -> None:
    columns = (
        Column("colour", "category", vocabulary=("blue", "red")),
        Column("count", "number"),
        Column("share", "number", number_format="1,234.5 %"),
        Column("moment", "date", parts=("days", "hour")),
        Column("day", "date", parts=("days",), date_format="%d.%m.%Y"),
        Column("weekday", "date", parts=("weekday",)),
        Column("length", "duration"),
        Column("note", "text"),
        Column("empty", "number"),
        Column("constant", "dropped", reason="constant"),
    )
    schema = Schema(columns, named=True)
    # count, share, empty, moment (days, hour), day, weekday, length, colour
    rows = [[1e6, 12.5, np.nan, 365.25, 6.0, 366.0, 2.0, 3600.0, 1.0]] * 2
    rows += [[2e9, np.nan, np.nan, np.nan, np.nan, 9e3, 1.0, 7200.0, 2.0]]
    np.save(tmp_path / "matrix.npy", np.array(rows))
    fields = make_fields(schema, typical_values(tmp_path, schema))
    assert {field.name: field.value for field in fields} == {
        "colour": "red",
        "count": "1000000",
        "share": "12.5 %",
        "moment": "1971-01-01T06:00:00",
        "day": "1971-01-02",
        "weekday": "",
        "length": "0 days 01:00:00",
        "note": "",
        "empty": "",
    }
    row = read_form(schema, {field.name: field.value or None for field in fields})
    table = schema.transform(pd.DataFrame([row]))
    np.testing.assert_allclose(table.matrix[0], [1e6, 12.5, np.nan, 365.25, 6.0, 366.0, np.nan, 3600.0, 1.0])
    sent = {field.name: field.example for field in fields}
    assert (sent["count"], sent["day"], sent["share"], sent["empty"]) == (1_000_000, "02.01.1971", "12.5 %", None)
    assert typical_values(tmp_path / "none", schema) == {}


def test_example_of_a_request_is_json() -> None:
    row = {f"column's {i}": 'a "b"  c' for i in range(20)}
    text = pages._json(row)
    assert "'" not in text, "it stands between quotation marks of a shell"
    assert max(map(len, text.splitlines())) <= pages.EXAMPLE_WIDTH + 4
    assert json.loads(text) == row


def test_metric_of_the_user_is_shown_as_its_loss() -> None:
    metric = runs._metric({"own_metric": True, "metric": "profit"})
    assert (metric.name, metric.score(0.25)) == ("loss of profit", 0.25)
