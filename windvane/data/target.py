"""The target and the weights of rows: checked, converted to numbers, and the kind of task inferred."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array, column_or_1d

from windvane.data.date_formats import find_date_format
from windvane.data.files import unmask
from windvane.data.number_columns import number_forms, texts_beside_numbers
from windvane.errors import InputError, some_of
from windvane.pages.texts import counted
from windvane.runtime.columns.column_values import are_codes, plain_numbers, to_canonical_text, to_numbers
from windvane.runtime.columns.number_texts import Evidence
from windvane.runtime.columns.table import Floats, Integers

TaskType = Literal["classification", "regression"]

MAX_INTEGER_CLASSES = 20  # integers with more distinct values are taken for amounts
MIN_ROWS_PER_CLASS = 3
MAX_NAMED = 8  # of groups of labels in a warning
_WEIGHT_STEPS = 2.0**24  # weights are rounded to the precision of float32, so that the noise of a factor is gone


def encode_target(
    y: Any, task: TaskType, classes: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any] | None]:  # (n,), (k,)
    """Return class codes (int64) and the k sorted labels, or float64 numbers and None.

    The labels of an ordered Categorical have its order, without the categories that do not occur. With the labels of
    training as `classes`, codes are positions among them.
    """
    column = _to_array(y)
    _refuse(pd.isna(column), "missing")
    if column.dtype.kind == "f":
        _refuse(np.isinf(column), "infinite")
    if task == "regression":
        return _regression_target(column), None
    codes, labels = _class_codes(column, classes)
    order = None if classes is not None else ordered_categories(y)
    if order is None:
        return codes, labels
    positions = np.argsort(_index(order).get_indexer(_index(labels)))  # (k,), of the labels from the least on
    return np.argsort(positions)[codes].astype(np.int64), labels[positions]


def ordered_categories(y: Any) -> NDArray[Any] | None:
    """Categories of an ordered pandas Categorical, also of polars or pyarrow, the least first; None for another y."""
    values = y.to_pandas() if hasattr(y, "to_pandas") else y
    if isinstance(values, pd.DataFrame) and values.shape[1] == 1:
        values = values.iloc[:, 0]
    dtype = getattr(values, "dtype", None)
    return np.asarray(dtype.categories) if isinstance(dtype, pd.CategoricalDtype) and dtype.ordered else None


def similar_labels(labels: Sequence[object]) -> list[str]:
    """Return a warning if classes differ in nothing but spaces and capital letters, as entries typed by hand do."""
    alike: dict[str, list[str]] = {}
    for label in labels:
        if isinstance(label, str):
            text = " ".join(label.split())
            alike.setdefault(text.casefold() if len(text) > 1 else text, []).append(repr(label))
    found = [" and ".join(same) for same in alike.values() if len(same) > 1]
    if not found:
        return []
    return [
        f"Classes differ in spaces or capital letters alone: {some_of(found, MAX_NAMED)}. They are learned as "
        "separate classes; if they mean the same, write them alike."
    ]


def choose_positive(
    given: Any, classes: NDArray[Any], target: NDArray[Any], earlier: Any = None
) -> tuple[int | None, str]:
    """Return the code of the positive one of two classes, and why it is that one; None for more classes."""
    labels = classes.tolist()
    if len(labels) != 2:
        if given is not None:
            raise InputError(f"positive_class={given!r} is for two classes, but there are {len(labels)}.")
        return None, ""
    if given is not None:
        code = _code_of(given, labels)
        if code is None:
            raise InputError(f"positive_class={given!r} is no class. Allowed: {labels[0]!r} or {labels[1]!r}.")
        return code, "as chosen"
    if earlier is not None and (code := _code_of(earlier, labels)) is not None:
        return code, "as in the run so far"
    if classes.dtype.kind in "biuf" and 1 in labels:
        return labels.index(1), "as in scikit-learn"
    counts = np.bincount(target, minlength=2)
    return int(counts[1] <= counts[0]), "the rarer one"


def _code_of(given: Any, labels: Sequence[Any]) -> int | None:
    """Position of the one label that equals a value, or else is written like it; None without a match."""
    for same in (lambda label: label == given, lambda label: to_canonical_text(label) == to_canonical_text(given)):
        matches = [code for code, label in enumerate(labels) if same(label)]
        if len(matches) == 1:
            return matches[0]
    return None


def infer_task(target: pd.Series) -> tuple[TaskType, str]:
    """The task that the values of a target suggest, and the reason in words; missing values are ignored."""
    present = target.dropna()
    form = written_form(present)
    if form is not None:
        present = pd.Series(to_numbers(present, form)).dropna()
    distinct = int(present.nunique())
    if not types.is_numeric_dtype(present.dtype) or types.is_bool_dtype(present.dtype):
        odd = texts_beside_numbers([value for value in present.unique() if isinstance(value, str)])
        if odd:
            return "regression", f"numbers, except for {odd[0]!r}"
        if distinct > MAX_INTEGER_CLASSES and _are_dates(present):
            return "regression", f"{distinct} distinct dates"
        if are_codes(map(str, present.unique())):
            return "classification", f"{counted(distinct, 'distinct code')} with leading zeros"
        are = "is no number" if distinct == 1 else "are not numbers"
        return "classification", f"{counted(distinct, 'distinct value')} that {are}"
    if (present != present.round()).any():
        return "regression", "numbers with fractions"
    if distinct <= MAX_INTEGER_CLASSES and (distinct == 2 or len(present) >= MIN_ROWS_PER_CLASS * distinct):
        return "classification", f"{distinct} distinct whole numbers"
    return "regression", f"{counted(distinct, 'distinct whole number')} in {counted(len(present), 'row')}"


def _are_dates(values: pd.Series) -> bool:
    """Whether a target holds dates, also written as texts of one format."""
    if types.is_datetime64_any_dtype(values.dtype):
        return True
    texts = values.unique().tolist()
    return all(isinstance(text, str) for text in texts) and find_date_format(texts, None)[0] is not None


def written_form(values: Any) -> str | None:
    """How numbers are written where they are texts that Python does not read, as in "1.234,5 €"; None otherwise."""
    evidence = _written(values)[1]
    return str(evidence.forms[0]) if evidence.forms else None


def _written(values: Any) -> tuple[pd.Series, Evidence]:
    """Return values as a column of objects, and how its numbers are written; no form where Python reads them."""
    column = pd.Series(np.asarray(values).ravel(), dtype=object)
    if types.infer_dtype(column, skipna=True) not in ("string", "mixed", "mixed-integer"):
        return column, Evidence((), False)
    evidence = number_forms(column)
    is_plain = bool(evidence.forms) and not np.isnan(plain_numbers(column.dropna())).any()
    return column, Evidence((), False) if is_plain else evidence


def written_numbers(values: Any, name: str) -> Floats | None:  # (n,)
    """Read numbers that are written as texts; None if they are not numbers, InputError where there are two readings."""
    column, evidence = _written(values)
    if not evidence.forms:
        return None
    if evidence.doubtful:
        texts = [text for text in column if isinstance(text, str)]
        text = next(text for text in texts if len({one.read(text) for one in evidence.forms}) > 1)
        readings = " or ".join(f"{one.read(text):g}" for one in evidence.forms)
        raise InputError(
            f"{name} holds texts such as {text!r}, which may be {readings}, and no value decides: convert them to "
            "numbers before."
        )
    return to_numbers(column.rename(name), str(evidence.forms[0]))


def counted_rows(sample_weight: Any, n_rows: int) -> tuple[Floats | None, Integers | None]:
    """Return the weights of the rows that count, with the mean 1, and the positions of these rows.

    The weights are None where all these rows count the same, the positions are None where all rows count.
    """
    if sample_weight is None:
        return None, None
    weight = _check_weights(sample_weight, n_rows)
    weight = weight / weight.max()  # so that neither the sum overflows nor the quotient
    rows = np.flatnonzero(weight)
    weight = weight[rows] / weight[rows].mean()
    mantissa, exponent = np.frexp(weight)
    weight = np.ldexp(np.round(mantissa * _WEIGHT_STEPS) / _WEIGHT_STEPS, exponent)
    same = bool((weight == weight[0]).all())
    return None if same else weight, None if len(rows) == n_rows else rows


def _check_weights(sample_weight: Any, n_rows: int) -> Floats:  # (n_rows,)
    _refuse_name("sample_weight", sample_weight)
    if isinstance(sample_weight, np.ma.MaskedArray):
        sample_weight = unmask(sample_weight)
    written = written_numbers(sample_weight, "sample_weight")
    try:
        weight = check_array(
            sample_weight if written is None else written, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
        )
    except (TypeError, ValueError) as error:
        raise InputError(
            f"sample_weight cannot be used: {str(error).rstrip('.')}. Allowed: a number of at least 0 for each row."
        ) from error
    if weight.shape != (n_rows,):
        raise InputError(
            f"sample_weight has the shape {weight.shape}, but must have {(n_rows,)}: a number for each row."
        )
    if (weight < 0).any():
        first = int(np.argmax(weight < 0))
        raise InputError(f"sample_weight[{first}] is {weight[first]:g}, but weights must not be negative.")
    if not weight.any():
        raise InputError("sample_weight must contain at least one weight that is not zero.")
    return np.asarray(weight)


def _refuse_name(argument: str, given: Any) -> None:
    if isinstance(given, str):
        raise InputError(f"{argument}={given!r} is a text. Allowed: a value for each row, as in X.pop({given!r}).")


def _to_array(y: Any) -> NDArray[Any]:  # (n,)
    """One-dimensional array of the simplest type."""
    if y is None:
        raise InputError("fit requires y to be passed, but the target y is None.")
    _refuse_name("y", y)
    if isinstance(y, np.ma.MaskedArray):
        y = unmask(y) if y.mask.any() else y.data
    try:
        array = np.asarray(y)
        if array.dtype.kind == "U" and isinstance(y, list | tuple) and not all(isinstance(label, str) for label in y):
            array = np.asarray(y, dtype=object)  # NumPy turns numbers beside texts into texts
        array = column_or_1d(array, warn=True)
    except ValueError as error:
        raise InputError(f"y cannot be used: {error}") from error
    if array.dtype != object:
        return np.asarray(array, dtype=array.dtype.newbyteorder("="))  # pandas knows no other order of bytes
    # Nullable and categorical columns of pandas come as objects.
    try:
        return np.asarray(pd.Series(array, dtype=object).infer_objects())
    except UnicodeEncodeError:  # halves of surrogate pairs, which stay objects
        return np.asarray(array)


def _refuse(wrong: NDArray[np.bool_], what: str) -> None:
    count = int(wrong.sum())
    if count:
        first = int(np.argmax(wrong))
        raise InputError(
            f"y has {count} {what} {'value' if count == 1 else 'values'}, the first in row {first}; leave them out."
        )


def _repr_of(column: NDArray[Any], row: int) -> str:
    """Write a value as Python does, without NumPy's type."""
    return repr(column[row : row + 1].tolist()[0])


