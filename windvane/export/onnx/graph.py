"""A growing ONNX graph: nodes and constants by name, and the operations that several parts of it need.

All arithmetic is in double precision, as that of windvane is. Shapes: n rows, q columns.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET, ML_OPSET, IR_VERSION = 18, 5, 10
ML = "ai.onnx.ml"
_SINGLE = float(np.finfo(np.float32).max)

# Coefficients of Wichura (1988), "Algorithm AS 241: the percentage points of the normal distribution", routine PPND16,
# numerator and denominator from the constant on: for levels within 0.425 of 0.5, and up to exp(-25) of either end.
_CENTRAL = (
    (
        *(3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4),
        *(4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
    ),
    (
        *(1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3),
        *(2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3),
    ),
)
_TAIL = (
    (
        *(1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0),
        *(1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
    ),
    (
        *(1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1),
        *(1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9),
    ),
)


class Graph:
    """Nodes in the order in which they run; every method returns the name of a tensor."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.opsets = {"": OPSET, ML: ML_OPSET}  # version of the operators of each domain
        self._count = 0

    def constant(self, value: Any) -> str:
        """Add a constant: numbers as double, integers as int64, truth values, texts."""
        from onnx import helper, numpy_helper

        array = np.asarray(value)
        name = self._name()
        if array.dtype.kind in "OU":
            texts = [str(text).encode() for text in array.ravel()]
            self.constants.append(helper.make_tensor(name, 8, array.shape, texts))  # 8: STRING
            return name
        kind = {"b": np.bool_, "i": np.int64, "u": np.int64}.get(array.dtype.kind, np.float64)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype=kind), name))
        return name

    def add(
        self, op: str, *inputs: Any, attributes: Mapping[str, Any] | None = None, domain: str = "", output: str = ""
    ) -> str:
        """Add a node; an input that is not a name, but an array or a number, becomes a constant."""
        from onnx import helper

        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        name = output or self._name()
        self.nodes.append(helper.make_node(op, names, [name], domain=domain, **(attributes or {})))
        return name

    def _name(self) -> str:
        self._count += 1
        return f"windvane/{self._count}"

    def cast(self, x: str, dtype: str) -> str:
        """Convert to "float", "double", "int64" or "bool"."""
        from onnx import TensorProto

        return self.add("Cast", x, attributes={"to": getattr(TensorProto, dtype.upper())})

    def columns(self, x: str, columns: Sequence[int] | NDArray[Any]) -> str:
        """Take some columns of (n, q)."""
        return self.add("Gather", x, np.asarray(columns, dtype=np.int64), attributes={"axis": 1})

    def slice(self, x: str, start: int, end: int | None) -> str:
        """Take the columns from `start` to before `end` of (n, q)."""
        ends = np.array([sys.maxsize if end is None else end])
        return self.add("Slice", x, np.array([start]), ends, np.array([1]))

    def reshape(self, x: str, *shape: int) -> str:
        return self.add("Reshape", x, np.array(shape))

    def concat(self, parts: Sequence[str]) -> str:
        """Put matrices side by side."""
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, attributes={"axis": 1})

    def unique(self, texts: str) -> tuple[str, str]:
        """Return the distinct texts of (m,), and the place of each text among them."""
        from onnx import helper

        names = [self._name() for _ in range(3)]
        self.nodes.append(helper.make_node("Unique", [texts], names))
        return names[0], names[2]

    def join_texts(self, pieces: str) -> str:
        """Join the texts of each row (m, l), of which the last is empty: (m,)."""
        from onnx import TensorProto, helper

        at, going, goes_on, before, piece, joined = (self._name() for _ in range(6))
        nodes = [
            helper.make_node("Identity", [going], [goes_on]),
            helper.make_node("Gather", [pieces, at], [piece], axis=1),
            helper.make_node("StringConcat", [before, piece], [joined]),
        ]
        value = helper.make_tensor_value_info
        inputs = [value(at, TensorProto.INT64, []), value(going, TensorProto.BOOL, [])]
        inputs.append(value(before, TensorProto.STRING, [None]))
        outputs = [value(goes_on, TensorProto.BOOL, []), value(joined, TensorProto.STRING, [None])]
        body = helper.make_graph(nodes, self._name(), inputs, outputs)
        length = self.add("Gather", self.add("Shape", pieces), 1)
        start = self.reshape(self.columns(pieces, [-1]), -1)
        return self.add("Loop", length, "", start, attributes={"body": body})

    def sum(self, x: str, axis: int, *, keep: bool) -> str:
        return self.add("ReduceSum", x, np.array([axis]), attributes={"keepdims": int(keep)})

    def affine(self, x: str, weights: NDArray[Any], bias: NDArray[Any]) -> str:
        """Multiply with a matrix (q, m) and add a row (m,)."""
        return self.add("Add", self.add("MatMul", x, weights), bias)

    def at_least(self, x: str, low: Any) -> str:
        """Cut off below; NaN stays NaN."""
        low = low if isinstance(low, str) else self.constant(low)
        return self.add("Where", self.add("Less", x, low), low, x)

    def at_most(self, x: str, high: Any) -> str:
        """Cut off above; NaN stays NaN."""
        high = high if isinstance(high, str) else self.constant(high)
        return self.add("Where", self.add("Greater", x, high), high, x)

    def clip(self, x: str, low: Any, high: Any) -> str:
        """Cut off below and above; NaN stays NaN."""
        return self.at_most(self.at_least(x, low), high)

    def single(self, x: str) -> str:
        """Round to single precision and back; what is beyond its range is cut off."""
        return self.cast(self.cast(self.clip(x, -_SINGLE, _SINGLE), "float"), "double")

    def softmax(self, x: str) -> str:
        return self.add("Softmax", x, attributes={"axis": 1})

    def count_below(self, x: str, sorted_columns: NDArray[Any], *, or_equal: bool) -> str:
        """For each number of (n, p) count the values of its column (m, p) below it, or up to it; double.

        A binary search, all columns at once: log2(m) comparisons without an array of n * m.
        """
        m, p = sorted_columns.shape
        padded = np.vstack([sorted_columns, np.full((1, p), np.inf)])  # (m + 1, p): a place behind the end
        flat = self.constant(padded.T.ravel())
        offsets = np.arange(p) * (m + 1)
        count = self.add("Mul", self.cast(self.add("IsNaN", x), "int64"), 0)  # (n, p), zeros
        step = 1 << max(0, int(m).bit_length() - 1)
        while step:
            probe = self.add("Min", self.add("Add", count, step), m)
            value = self.add("Gather", flat, self.add("Add", self.add("Sub", probe, 1), offsets))
            passed = self.add("LessOrEqual" if or_equal else "Less", value, x)
            count = self.add("Where", passed, probe, count)
            step >>= 1
        return self.cast(count, "double")

    def pick(self, table: NDArray[Any], index: str) -> str:
        """Take from each column of a table (m, p) the value at the double index (n, p)."""
        m, p = table.shape
        flat = self.constant(np.ascontiguousarray(table.T).ravel())
        return self.add("Gather", flat, self.add("Add", self.cast(index, "int64"), np.arange(p) * m))

    def interpolate(self, x: str, knots: NDArray[Any], values: NDArray[Any]) -> str:
        """Interpolate column by column between knots (m, p), ascending, and values (m, p); constant beyond the ends."""
        m = len(knots)
        last = self.add("Sub", self.count_below(x, knots, or_equal=True), 1.0)
        left = self.clip(last, 0.0, float(max(m - 2, 0)))
        right = self.add("Min", self.add("Add", left, 1.0), float(m - 1))
        start, value = self.pick(knots, left), self.pick(values, left)
        width = self.add("Sub", self.pick(knots, right), start)
        is_wide = self.add("Greater", width, 0.0)
        share = self.add("Div", self.add("Sub", x, start), self.add("Where", is_wide, width, 1.0))
        share = self.add("Where", is_wide, self.clip(share, 0.0, 1.0), 0.0)
        return self.add("Add", value, self.add("Mul", share, self.add("Sub", self.pick(values, right), value)))

    def normal_quantile(self, level: str) -> str:
        """Return the normal scores of levels within 1e-7 and 1 - 1e-7."""
        q = self.add("Sub", level, 0.5)
        square = self.add("Mul", q, q)
        central = self.add("Mul", q, self._ratio(self.add("Sub", 0.180625, square), *_CENTRAL))
        nearer = self.add("Min", level, self.add("Sub", 1.0, level))
        depth = self.add("Sqrt", self.add("Neg", self.add("Log", nearer)))
        tail = self._ratio(self.add("Sub", depth, 1.6), *_TAIL)
        tail = self.add("Mul", tail, self.add("Sign", q))
        return self.add("Where", self.add("LessOrEqual", self.add("Abs", q), 0.425), central, tail)

    def _ratio(self, x: str, above: Sequence[float], below: Sequence[float]) -> str:
        return self.add("Div", self._polynomial(x, above), self._polynomial(x, below))

    def _polynomial(self, x: str, coefficients: Sequence[float]) -> str:
        found = self.constant(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            found = self.add("Add", self.add("Mul", found, x), coefficient)
        return found
