"""An ensemble as one ONNX file; it is written only if onnxruntime computes the same predictions with it.

::

    one input a column: numbers double (n, 1), categories and texts string (n, 1);
    an array of numbers is one input X (n, p);
    dates are seconds since 1970 by the wall clock of training's time zone, durations seconds, both double (n, 1)
    outputs: probabilities double (n, k) and label (n,), or prediction double (n,)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from windvane.errors import InputError, WindvaneError, check_new_file
from windvane.export.onnx.columns import GraphColumns, add_inputs, encode, input_values
from windvane.export.onnx.graph import IR_VERSION, Graph
from windvane.export.onnx.models import obstacle, predict
from windvane.export.selection import ExportFormat, SelectAgain, choose_members, column_obstacles
from windvane.persistence import Predictor
from windvane.runtime.columns.dates import date_parts
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Table
from windvane.runtime.models.fitted import FittedModel
from windvane.runtime.output import SMALLEST_PROBABILITY
from windvane.runtime.serialization import replace_file
from windvane.version import VERSION

TOLERANCE = 1e-5  # of a probability; of a number relative to its size, where that is above 1
_RANDOM_ROWS = 200
_ODD_TEXTS = (
    "",
    "a",
    "One two, three!",
    "STRASSE Straße",
    "İstanbul IŞIK",
    "ΟΔΟΣ ὈΔΥΣΣΕΎΣ",
    "日本語 テスト",
    "e\u0301 x_1 ½",
)
_MAX_BYTES = 2**31 - 1  # what one file can hold


def export_onnx(predictor: Predictor, select_again: SelectAgain, path: str | Path, rows: Table | None = None) -> Path:
    """Write the ensemble as an ONNX file that was compared with the predictor, also on `rows`.

    Members that a graph cannot express are replaced or left out by `choose_members`. InputError if the table or every
    member cannot be expressed, or the path is no new file; WindvaneError if the file computes something else.
    """
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise InputError(f"to_onnx needs {' and '.join(missing)}: pip install 'windvane[onnx]'.")
    file = check_new_file(path, ".onnx")
    predictor = choose_members(predictor, select_again, _FORMAT)
    content = _build(predictor).SerializeToString()
    _compare(content, predictor, [_random_rows(predictor.schema), *([] if rows is None else [rows])])
    with replace_file(file) as part:
        part.write_bytes(content)
    return file


def _table_obstacles(predictor: Predictor) -> list[str]:
    return column_obstacles(predictor.schema, kinds=())


def _family_obstacle(predictor: Predictor, family: str, models: Sequence[Any]) -> str | None:
    return next((reason for model in models if (reason := obstacle(model, family)) is not None), None)


_FORMAT = ExportFormat("ONNX", _table_obstacles, _family_obstacle, _family_obstacle)


def _build(predictor: Predictor) -> Any:
    """Return the ONNX model of a predictor whose members can all be expressed."""
    from onnx import checker, helper

    graph = Graph()
    inputs, columns = add_inputs(graph, predictor.schema)
    outputs = _add_outputs(graph, predictor, _blend(graph, predictor, columns), {one.name for one in inputs})
    model = helper.make_model(
        helper.make_graph(graph.nodes, "windvane", inputs, outputs, graph.constants),
        producer_name="windvane",
        producer_version=VERSION,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in graph.opsets.items()],
    )
    used = {column.name: column.kind for column in predictor.schema.columns if column.kind != "dropped"}
    zones = {column.name: column.timezone for column in predictor.schema.columns if column.timezone is not None}
    notes = {"columns": used, "classes": predictor.class_names or None} | ({"time_zones": zones} if zones else {})
    helper.set_model_props(model, {name: json.dumps(content) for name, content in notes.items()})
    if model.ByteSize() > _MAX_BYTES:
        raise InputError(
            "The ensemble is larger than the 2 GB that one ONNX file can hold. export(folder) has no limit."
        )
    checker.check_model(model)
    return model


def _blend(graph: Graph, predictor: Predictor, columns: GraphColumns) -> str:
    """Add all models and their weighted average."""
    blend, encoded = None, dict[Any, str]()
    for member, models in zip(predictor.ensemble.members, predictor.models, strict=True):
        found = []
        for model in models:
            assert isinstance(model, FittedModel)
            found.append(predict(graph, model, encode(graph, columns, model.encoder, encoded)))
        average = _sharpen(graph, _average_folds(graph, predictor, found), member.temperature_of(len(models)))
        share = graph.add("Mul", average, member.weight)
        blend = share if blend is None else graph.add("Add", blend, share)
    assert blend is not None
    return blend


def _add_outputs(graph: Graph, predictor: Predictor, blend: str, taken: set[str]) -> list[Any]:
    """Add the outputs, whose names are not `taken` by inputs: a number, or probabilities and a label."""
    from onnx import TensorProto, helper

    def output(name: str, kind: int, shape: list[Any]) -> Any:
        while name in taken:
            name += "_"
        return helper.make_tensor_value_info(name, kind, shape)

    if predictor.classes is None:
        number = output("prediction", TensorProto.DOUBLE, [None])
        graph.add("Reshape", blend, np.array([-1]), output=number.name)
        return [number]
    labels = _labels(predictor.classes)
    kinds = {"i": TensorProto.INT64, "b": TensorProto.BOOL, "f": TensorProto.DOUBLE}
    probabilities = output("probabilities", TensorProto.DOUBLE, [None, len(labels)])
    label = output("label", kinds.get(labels.dtype.kind, TensorProto.STRING), [None])
    graph.add("Identity", _calibrate(graph, predictor, blend), output=probabilities.name)
    values = _decision_values(graph, predictor, probabilities.name)
    chosen = graph.add("ArgMax", values, attributes={"axis": 1, "keepdims": 0})
    graph.add("Gather", labels, chosen, output=label.name)
    return [probabilities, label]


def _average_folds(graph: Graph, predictor: Predictor, found: list[str]) -> str:
    if len(found) == 1:
        return found[0]
    roots = predictor.ensemble.averages_roots
    total = None
    for one in found:
        part = graph.add("Sqrt", graph.at_least(one, 0.0)) if roots else one
        total = part if total is None else graph.add("Add", total, part)
    mean = graph.add("Div", total, float(len(found)))
    if not roots:
        return mean
    squares = graph.add("Mul", mean, mean)
    return graph.add("Div", squares, graph.sum(squares, 1, keep=True))


def _labels(classes: Any) -> Any:
    """Return the labels in a type that ONNX has; others as texts."""
    kinds = {type(label) for label in classes.tolist()}
    return classes if kinds in ({int}, {bool}, {float}, {str}) else np.array([str(label) for label in classes.tolist()])


def _calibrate(graph: Graph, predictor: Predictor, blend: str) -> str:
    ensemble = predictor.ensemble
    if ensemble.calibration is not None:
        knots, values = (np.asarray(row)[:, None] for row in ensemble.calibration)
        second = graph.interpolate(graph.columns(blend, [1]), knots, values)
        return graph.concat([graph.add("Sub", 1.0, second), second])
    return _sharpen(graph, blend, ensemble.temperature)


def _sharpen(graph: Graph, probabilities: str, temperature: float) -> str:
    if temperature == 1.0:
        return probabilities
    logs = graph.add("Log", graph.clip(probabilities, SMALLEST_PROBABILITY, 1.0))
    return graph.softmax(graph.add("Div", logs, temperature))


def _decision_values(graph: Graph, predictor: Predictor, probabilities: str) -> str:
    ensemble = predictor.ensemble
    if ensemble.costs is not None:
        return graph.add("Neg", graph.add("MatMul", probabilities, np.asarray(ensemble.costs)))
    if ensemble.decision_weights is not None:
        return graph.add("Mul", probabilities, np.asarray(ensemble.decision_weights))
    return probabilities


def _random_rows(schema: Schema) -> Table:
    """Make rows with numbers of many sizes, known and unseen categories, and missing values."""
    rng, example = np.random.default_rng(0), schema.example()
    p, tops = example.n_numbers, np.asarray(example.cardinalities)
    shape = (_RANDOM_ROWS, p)
    numbers = rng.normal(size=shape) * 10.0 ** rng.integers(-2, 5, shape)
    codes = rng.integers(0, tops + 1, (_RANDOM_ROWS, len(tops))).astype(float)
    matrix = np.hstack([numbers, codes])
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    matrix = np.vstack([example.matrix, matrix])
    for column in (column for column in schema.columns if column.kind == "date"):  # whose numbers go together
        seconds = rng.integers(-(10**9), 4 * 10**9, len(matrix)).astype("datetime64[s]")
        seconds[rng.random(len(matrix)) < 0.1] = np.datetime64("NaT", "s")
        parts = date_parts(seconds.astype("datetime64[us]"))
        matrix[:, schema.matrix_places[column.name]] = np.column_stack([parts[part] for part in column.parts])
    texts = tuple(
        np.array(_ODD_TEXTS, dtype=object)[rng.integers(0, len(_ODD_TEXTS), len(matrix))] for _ in example.texts
    )
    return Table(matrix, p, example.cardinalities, texts)


def _compare(content: bytes, predictor: Predictor, tables: Sequence[Table]) -> None:
    """Raise WindvaneError where onnxruntime computes something else."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for table in tables:
        expected = predictor.predict_raw(table)
        found = session.run(None, input_values(predictor.schema, table))[0]
        difference = float((np.abs(found - expected) / np.maximum(1.0, np.abs(expected))).max())
        if not difference <= TOLERANCE:
            raise WindvaneError(f"The ONNX file computes something else: a prediction differs by {difference:.2g}.")
