"""Fitted scikit-learn objects as named arrays and JSON, of a fixed list of classes and without a pickle.

An object is kept as the name of its class and its attributes. What may be kept is written here and never comes from
the file that is read, so opening a file creates objects of these classes and runs nothing else.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    LabelBinarizer,
    LabelEncoder,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from windvane.data.store import read_arrays, reading

_CLASSES: dict[str, type] = {
    one.__name__: one
    for one in (
        *(ColumnTransformer, FunctionTransformer, HashingVectorizer, KFold, LabelBinarizer, LabelEncoder),
        *(MaxAbsScaler, MinMaxScaler, MissingIndicator, Normalizer, OneHotEncoder, Pipeline, PowerTransformer),
        *(QuantileTransformer, RobustScaler, SimpleImputer, StandardScaler, StratifiedKFold, TargetEncoder),
        *(TfidfTransformer, TruncatedSVD),
    )
}
_TREE = "tree"  # the array that holds the JSON text
_PLAIN = (type(None), bool, int, float, str)

Arrays = dict[str, NDArray[Any]]


def pack(content: Any) -> bytes:
    """Turn fitted objects, in lists and mappings, into the bytes of an .npz file.

    Parameters
    ----------
    content
        Objects of the classes above, arrays and plain values.

    Returns
    -------
    bytes
        For `unpack`.

    Raises
    ------
    TypeError
        If something else is among it.
    """
    arrays: Arrays = {}
    text = json.dumps(_flatten(content, arrays))
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **{_TREE: np.frombuffer(text.encode(), dtype=np.uint8), **arrays})
    return file.getvalue()


def unpack(path: Path) -> Any:
    """Read a file made of `pack`.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    object
        What was packed.

    Raises
    ------
    ModelFileError
        If the file is missing or damaged, or names a class that is not in the list.
    """
    arrays = read_arrays(path)
    with reading(path):
        return _restore(json.loads(arrays[_TREE].tobytes()), arrays)


def _flatten(value: Any, arrays: Arrays) -> Any:
    """Give what JSON can say: plain values as they are, all else as [kind, ...]; numbers go into `arrays`."""
    if isinstance(value, np.generic | np.ndarray):
        array = np.asarray(value)
        if array.dtype == object:
            return ["objects", list(array.shape), [_flatten(item, arrays) for item in array.flat]]
        name = str(len(arrays))
        arrays[name] = array
        return ["scalar" if isinstance(value, np.generic) else "array", name]
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple):
        return ["list" if isinstance(value, list) else "tuple", [_flatten(item, arrays) for item in value]]
    if isinstance(value, dict):
        pairs = [[_flatten(key, arrays), _flatten(item, arrays)] for key, item in value.items()]
        return ["dict", pairs]
    if isinstance(value, slice):
        return ["slice", [_flatten(item, arrays) for item in (value.start, value.stop, value.step)]]
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return ["dtype" if isinstance(value, np.dtype) else "type", np.dtype(value).str]
    if sp.isspmatrix_csr(value):
        parts = [_flatten(part, arrays) for part in (value.data, value.indices, value.indptr)]
        return ["csr", list(value.shape), parts]
    if _CLASSES.get(type(value).__name__) is type(value):
        return ["object", type(value).__name__, _flatten(vars(value), arrays)]
    raise TypeError(f"{value!r} cannot be kept.")


def _restore(tree: Any, arrays: Arrays) -> Any:
    if isinstance(tree, _PLAIN):
        return tree
    kind, *rest = tree
    if kind in ("list", "tuple", "slice"):
        items = [_restore(item, arrays) for item in rest[0]]
        return items if kind == "list" else tuple(items) if kind == "tuple" else slice(*items)
    if kind == "dict":
        return {_restore(key, arrays): _restore(item, arrays) for key, item in rest[0]}
    if kind in ("array", "scalar"):
        return arrays[rest[0]] if kind == "array" else arrays[rest[0]][()]
    if kind in ("dtype", "type"):
        dtype = np.dtype(rest[0])
        return dtype if kind == "dtype" else dtype.type
    if kind == "objects":
        found = np.empty(len(rest[1]), dtype=object)
        for i, item in enumerate(rest[1]):  # one by one: numpy would make a matrix of arrays of equal length
            found[i] = _restore(item, arrays)
        return found.reshape(rest[0])
    if kind == "csr":
        matrix = sp.csr_matrix(tuple(_restore(part, arrays) for part in rest[1]), shape=tuple(rest[0]))
        matrix.check_format(full_check=True)
        return matrix
    if kind == "object" and rest[0] in _CLASSES:
        value: Any = object.__new__(_CLASSES[rest[0]])
        value.__dict__.update(_restore(rest[1], arrays))
        return value
    raise ValueError(f"{[kind, *rest[:1]]} is nothing that is kept here")
