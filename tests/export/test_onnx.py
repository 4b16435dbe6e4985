"""ONNX files of whole ensembles, run by onnxruntime on raw columns, against the predictor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from leaving import KINDS, families_of, make_frame, make_predictor, make_target, ours, same
from scipy import sparse as sp
from scipy.special import ndtri

from windvane import AutoClassifier
from windvane.data.task import Kind
from windvane.errors import InputError
from windvane.export.onnx.columns import ARRAY
from windvane.export.onnx.ensemble import TOLERANCE, export_onnx
from windvane.export.onnx.graph import IR_VERSION, OPSET, Graph
from windvane.export.onnx.texts import embed
from windvane.persistence import Predictor
from windvane.runtime.columns.column_values import to_texts
from windvane.runtime.columns.encoder import TextEmbedding

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
REFUSED = {"kernel", "neighbours", "discriminant", "catboost"}  # the last beside categories


def fed(session: Any, X: pd.DataFrame) -> dict[str, Any]:
    """The columns of a frame as the guide makes them."""
    columns = {}
    for one in session.get_inputs():
        column = X[[one.name]]
        is_text = one.type == "tensor(string)"
        columns[one.name] = column.astype(object).where(column.notna(), "").astype(str) if is_text else column
    return {
        name: frame.to_numpy(dtype=object if frame.iloc[:, 0].dtype.kind not in "biuf" else np.float64)
        for name, frame in columns.items()
    }


def check(predictor: Predictor, X: Any, path: Path) -> Any:
    """Write an ensemble, hold its predictions to those of the predictor, and give the session back."""
    session = onnxruntime.InferenceSession(str(export_onnx(predictor, lambda families, numbers: None, path)))
    inputs = {ARRAY: np.asarray(X, dtype=float)} if isinstance(X, np.ndarray) else fed(session, X)
    raw, labels = ours(predictor, X)
    found = session.run(None, inputs)
    same(found[0], raw, TOLERANCE)
    if predictor.classes is not None:
        assert found[1].tolist() == labels.tolist()
    return session


def stripped(frame: pd.DataFrame) -> pd.DataFrame:
    """A graph does not strip texts."""
    return frame.assign(colour=frame["colour"].str.strip(), answer=frame["answer"].astype(str))


@pytest.mark.parametrize("kind", KINDS)
def test_every_family_in_one_file(kind: Kind, tmp_path: Path) -> None:
    """Two folds, an unseen category and missing values; LightGBM splits by sets of categories."""
    X = stripped(make_frame())
    members: list[Any] = [(name, {}) for name in families_of(kind) if name not in REFUSED]
    members += [("lightgbm", {"features": "generated"})]
    members += [("linear", {"scale": scale, "impute": "mean"}) for scale in ("quantile", "power", "minmax")]
    more: dict[Kind, Any] = {
        "binary": {"calibration": ((0.0, 0.3, 0.5, 1.0), (0.01, 0.2, 0.9, 0.99)), "decision_weights": (0.4, 1.0)},
        "multiclass": {
            "temperature": 1.6,
            "costs": ((0.0, 1.0, 2.0), (3.0, 0.0, 1.0), (1.0, 1.0, 0.0)),
            "averages_roots": True,
        },
        "regression": {},
    }
    predictor = make_predictor(tmp_path, X, make_target(X, kind), kind, members, iterations=3, **more[kind])
    other = stripped(make_frame(seed=1))
    other.loc[other.index[:9], "colour"] = "violet"
    other.loc[other.index[5], "size"] = np.inf
    check(predictor, other, tmp_path / "model.onnx")


def test_log_links(tmp_path: Path) -> None:
    X = stripped(make_frame())
    y = np.exp(make_target(X, "regression") / 40 - 24)
    objectives = ("poisson", "tweedie", "regression")
    members: list[Any] = [(name, {"objective": one}) for name in ("lightgbm", "xgboost") for one in objectives]
    check(make_predictor(tmp_path, X, y, "regression", members, log_link=True), X, tmp_path / "model.onnx")


@pytest.mark.parametrize("kind", KINDS)
def test_dates_and_durations_are_seconds(kind: Kind, tmp_path: Path) -> None:
    names = ["size", "when", "day", "zoned", "took", "colour"]
    X, other = (stripped(make_frame(200, seed, rich=True))[names] for seed in (0, 1))
    rng = np.random.default_rng(0)
    members: list[Any] = [("linear", {}), ("extra_trees", {}), ("lightgbm", {"features": "generated"})]
    y = make_target(make_frame(200), kind)
    predictor = make_predictor(tmp_path, X, y, kind, members)
    path = export_onnx(predictor, lambda families, numbers: None, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(path))
    assert {one.name: one.type for one in session.get_inputs()}["day"] == "tensor(double)"
    assert json.loads(session.get_modelmeta().custom_metadata_map["time_zones"]) == {"zoned": "Europe/Berlin"}
    # Leap years, ends of months, and dates long before and after those of training.
    odd = ["1600-02-29", "1899-12-31 23:59:59", "1970-01-01", "2000-03-01", "2100-02-28 12:30:01.5", "2400-12-31"]
    other["when"] = pd.to_datetime(pd.Series(rng.choice(odd, 200)), format="ISO8601").where(rng.random(200) > 0.1)
    wall = {
        "when": other["when"],
        "day": pd.to_datetime(other["day"], format="%d/%m/%Y"),
        "zoned": other["zoned"].dt.tz_localize(None),
    }
    seconds = {name: (dates - pd.Timestamp("1970-01-01")) / pd.Timedelta("1s") for name, dates in wall.items()}
    raw, _ = ours(predictor, other)
    inputs = fed(session, other.assign(**seconds, took=other["took"].dt.total_seconds()))
    same(session.run(None, inputs)[0], raw, TOLERANCE)


ODD_TEXTS = (
    *(
        "",
        "a",
        "One two, three!",
        "STRASSE Straße",
        "İstanbul IŞIK xİ İİ aİb abİcd",
        "ΟΔΟΣ ὈΔΥΣΣΕΎΣ ΣΑΣ Σ",
        "日本語 テスト",
    ),
    *("e\u0301 x_1 ½ ² ٣", "NA", "null", "?", "tab\nnew\x1cline\u3000wide\xa0nb", "don't stop-it 3.14 x@y.com"),
    *(
        "\U0001f600 smile\U0001f600",
        "ﬁ ǅ ǆ Ǆ",
        "a" * 300,
        "word " * 200,
        "\u0345ͅ Ⓐ ⅷ Ⅷ",
        "A AB ABC ABCD ABCDE",
        "_ __ ___",
    ),
    "\u200b zero\u200bwidth \ufeff",
)


@pytest.mark.parametrize(("analyzer", "lengths"), [("word", (1, 2)), ("char_wb", (2, 4))])
def test_terms_of_odd_texts(analyzer: str, lengths: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    signs = [chr(code) for code in rng.integers(1, 0x3000, 300)] + list("abcXYZ 0_9  ,.;'")
    texts = [*ODD_TEXTS, *("".join(rng.choice(signs, rng.integers(1, 40))) for _ in range(100))]
    canonical = to_texts(pd.Series([text.strip() for text in texts], dtype=object))
    step = {"analyzer": analyzer, "ngram_range": lengths, "n_features": 1024}
    arrays = {"idf": 1 + rng.random(1024), "components": rng.normal(size=(1024, 5))}
    graph = Graph()
    graph.add("Identity", embed(graph, "x", step, arrays, {}), output="y")
    value = onnx.helper.make_tensor_value_info
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "texts",
            [value("x", onnx.TensorProto.STRING, [None, 1])],
            [value("y", onnx.TensorProto.DOUBLE, [None, 5])],
            graph.constants,
        ),
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()],
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    expected = TextEmbedding(step, arrays["idf"], arrays["components"])(canonical)
    column = np.array([text.strip() for text in texts], dtype=object)[:, None]
    np.testing.assert_allclose(session.run(None, {"x": column})[0], expected, rtol=0, atol=1e-9)
    for row in (0, 1, 8):  # alone: nothing, one letter, a missing value
        np.testing.assert_allclose(session.run(None, {"x": column[[row]]})[0], expected[[row]], rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_texts(kind: Kind, tmp_path: Path) -> None:
    """Long texts become words, short ones pieces of words; a column may be all that there is."""
    frame = stripped(make_frame(200, rich=True))
    rng = np.random.default_rng(0)
    notes = [" ".join(rng.choice(frame["note"].dropna().to_numpy(), 2)) for _ in range(200)]
    names = [f"{rng.choice(['Anna', 'İbrahim', 'ΣΟΦΊΑΣ'])} of No. {i}" for i in range(200)]
    X = frame[["size", "colour"]].assign(note=notes, name=names)
    X.loc[X.index[::17], "note"] = None
    members: list[Any] = [("linear", {}), ("extra_trees", {}), ("lightgbm", {"features": "generated"}), ("network", {})]
    y = make_target(frame, kind)
    predictor = make_predictor(tmp_path / "all", X, y, kind, members)
    assert [column.kind for column in predictor.schema.columns][2:] == ["text", "text"]
    other = X.assign(note=rng.choice(np.array(ODD_TEXTS, dtype=object), 200), name=X["name"].to_numpy()[::-1])
    other["note"] = other["note"].str.strip()
    session = check(predictor, other, tmp_path / "all.onnx")
    assert {one.name: one.type for one in session.get_inputs()}["note"] == "tensor(string)"
    alone = make_predictor(tmp_path / "alone", X[["note"]], y, kind, [("linear", {})])
    check(alone, other[["note"]], tmp_path / "alone.onnx")


@pytest.mark.parametrize("kind", KINDS)
def test_an_array_of_numbers_is_one_input(kind: Kind, tmp_path: Path) -> None:
    frame = make_frame()
    X = frame[["size", "count", "flag"]].to_numpy(dtype=float)
    members: list[Any] = [("catboost", {}), ("extra_trees", {}), ("xgboost", {})]
    session = check(
        make_predictor(tmp_path, X, make_target(frame, kind), kind, members, folds=1), X, tmp_path / "model.onnx"
    )
    assert [(one.name, one.type) for one in session.get_inputs()] == [("X", "tensor(double)")]
    names = ["prediction"] if kind == "regression" else ["probabilities", "label"]
    assert [one.name for one in session.get_outputs()] == names


def test_what_cannot_be_expressed(tmp_path: Path) -> None:
    X = make_frame()
    y, path = make_target(X, "binary"), tmp_path / "model.onnx"
    predictor = make_predictor(tmp_path / "two", X, y, "binary", [("linear", {}), ("catboost", {})], folds=1)
    with pytest.warns(UserWarning, match=r"ONNX cannot express 1 of 2 members \(catboost #1 \(weight 0.67\): CatBoost"):
        export_onnx(predictor, lambda families, numbers: None, path)
    with pytest.raises(InputError, match=r"ending in \.onnx"):
        export_onnx(predictor, lambda families, numbers: None, path)
    alone = make_predictor(tmp_path / "one", X, y, "binary", [("kernel", {})], folds=1)
    with pytest.raises(InputError, match=r"the family 'kernel'. export\(folder\) can express more"):
        export_onnx(alone, lambda families, numbers: None, tmp_path / "other.onnx")
    written = X.head(60)[["size"]].assign(price=[f"${price:,}" for price in range(1000, 1060)])
    prices = make_predictor(tmp_path / "prices", written, np.arange(60.0), "regression", [("linear", {})], folds=1)
    with pytest.raises(InputError, match=r"numbers written as texts \('price'\)"):
        export_onnx(prices, lambda families, numbers: None, tmp_path / "other.onnx")
    X = sp.csr_matrix(sp.random(60, 5, 0.5, format="csr", random_state=0))
    sparse = make_predictor(tmp_path / "sparse", X, np.arange(60.0), "regression", [("linear", {})], folds=1)
    with pytest.raises(InputError, match="the table is sparse"):
        export_onnx(sparse, lambda families, numbers: None, tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()


def test_a_column_may_have_the_name_of_an_output(tmp_path: Path) -> None:
    X = make_frame()[["size", "count"]].set_axis(["label", "probabilities"], axis=1)
    y = make_target(make_frame(), "binary")
    session = check(make_predictor(tmp_path, X, y, "binary", [("linear", {})], folds=1), X, tmp_path / "model.onnx")
    assert [one.name for one in session.get_outputs()] == ["probabilities_", "label_"]


def test_an_estimator_writes_it(tmp_path: Path) -> None:
    X = stripped(make_frame())
    y = make_target(X, "multiclass")
    model = AutoClassifier(families=["linear"], n_trials=1, n_jobs=1, random_state=0, verbose=0).fit(X, y)
    session = onnxruntime.InferenceSession(str(model.to_onnx(tmp_path / "model.onnx")))
    probabilities, labels = session.run(None, fed(session, X))
    same(probabilities, model.predict_proba(X), TOLERANCE)
    assert labels.tolist() == model.predict(X).tolist()


# The arithmetic of the graph.


def run(build: Any, x: np.ndarray) -> Any:
    graph, double = Graph(), onnx.TensorProto.DOUBLE
    graph.add("Identity", build(graph), output="y")
    ends = [onnx.helper.make_tensor_value_info(name, double, [None, x.shape[1]]) for name in "xy"]
    body = onnx.helper.make_graph(graph.nodes, "test", ends[:1], ends[1:], graph.constants)
    model = onnx.helper.make_model(body, ir_version=IR_VERSION, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


def test_normal_quantiles() -> None:
    x = np.concatenate([np.linspace(1e-7, 1 - 1e-7, 999), 10.0 ** np.linspace(-7, -1, 50)])[:, None]
    np.testing.assert_allclose(run(lambda graph: graph.normal_quantile("x"), x), ndtri(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("m", [1, 2, 7, 8, 9])
def test_counting_and_interpolation(m: int) -> None:
    rng = np.random.default_rng(m)
    knots, values = np.sort(rng.integers(0, 9, (m, 3)).astype(float), axis=0), rng.normal(size=(m, 3))
    x = np.vstack([knots, rng.uniform(-1, 10, (40, 3))])
    for or_equal in (False, True):
        found = run(lambda graph, equal=or_equal: graph.count_below("x", knots, or_equal=equal), x)
        below = knots[None] <= x[:, None] if or_equal else knots[None] < x[:, None]
        np.testing.assert_array_equal(found, below.sum(axis=1))
    knots += np.arange(m)[:, None] / 100  # without ties
    found = run(lambda graph: graph.interpolate("x", knots, values), x)
    wanted = [np.interp(x[:, j], knots[:, j], values[:, j]) for j in range(3)]
    np.testing.assert_allclose(found, np.transpose(wanted), rtol=1e-12, atol=1e-12)
