"""An exported folder: the saved model, and what predicts with it where windvane is not installed.

::

    predictor.py      predict, predict_proba, and a command
    __init__.py       makes the folder a package, so that several can be imported at once
    runtime/          a copy of `windvane.runtime`
    manifest.json     columns, classes, members with their weights, hashes of all files
    members/          a folder for each model of each member
    uncertainty.json  scores of the validation rows, for prediction intervals and sets
    README.txt, requirements.txt

Nothing that it reads is a pickle.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from windvane.errors import InputError, ModelFileError
from windvane.models import TABLE_FAMILIES
from windvane.persistence import Predictor, write_model
from windvane.runtime.models.fitted import Fitted, FittedModel
from windvane.runtime.models.multi_target import models_of
from windvane.runtime.models.sklearn_estimator import read_estimator
from windvane.version import VERSION

# What each kind of model needs beside numpy, pandas and scipy.
_PACKAGES = {
    "lightgbm": ("lightgbm",),
    "catboost": ("catboost",),
    "xgboost": ("xgboost",),
    "sklearn": ("scikit-learn", "skops"),
}
_MOST_LISTED = 20  # columns in README.txt
_README = """A model found by windvane {version}, which it does not need any more.

    pip install -r requirements.txt
    python predictor.py table.csv > predictions.csv{options}

or, in Python, where this folder is called churn and is beside your program:

    from churn import {names}
    predict(frame)    # a pandas DataFrame with the columns of training

It predicts {what}.
The columns that it reads: {columns}.

manifest.json says what the columns and classes are, and members/ holds each model in its library's own format or as
plain arrays. runtime/ turns a table into what they want and averages them: the code that windvane itself predicts with.
Nothing in the data files is executed when they are read. requirements.txt has the versions that made the model.
"""


def write_folder(manifest: Mapping[str, Any], predictor: Predictor, path: Path) -> None:
    """Export a predictor, whole or not at all."""
    _check_exportable(predictor)
    with write_model(manifest, predictor, path, "folder") as making:
        runtime = Path(str(files("windvane"))) / "runtime"
        shutil.copytree(runtime, making / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
        functions = ("predict", "predict_interval", "predict_proba", "predict_set")
        write_program(making, "predictor_template.py", functions)
        write_texts(making, _packages(predictor), _readme(predictor))


def write_program(folder: Path, template: str, functions: Sequence[str]) -> None:
    """Write ``predictor.py``, and the ``__init__.py`` of a package with these functions of it.

    The program is a file of this package, with the text of `import_runtime` in place of its import.
    """
    package = Path(str(files("windvane"))) / "export"
    own, shared = ((package / name).read_text(encoding="utf-8") for name in (template, "import_runtime.py"))
    before, line, after = own.partition("from windvane.export.import_runtime import HERE, import_runtime\n")
    assert line, f"{template} imports import_runtime otherwise"
    program = before + shared.partition("from __future__ import annotations\n\n")[2].rstrip() + "\n" + after
    (folder / "predictor.py").write_text(program, encoding="utf-8")
    init = f"from .predictor import {', '.join(functions)}\n\n__all__ = {json.dumps(functions)}\n"
    (folder / "__init__.py").write_text(init, encoding="utf-8")


def _check_exportable(predictor: Predictor) -> None:
    for member, parts in zip(predictor.ensemble.members, _models(predictor), strict=True):
        if not all(isinstance(model, FittedModel) for model, _ in parts):
            raise InputError(
                f"The ensemble holds {member.family!r}, which export does not know how to write. "
                f"Allowed: {', '.join(TABLE_FAMILIES)}. Give these as families=[...] to fit, or use save and load."
            )
        for model, folder in parts:
            if getattr(model, "kind", "") == "sklearn":
                try:
                    read_estimator(folder / "model.skops")
                except ModelFileError as error:
                    raise InputError(
                        f"The family {member.family!r} cannot be exported: its estimator holds types that only your "
                        "session can allow. Use save and load(..., families=[...])."
                    ) from error


def _requirement(name: str) -> str:
    """Return a line of ``requirements.txt``; XGBoost is published under two names."""
    try:
        return f"{name}=={version(name)}\n"
    except PackageNotFoundError:
        return f"{name}-cpu=={version(f'{name}-cpu')}\n"


def _models(predictor: Predictor) -> list[list[tuple[Fitted, Path]]]:
    """Return the models of each member, those of all folds and targets, with their folders."""
    return [
        [part for model, folder in zip(models, folders, strict=True) for part in models_of(model, folder)]
        for models, folders in zip(predictor.models, predictor.folders, strict=True)
    ]


def write_texts(folder: Path, packages: Iterable[str], readme: str) -> None:
    """Write what people and pip read: README.txt, and requirements.txt with the versions that are installed."""
    (folder / "requirements.txt").write_text("".join(map(_requirement, packages)), encoding="utf-8")
    (folder / "README.txt").write_text(readme, encoding="utf-8")


def _packages(predictor: Predictor) -> list[str]:
    """Return the names of the packages that the program imports."""
    kinds = {getattr(model, "kind", "") for models in _models(predictor) for model, _ in models}
    names = {"numpy", "pandas", "scipy", *(name for kind in kinds for name in _PACKAGES.get(kind, ()))}
    if any(column.kind == "text" for column in predictor.schema.columns):
        names.add("scikit-learn")
    return sorted(names)


def _readme(predictor: Predictor) -> str:
    used = [column for column in predictor.schema.columns if column.kind != "dropped"]
    columns = [f"{column.name} ({column.kind})" for column in used] or [f"{predictor.schema.n_sparse} numbers"]
    more = f" and {len(columns) - _MOST_LISTED} more in manifest.json" if len(columns) > _MOST_LISTED else ""
    options, functions, what = "    # --interval 0.9 for intervals", "predict, predict_interval", "a number"
    if predictor.targets is not None:
        are_labels = predictor.targets.are_labels
        options, functions = ("    # --proba", "predict, predict_proba") if are_labels else ("", "predict")
        titles = predictor.targets.titles
        what = f"the {len(titles)} {'labels' if are_labels else 'numbers'} {', '.join(titles)}"
    elif predictor.classes is not None:
        options, functions = "    # --proba, --set 0.9 for sets of classes", "predict, predict_proba, predict_set"
        what = f"one of {len(predictor.classes)} classes"
    listed = ", ".join(columns[:_MOST_LISTED]) + more
    return _README.format(version=VERSION, options=options, names=functions, what=what, columns=listed)
