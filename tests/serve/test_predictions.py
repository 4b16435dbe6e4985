"""What models say of images, and the form where a table has many columns."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pictures import tiny_recipe
from PIL import Image
from served import ORIGIN
from starlette.testclient import TestClient

from windvane import AutoClassifier, AutoRegressor
from windvane.data.images import ImageDataset
from windvane.runtime.columns.column import Column
from windvane.runtime.columns.lag_features import LagFeatures, TimeGrid
from windvane.runtime.columns.schema import Schema
from windvane.serve import pages, runs
from windvane.serve.app import create_app
from windvane.serve.form import Field, make_fields, read_form, typical_values
from windvane.serve.predictions import input_columns
from windvane.vision.networks.create import create_model
from windvane.vision.predict import predict_proba
from windvane.vision.saved_model import TrainedModel, save_model


def test_images_by_a_network(tmp_path: Path) -> None:
    recipe, labels = tiny_recipe(), ("a", "b", "c")
    network = create_model(recipe, len(labels)).eval()
    (tmp_path / "runs" / "net").mkdir(parents=True)
    save_model(tmp_path / "runs" / "net", network.state_dict(), recipe, labels, {"best": {"valid_accuracy": 0.5}})
    images = list(np.random.default_rng(0).integers(0, 256, (2, 20, 24, 3), dtype=np.uint8))
    expected = predict_proba(TrainedModel(network, recipe, labels), ImageDataset(images, None, (), ("0", "1")))
    with TestClient(create_app(tmp_path / "runs"), base_url=ORIGIN) as client:
        for pixels, shares in zip(images, expected, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            content = {"Content-Type": "image/png"}
            answer = client.post("/predict?proba=true", content=buffer.getvalue(), headers=content).json()
            np.testing.assert_allclose(list(answer["probabilities"].values()), shares, rtol=1e-5)
            assert answer["prediction"] == labels[shares.argmax()]
        assert "50.0%" in client.get("/runs/net").text


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
        Column("constant", "dropped", drop_reason="constant"),
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
    of_several_lengths = Column("day", "date", parts=("days",), date_format="ISO8601")
    assert Field("day", "day", of_several_lengths, "1971-01-02T06:00:00").example == "1971-01-02T06:00:00"


def test_rows_with_lags_have_their_time_and_series() -> None:
    grid = TimeGrid(Column("day", "date", parts=("days",)), step=86400.0, origin=0.0)
    unused: Any = None  # the known rows
    lags = LagFeatures(grid, ("shop",), (1,), ("sales",), unused)
    columns = (
        Column("size", "number"),
        Column("shop", "dropped"),
        Column("x", "dropped"),
        Column("sales_lag_1", "number"),
    )
    assert list(input_columns(Schema(columns, named=True, lags=lags))) == ["size", "shop", "day"]


def test_several_targets_and_rows_without_lags(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=60), "b": rng.normal(size=60)})
    quick: dict[str, Any] = {"n_trials": 1, "n_jobs": 1, "families": ["linear"], "random_state": 0, "verbose": 0}
    numbers = AutoRegressor(run_dir=tmp_path / "runs" / "numbers", **quick).fit(X, X.assign(c=X["a"] + 1)[["b", "c"]])
    flags = pd.DataFrame({"hot": X["a"] > 0, "wet": np.where(X["b"] > 0, "yes", "no")})
    labels = AutoClassifier(run_dir=tmp_path / "runs" / "labels", **quick).fit(X, flags)
    lists = AutoClassifier(run_dir=tmp_path / "runs" / "lists", **quick)
    lists.fit(X, [["hot"] * (a > 0) + ["wet"] * (b > 0) for a, b in X.to_numpy().tolist()])
    days = X.assign(day=pd.date_range("2024-01-01", periods=60))
    AutoRegressor(run_dir=tmp_path / "runs" / "lagged", **quick).fit(days, X["a"], time="day", lags=[1])
    row, later = {"a": 2.0, "b": -2.0}, {"a": 0, "b": 0, "day": "2024-03-01"}
    frame = pd.DataFrame([row])
    with TestClient(create_app(tmp_path / "runs"), base_url=ORIGIN) as client:

        def ask(query: str, body: Any) -> Any:
            return client.post(f"/predict?run={query}", json=body).json()

        assert ask("numbers", row)["prediction"] == pytest.approx(numbers.predict(frame).iloc[0].to_dict())
        assert ask("labels", [row]) == [{"prediction": {"hot": True, "wet": "no"}}]
        shares = ask("labels&proba=true", row)["probabilities"]
        assert list(shares.values()) == pytest.approx(labels.predict_proba(frame)[0]) and list(shares) == ["hot", "wet"]
        assert ask("lists", row) == {"prediction": ["hot"]}
        assert "interval is for one target" in ask("numbers&interval=0.9", row)["error"]
        assert "warning" not in ask("lagged", later)
        with pytest.warns(UserWarning, match="No row of X has a lag: .* not 1 step before"):
            assert "No lag of this row is known" in ask("lagged", {**later, "day": "2024-06-01"})["warning"]
        text = client.get("/").text
        assert "2 targets, 60 rows" in text and "2 labels, 60 rows" in text
        assert "interval=0.9" not in client.get("/runs/numbers/predict").text
        shown = client.post("/predict?run=labels&form=1", json={"a": "2", "b": "-2"}).text
        assert "Probability of each label" in shown and ">wet<" in shown


def test_example_of_a_request_is_json() -> None:
    row = {f"column's {i}": 'a "b"  c' for i in range(20)}
    text = pages._json(row)
    assert "'" not in text, "it stands between quotation marks of a shell"
    assert max(map(len, text.splitlines())) <= pages.EXAMPLE_WIDTH + 4
    assert json.loads(text) == row


def test_metric_of_the_user_is_shown_as_its_loss() -> None:
    metric = runs._metric({"own_metric": True, "metric": "profit"})
    assert (metric.name, metric.score(0.25)) == ("loss of profit", 0.25)
