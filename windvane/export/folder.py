"""An exported folder: native model files, arrays, JSON, and a program that predicts with them without windvane.

::

    predictor.py      predict, predict_proba, and a command
    encoding.py       from a table to the features of a model
    members.py        from the features to a prediction
    model.json        columns, classes, members with their weights
    models/           a folder for each model of each member
    README.txt, requirements.txt

The programs are composed of the functions of `windvane.export` that the ensemble needs (`windvane.export.source`).
Nothing that they read is a pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from windvane.data.encoders import Encoder
from windvane.data.store import new_folder, write_arrays, write_json
from windvane.errors import InputError
from windvane.export.describe import describe_encoder, describe_schema
from windvane.export.families import WRITERS, Kept
from windvane.export.source import compose, packages, parse
from windvane.predictor import Predictor
from windvane.version import VERSION

# Imported name -> the name to install, where they differ.
_INSTALLED = {"sklearn": "scikit-learn"}
_BESIDE = {"windvane.export.encoding": "encoding", "windvane.export.members": "members"}
_MOST_LISTED = 20  # columns in README.txt
_START = '\n\nif __name__ == "__main__":\n    main()\n'
_README = """A model found by windvane {version}, which it does not need any more.

    pip install -r requirements.txt
    python predictor.py table.csv > predictions.csv{proba}

or, in Python with this folder on the path:

    from predictor import {names}
    predict(frame)    # a pandas DataFrame with the columns of training

It predicts {what}.
The columns that it reads: {columns}.

predictor.py blends the models, members.py opens them, encoding.py turns a table into what they want, model.json says
what the columns and classes are, and models/ holds each model in its library's own format or as plain arrays. Nothing
in these files is executed when they are read. requirements.txt has the versions that the model was made with.
"""


def write_folder(predictor: Predictor, path: Path) -> None:
    """Export a predictor, whole or not at all.

    Parameters
    ----------
    predictor
        What to export.
    path
        Must not exist, or be an empty folder.

    Raises
    ------
    InputError
        Where something is there, or a model is of a family that cannot be exported.
    """
    strange = sorted({member.family for member in predictor.ensemble.members} - set(WRITERS))
    if strange:
        raise InputError(
            f"The ensemble holds {', '.join(map(repr, strange))}, which export does not know how to write. "
            f"Allowed: {', '.join(WRITERS)}. Give these as families=[...] to fit, or use save and load."
        )
    with new_folder(path, "folder") as making:
        described = _describe(predictor, making)
        write_json(making / "model.json", described)
        sources = _sources(described)
        for name, source in sources.items():
            (making / f"{name}.py").write_text(source, encoding="utf-8")
        _write_texts(predictor, described["table"], sources, making)


def _describe(predictor: Predictor, making: Path) -> dict[str, Any]:
    """Write the models and say what the whole is."""
    classes, ensemble = predictor.classes, predictor.ensemble
    members = []
    for member, models, folders in zip(ensemble.members, predictor.models, predictor.folders, strict=True):
        for i, (model, kept_in) in enumerate(zip(models, folders, strict=True)):
            place = f"models/{member.number:05d}/fold_{i}"
            (making / place).mkdir(parents=True)
            encoder = Encoder.load(kept_in)
            facts, arrays = describe_encoder(encoder, sparse=predictor.schema.n_sparse > 0)
            write_arrays(making / place / "encoder.npz", arrays)
            record = WRITERS[member.family](Kept(model, kept_in, encoder, predictor.task), making / place)
            record |= {"n_classes": predictor.task.n_classes, "family": member.family, "encoder": facts}
            members.append({"folder": place, "weight": member.weight / len(folders), **record})
    return {
        "windvane": VERSION,
        "task": predictor.task.kind,
        "classes": None if classes is None else {"dtype": classes.dtype.str, "values": classes.tolist()},
        "temperature": ensemble.temperature,
        "decision": list(ensemble.decision or [1.0] * predictor.task.n_classes),
        "table": describe_schema(predictor.schema),
        "members": members,
    }


def _sources(described: Mapping[str, Any]) -> dict[str, str]:
    """Compose the three programs of what this ensemble needs."""
    table, members = described["table"], described["members"]
    steps = [step for member in members for step in member["encoder"]["steps"]]
    chosen = {
        "TABLES": {table["form"]},
        "READERS": {column["kind"] for column in table["columns"]},
        "STEPS": {step["step"] for step in steps},
        "NUMBERS": {part for step in steps for part in step.get("parts", ())},
        "OPENERS": {member["kind"] for member in members},
    }
    program = "windvane.export.predictor"
    wanted = {
        "predictor": compose(program, ["predict", "predict_proba", "main"], beside=_BESIDE) + _START,
        "encoding": compose("windvane.export.encoding", ["read", "encode"], chosen),
        "members": compose("windvane.export.members", ["OPENERS", "load_arrays"], chosen),
    }
    part = f"A part of predictor.py: functions of windvane {VERSION}, BSD-3-Clause."
    titles = {"predictor": parse(program).doc, "encoding": part, "members": part}
    return {name: f'"""{titles[name]}"""\n\n{source}' for name, source in wanted.items()}


def _write_texts(predictor: Predictor, table: Mapping[str, Any], sources: Mapping[str, str], making: Path) -> None:
    names = [_INSTALLED.get(name, name) for name in packages(sources.values()) - set(_BESIDE.values())]
    lines = [f"{name}=={version(name)}\n" for name in sorted(names)]
    (making / "requirements.txt").write_text("".join(lines), encoding="utf-8")
    classes = None if predictor.classes is None else predictor.classes.tolist()
    columns = [f"{column['name']} ({column['kind']})" for column in table["columns"]] or [f"{table['width']} numbers"]
    more = f" and {len(columns) - _MOST_LISTED} more in model.json" if len(columns) > _MOST_LISTED else ""
    text = _README.format(
        version=VERSION,
        proba="" if classes is None else "    # with --proba a column for each class",
        names="predict" if classes is None else "predict, predict_proba",
        what="a number" if classes is None else f"one of {len(classes)} classes",
        columns=", ".join(columns[:_MOST_LISTED]) + more,
    )
    (making / "README.txt").write_text(text, encoding="utf-8")
