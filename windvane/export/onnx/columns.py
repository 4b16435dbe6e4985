"""The columns of a table in a graph: raw values -> numbers and category rows -> what an encoder makes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.evaluation.columns.importance import encoded_columns
from windvane.export.encoder_pipeline import category_texts
from windvane.export.onnx import texts
from windvane.export.onnx.graph import ML, Graph
from windvane.runtime.columns.column_values import MISSING_TEXTS
from windvane.runtime.columns.encoder import HIGHEST, LOWEST, MARGIN, ZERO_LENGTH, Encoder
from windvane.runtime.columns.generated_features import FLOAT_LIMIT, GeneratedFeatures
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Table

ARRAY = "X"  # the input of a model of an array without names, if all of its columns are numbers
_OPERATORS = {"-": "Sub", "+": "Add", "*": "Mul", "/": "Div"}


@dataclass(frozen=True)
class GraphColumns:
    """The columns of n rows as tensors."""

    numbers: str | None  # (n, p), double; None without numbers
    rows: tuple[str, ...]  # for each category (n, 1), int64: the code; of unseen values k, of missing ones k + 1
    cardinalities: tuple[int, ...]  # k of each
    texts: tuple[str, ...] = ()  # inputs (n, 1), string


def add_inputs(graph: Graph, schema: Schema) -> tuple[list[Any], GraphColumns]:
    """Return the inputs of a graph, and the columns that it makes of them."""
    from onnx import TensorProto, helper

    used = [column for column in schema.columns if column.kind != "dropped"]
    categories = [column for column in used if column.kind == "category"]
    inputs, parts, rows = [], [], []
    if _is_array(schema):
        inputs.append(helper.make_tensor_value_info(ARRAY, TensorProto.DOUBLE, [None, len(schema.columns)]))
        parts.append(graph.columns(ARRAY, _number_places(schema)))
    else:
        for column in used:
            kind = TensorProto.STRING if column.kind in ("category", "text") else TensorProto.DOUBLE
            inputs.append(helper.make_tensor_value_info(column.name, kind, [None, 1]))
        parts += [column.name for column in used if column.kind == "number"]
        for column in (column for column in used if column.kind == "date"):
            made = _date_parts(graph, column.name)
            parts += [made[part] for part in column.parts]
        parts += [column.name for column in used if column.kind == "duration"]
    for column in categories:
        codes = category_texts(column.vocabulary)
        k = len(column.vocabulary)
        keys = [*codes, *sorted(MISSING_TEXTS - set(codes))]
        values = [int(codes[text]) if text in codes else k + 1 for text in keys]
        attributes = {"keys_strings": keys, "values_int64s": values, "default_int64": k}
        rows.append(graph.add("LabelEncoder", column.name, attributes=attributes, domain=ML))
    numbers = None
    if parts:
        numbers = graph.concat(parts)
        numbers = graph.add("Where", graph.add("IsInf", numbers), np.nan, numbers)
        constants = dict(schema.constants)
        if constants:
            places = range(sum(map(len, schema.matrix_places.values())) - len(categories))
            present = graph.add("Not", graph.add("IsNaN", numbers))
            present = graph.add("And", present, np.array([j in constants for j in places]))
            numbers = graph.add("Where", present, np.array([constants.get(j, 0.0) for j in places]), numbers)
    cardinalities = tuple(len(column.vocabulary) for column in categories)
    text_inputs = tuple(column.name for column in used if column.kind == "text")
    return inputs, GraphColumns(numbers, tuple(rows), cardinalities, text_inputs)


def input_values(schema: Schema, table: Table) -> dict[str, NDArray[Any]]:
    """Return what to feed a graph to have it predict the rows of a table."""
    if _is_array(schema):
        X = np.zeros((table.n_rows, len(schema.columns)))
        X[:, _number_places(schema)] = table.matrix
        return {ARRAY: X}
    encoded = encoded_columns(schema)
    fed: dict[str, NDArray[Any]] = {}
    for column in (column for column in schema.columns if column.kind != "dropped"):
        if column.kind == "text":
            fed[column.name] = table.texts[encoded[column.name].texts[0]][:, None]
            continue
        values = table.matrix[:, list(encoded[column.name].matrix)]  # (n, 1), or (n, parts) of a date
        if column.kind == "date":
            values = np.round(values[:, [column.parts.index("days")]] * 86400.0, 6)
        elif column.kind == "category":
            k = len(column.vocabulary)
            unseen = "unseen " + max(column.vocabulary, key=len, default="")
            known = np.array([*column.vocabulary, unseen, ""], dtype=object)
            values = known[np.where(np.isnan(values), k + 1, values).astype(int)]
        fed[column.name] = values
    return fed


def _is_array(schema: Schema) -> bool:
    """Whether the input is one array of numbers without names."""
    return not schema.named and all(column.kind in ("number", "dropped") for column in schema.columns)


def _number_places(schema: Schema) -> list[int]:
    return [i for i, column in enumerate(schema.columns) if column.kind == "number"]


def _date_parts(graph: Graph, x: str) -> dict[str, str]:
    """Take seconds since 1970 apart into the numbers of `dates.PARTS`, each (n, 1).

    Days become years and months as in "chrono-compatible low-level date algorithms" (H. Hinnant, 2013): years that
    begin in March have their odd day at the end.
    """

    def whole(a: str, b: float) -> str:
        return graph.add("Floor", graph.add("Div", a, b))

    def rest(a: str, b: float) -> str:
        return graph.add("Sub", a, graph.add("Mul", whole(a, b), b))

    day, seconds = whole(x, 86400.0), rest(x, 86400.0)
    shifted = graph.add("Add", day, 719468.0)  # since 1 March of the year 0
    day_of_era = rest(shifted, 146097.0)  # of 400 years
    corrected = graph.add("Sub", day_of_era, whole(day_of_era, 1460.0))
    corrected = graph.add("Add", corrected, whole(day_of_era, 36524.0))
    year_of_era = whole(graph.add("Sub", corrected, whole(day_of_era, 146096.0)), 365.0)
    begun = graph.add("Add", graph.add("Mul", year_of_era, 365.0), whole(year_of_era, 4.0))
    day_of_year = graph.add("Sub", day_of_era, graph.add("Sub", begun, whole(year_of_era, 100.0)))
    month = whole(graph.add("Add", graph.add("Mul", day_of_year, 5.0), 2.0), 153.0)  # from March, 0 to 11
    before = whole(graph.add("Add", graph.add("Mul", month, 153.0), 2.0), 5.0)
    late = graph.add("GreaterOrEqual", month, 10.0)  # January and February
    year = graph.add("Add", year_of_era, graph.add("Mul", whole(shifted, 146097.0), 400.0))
    return {
        "days": graph.add("Add", day, graph.add("Div", seconds, 86400.0)),
        "year": graph.add("Add", year, graph.cast(late, "double")),
        "month": graph.add("Add", month, graph.add("Where", late, -9.0, 3.0)),
        "day": graph.add("Add", graph.add("Sub", day_of_year, before), 1.0),
        "weekday": rest(graph.add("Add", day, 3.0), 7.0),
        "hour": whole(seconds, 3600.0),
    }


def encode(graph: Graph, columns: GraphColumns, encoder: Encoder, cache: dict[Any, str]) -> str:
    """Add the steps of an encoder: double, (n, q). `cache` has what the graph holds already, by its content."""
    key = (tuple(map(str, encoder.steps)), *((name, array.tobytes()) for name, array in sorted(encoder.arrays.items())))
    if key not in cache:
        cache[key] = _encode(graph, columns, encoder, cache)
    return cache[key]


def _encode(graph: Graph, columns: GraphColumns, encoder: Encoder, cache: dict[Any, str]) -> str:
    if encoder.generated is not None:
        columns = _generate(graph, columns, encoder.generated)
    numbers = columns.numbers
    chain, blocks = numbers, list[str]()
    for i, step in enumerate(encoder.steps):
        arrays, op = encoder.arrays_of(i), step["op"]
        if op == "matrix":
            blocks += [*([] if numbers is None else [numbers]), *_codes(graph, columns, range(len(columns.rows)))]
        elif op in _NUMBER_STEPS and chain is not None:
            chain = _NUMBER_STEPS[op](graph, chain, step, arrays)
        elif op == "numbers" and chain is not None:
            blocks.append(chain)
        elif op == "missing" and numbers is not None and len(arrays["columns"]):
            blocks.append(graph.cast(graph.add("IsNaN", graph.columns(numbers, arrays["columns"])), "double"))
        elif op == "codes":
            blocks += _codes(graph, columns, step["columns"])
        elif op == "lookup":
            for j in step["columns"]:
                blocks.append(_rows_of(graph, arrays[f"table_{j}"], columns.rows[int(j)]))
        elif op == "text":
            blocks.append(texts.embed(graph, columns.texts[int(step["text"])], step, arrays, cache))
    if not blocks:  # as `join_blocks` does
        if numbers is None and not columns.rows:
            return texts.zeros(graph, columns.texts[0])
        anything = numbers if numbers is not None else graph.cast(columns.rows[0], "double")
        first = graph.columns(anything, [0])
        blocks.append(graph.add("Where", graph.add("IsNaN", first), 0.0, graph.add("Mul", first, 0.0)))
    return graph.concat(blocks)


def _codes(graph: Graph, columns: GraphColumns, chosen: Any) -> list[str]:
    """Return codes as double (n, 1), missing ones as NaN."""
    found = []
    for j in map(int, chosen):
        missing = graph.add("Equal", columns.rows[j], columns.cardinalities[j] + 1)
        found.append(graph.add("Where", missing, np.nan, graph.cast(columns.rows[j], "double")))
    return found


def _rows_of(graph: Graph, table: NDArray[Any], rows: str) -> str:
    """Return the rows (n, m) of a table that a tensor (n, 1) names."""
    return graph.add("Gather", table, graph.reshape(rows, -1), attributes={"axis": 0})


def _generate(graph: Graph, columns: GraphColumns, generated: GeneratedFeatures) -> GraphColumns:
    """Add the features generated from pairs of columns behind the numbers."""
    parts = [] if columns.numbers is None else [columns.numbers]
    for operator, i, j in generated.arithmetic:
        left, right = (graph.columns(parts[0], [place]) for place in (i, j))
        if operator == "/":
            right = graph.add("Where", graph.add("Equal", right, 0.0), np.nan, right)
        found = graph.add(_OPERATORS[operator], left, right)
        parts.append(graph.add("Where", graph.add("Less", graph.add("Abs", found), FLOAT_LIMIT), found, np.nan))
    for cross in generated.crosses:
        keys = graph.constant(np.zeros((1, 1), dtype=np.int64))
        for category in cross.categories:
            scaled = graph.add("Mul", keys, columns.cardinalities[category] + 2)
            keys = graph.add("Add", scaled, columns.rows[category])
        attributes = {
            "keys_int64s": cross.keys.tolist(),
            "values_int64s": list(range(len(cross.keys))),
            "default_int64": len(cross.keys),
        }
        at = graph.add("LabelEncoder", keys, attributes=attributes, domain=ML)
        parts.append(_rows_of(graph, np.vstack([cross.means, cross.prior]), at))
    for group in generated.groups:
        mean = _rows_of(graph, group.means[:, None], columns.rows[group.category])
        parts += [mean, graph.add("Sub", graph.columns(parts[0], [group.number]), mean)]
    return replace(columns, numbers=graph.concat(parts))


def _clip(graph: Graph, x: str, step: Any, arrays: Any) -> str:
    return graph.clip(x, arrays["low"], arrays["high"])


def _impute(graph: Graph, x: str, step: Any, arrays: Any) -> str:
    return graph.add("Where", graph.add("IsNaN", x), arrays["values"], x)


def _affine(graph: Graph, x: str, step: Any, arrays: Any) -> str:
    return graph.add("Div", graph.add("Sub", x, arrays["center"]), arrays["scale"])


def _range(graph: Graph, x: str, step: Any, arrays: Any) -> str:
    return graph.add("Add", graph.add("Mul", x, arrays["factor"]), arrays["offset"])


def _quantile(graph: Graph, x: str, step: Any, arrays: Any) -> str:
    """Look levels up as `encoder.Quantile` does for few rows, then take their normal scores."""
    quantiles, references = arrays["quantiles"], arrays["references"]  # (m, p), (m,)
    m, p = quantiles.shape
    levels = np.repeat(references[:, None], p, axis=1)
    below = graph.count_below(x, quantiles, or_equal=False)
    up_to = graph.count_below(x, quantiles, or_equal=True)
    first = graph.pick(levels, graph.at_most(below, float(m - 1)))
    last = graph.pick(levels, graph.at_least(graph.add("Sub", up_to, 1.0), 0.0))
    met = graph.add("Div", graph.add("Add", first, last), 2.0)  # where quantiles are equal to x
    between = graph.interpolate(x, quantiles, levels)
    found = graph.add("Where", graph.add("Greater", up_to, below), met, between)
    normal = bool(step["normal"])
    margin = MARGIN if normal else 0.0
    for end, value, sign in ((quantiles[-1], 1.0, 1.0), (quantiles[0], 0.0, -1.0)):
        reached = graph.add("GreaterOrEqual" if sign > 0 else "LessOrEqual", x, end)
        beyond = graph.add("Greater" if sign > 0 else "Less", graph.add("Add", x, sign * margin), end)
        found = graph.add("Where", graph.add("Or", reached, beyond), value, found)
    if normal:
        edge = MARGIN - np.spacing(1)
        scores = graph.normal_quantile(graph.clip(found, edge, 1 - edge))
        found = graph.clip(scores, float(LOWEST), float(HIGHEST))
    return graph.add("Where", graph.add("IsNaN", x), np.nan, found)


def _power(graph: Graph, x: str, step: Any, arrays: Any) -> str:
    powers = arrays["powers"]
    mirrored = graph.add("Where", graph.add("GreaterOrEqual", x, 0.0), powers, 2 - powers)
    logs = graph.add("Log", graph.add("Add", graph.add("Abs", x), 1.0))
    flat = graph.add("Less", graph.add("Abs", mirrored), float(np.spacing(1.0)))
    grown = graph.add("Sub", graph.add("Exp", graph.add("Mul", mirrored, logs)), 1.0)
    lengths = graph.add("Where", flat, logs, graph.add("Div", grown, graph.add("Where", flat, 1.0, mirrored)))
    return graph.add("Mul", lengths, graph.add("Sign", x))


def _row_norm(graph: Graph, x: str, step: Any, arrays: Any) -> str:
    lengths = graph.add("Sqrt", graph.sum(graph.add("Mul", x, x), 1, keep=True))
    return graph.add("Div", x, graph.add("Where", graph.add("Less", lengths, float(ZERO_LENGTH)), 1.0, lengths))


_NUMBER_STEPS = {
    "clip": _clip,
    "impute": _impute,
    "affine": _affine,
    "range": _range,
    "quantile": _quantile,
    "power": _power,
    "row_norm": _row_norm,
}