def _regression_target(column: NDArray[Any]) -> Floats:  # (n,)
    if column.dtype.kind in "biuf":
        return np.asarray(column, dtype=np.float64)
    if column.dtype.kind in "mM":
        raise InputError(
            f"y holds values of type {column.dtype}, but a regressor needs numbers, such as the days since a date."
        )
    written = written_numbers(column, "y")
    if written is not None:
        column = written.astype(object)
    numbers = plain_numbers(column)
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InputError(f"y holds {_repr_of(column, first)} in row {first}, but a regressor needs finite numbers.")
    return numbers


def _index(labels: NDArray[Any]) -> Any:
    return pd.Index(labels, dtype=object) if labels.dtype == object else pd.Index(labels)


def _class_codes(
    column: NDArray[Any], known: NDArray[Any] | None
) -> tuple[NDArray[np.int64], NDArray[Any]]:  # (n,), (k,)
    if column.dtype.kind == "f" and type_of_target(column) == "continuous":
        raise InputError(
            "Unknown label type: continuous. A classifier needs classes, but y holds numbers with fractions."
        )
    if column.dtype == object and (inferred := types.infer_dtype(column)).startswith("mixed"):
        found = sorted({type(value).__name__ for value in column})
        raise InputError(f"y has labels of several types ({inferred}: {', '.join(found)}), but must have one type.")
    if known is not None:
        codes = _index(known).get_indexer(_index(column))
        if (codes < 0).any():
            first = int(np.argmax(codes < 0))
            labels = ", ".join(map(repr, known.tolist()[:10]))
            raise InputError(
                f"y holds {_repr_of(column, first)} in row {first}, which training never saw; its classes are {labels}."
            )
        return codes.astype(np.int64), known
    codes, classes = pd.factorize(column, sort=True)
    if len(classes) < 2:
        raise InputError(f"y has one class only ({_repr_of(classes, 0)}), but a classifier needs at least two classes.")
    return codes.astype(np.int64), np.asarray(classes).astype(column.dtype)
