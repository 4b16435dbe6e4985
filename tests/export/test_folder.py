"""Exported folders predict what windvane predicts, and hold nothing that is not needed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from leaving import (
    KINDS,
    PAIRS,
    agrees,
    changed,
    elsewhere,
    export,
    families_of,
    make_frame,
    make_predictor,
    make_target,
    ours,
    program,
    same,
)
from scipy import sparse as sp

import windvane
from windvane.data.task import Kind
from windvane.errors import InputError
from windvane.persistence import Predictor


def check(predictor: Predictor, X: Any, folder: Path) -> Any:
    export(predictor, folder)
    return agrees(program(folder), predictor, X)


@pytest.mark.parametrize(("family", "kind"), PAIRS)
def test_each_family_alone(family: str, kind: Kind, tmp_path: Path) -> None:
    X = make_frame()
    predictor = make_predictor(tmp_path / "kept", X, make_target(X, kind), kind, [(family, {})])
    check(predictor, changed(make_frame(seed=1)), tmp_path / "out")


@pytest.fixture(scope="module", params=KINDS)
def mixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """All families, on a table with every kind of column."""
    X, kind = make_frame(rich=True), request.param
    more = {
        "binary": {"decision_weights": (0.4, 1.0)},
        "multiclass": {"temperature": 1.7, "decision_weights": (1.5, 0.7, 1.0)},
        "regression": {},
    }[kind]
    members: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in families_of(kind)]
    members += [("linear", {"scale": "robust"}), ("mlp", {"scale": "minmax"})]
    return make_predictor(tmp_path_factory.mktemp("kept"), X, make_target(X, kind), kind, members, **more)


def test_all_families_where_windvane_cannot_be_imported(mixed: Predictor, tmp_path: Path) -> None:
    X = changed(make_frame(seed=1, rich=True))
    assert {column.kind for column in mixed.schema.columns} == {
        *("number", "category", "date", "duration", "text", "dropped")
    }
    export(mixed, tmp_path / "out")
    raw, labels = elsewhere(tmp_path / "out", X, tmp_path)
    wanted_raw, wanted_labels = ours(mixed, X)
    same(raw, wanted_raw)
    if mixed.task.is_classification:
        assert (labels == wanted_labels).all()
    else:
        same(labels, wanted_labels)


def test_the_program_is_small_and_the_runtime_whole(mixed: Predictor, tmp_path: Path) -> None:
    export(mixed, tmp_path / "out")
    sources = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.py")}
    runtime = Path(windvane.__file__).parent / "runtime"
    assert sources == {
        "__init__.py",
        "predictor.py",
        *(f"runtime/{path.relative_to(runtime).as_posix()}" for path in runtime.rglob("*.py")),
    }
    assert len((tmp_path / "out" / "predictor.py").read_text().splitlines()) < 120


def test_no_file_can_execute_anything(mixed: Predictor, tmp_path: Path) -> None:
    export(mixed, tmp_path / "out")
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".py", ".json", ".txt", ".npz", ".cbm", ".ubj", ".skops"}
    for file in files:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                assert all(arrays[name].dtype != object for name in arrays.files)


def test_what_is_not_needed_is_not_there(tmp_path: Path) -> None:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(80, 3)), columns=["a", "b", "c"])
    predictor = make_predictor(tmp_path / "kept", X, X["a"] * 2, "regression", [("lightgbm", {})])
    check(predictor, X, tmp_path / "out")
    needed = (tmp_path / "out" / "requirements.txt").read_text().splitlines()
    assert [line.partition("==")[0] for line in needed] == ["lightgbm", "numpy", "pandas", "scipy"]
    assert "a number" in (tmp_path / "out" / "README.txt").read_text()


def test_missing_categories_and_wide_one_hot_encodings(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({f"c{i}": rng.choice([f"v{j}" for j in range(35)], 200) for i in range(12)})
    y = np.where((X["c0"] < "v2") ^ (rng.random(200) < 0.1), "yes", "no")
    members: list[tuple[str, dict[str, Any]]] = [("linear", {}), ("mlp", {}), ("sgd", {}), ("kernel", {})]
    members += [("neighbours", {"p": 1}), ("neighbours", {}), ("discriminant", {})]
    predictor = make_predictor(tmp_path / "kept", X, y, "binary", members)
    export(predictor, tmp_path / "out")
    encoders = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("encoder.json")]
    assert len(encoders) == 14 and all(any(step.get("sparse") for step in one["steps"]) for one in encoders)
    X.iloc[::3, ::2] = None
    same(program(tmp_path / "out").predict_proba(X), ours(predictor, X)[0])


def test_a_fold_without_a_class(tmp_path: Path) -> None:
    X = make_frame(60)
    y = np.where(np.arange(60) == 1, 8, np.where(X["count"] > 20, 3, 5))
    names = ("linear", "extra_trees", "hist_gradient_boosting", "sgd", "kernel", "neighbours", "discriminant")
    predictor = make_predictor(tmp_path / "kept", X, y, "multiclass", [(name, {}) for name in names])
    for folds in predictor.models:
        assert min(len(model.classes) for model in folds) == 2  # type: ignore[attr-defined]
    check(predictor, X, tmp_path / "out")


def test_a_fold_of_one_class(tmp_path: Path) -> None:
    X = make_frame(60)
    y = np.where(np.arange(60) % 2 == 0, "no", "yes")  # the folds are the classes
    names = ("linear", "hist_gradient_boosting", "sgd", "kernel", "neighbours", "discriminant")
    predictor = make_predictor(tmp_path / "kept", X, y, "binary", [(name, {}) for name in names])
    raw = check(predictor, X, tmp_path / "out").predict_proba(X)
    np.testing.assert_allclose(raw, 0.5)


@pytest.mark.parametrize("as_frame", [False, True])
def test_sparse_table(as_frame: bool, tmp_path: Path) -> None:
    X = sp.csr_matrix(sp.random(120, 15, 0.3, format="csr", random_state=0))
    members = [(name, {}) for name in ("lightgbm", "extra_trees", "linear", "mlp", "sgd", "kernel", "neighbours")]
    y = X.toarray().sum(axis=1)
    predictor = make_predictor(tmp_path / "kept", X, y, "regression", members)
    check(predictor, pd.DataFrame(X.toarray()) if as_frame else X, tmp_path / "out")


def test_array_without_names(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(80, 4))
    predictor = make_predictor(tmp_path / "kept", X, X[:, 0], "regression", [("linear", {}), ("catboost", {})])
    model = check(predictor, X, tmp_path / "out")
    same(model.predict(pd.DataFrame(X)), ours(predictor, X)[1])
    with pytest.raises(ValueError, match="X has 5 features, but the model is expecting 4"):
        model.predict(np.zeros((2, 5)))


def test_command(tmp_path: Path) -> None:
    X = make_frame()
    predictor = make_predictor(tmp_path / "kept", X, make_target(X, "binary"), "binary", [("linear", {})])
    export(predictor, tmp_path / "out")
    make_frame(seed=1).to_csv(tmp_path / "table.csv", index=False)
    raw, labels = ours(predictor, pd.read_csv(tmp_path / "table.csv"))
    assert (command(tmp_path)["prediction"] == labels).all()
    found = command(tmp_path, "--proba")
    assert list(found.columns) == ["no", "yes"]
    same(found.to_numpy(), raw)


def command(folder: Path, *options: str) -> pd.DataFrame:
    words = [sys.executable, str(folder / "out" / "predictor.py"), str(folder / "table.csv"), *options]
    with (folder / "predictions.csv").open("w") as file:
        subprocess.run(words, check=True, stdout=file)
    return pd.read_csv(folder / "predictions.csv")


@pytest.mark.parametrize("way", ["package", "file", "path"])
def test_two_models_in_one_process(way: str, tmp_path: Path) -> None:
    """In each way of importing two folders, each answers for itself."""
    X = pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40) % 3})
    for name, factor in (("first", 1.0), ("second", -5.0)):
        predictor = make_predictor(tmp_path / f"kept_{name}", X, factor * X["a"], "regression", [("linear", {})])
        export(predictor, tmp_path / name)
    (tmp_path / "program.py").write_text(TWO_MODELS)
    words = [sys.executable, str(tmp_path / "program.py"), way]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=tmp_path)
    first, second = json.loads(done.stdout)
    assert 25 < first < 35 and -175 < second < -125


TWO_MODELS = """
import importlib, importlib.util, json, pathlib, sys
import pandas as pd
here, models = pathlib.Path(__file__).parent, []
for name in ("first", "second"):
    if sys.argv[1] == "package":
        models.append(importlib.import_module(name))
    elif sys.argv[1] == "file":
        spec = importlib.util.spec_from_file_location(name, here / name / "predictor.py")
        models.append(importlib.util.module_from_spec(spec))
        spec.loader.exec_module(models[-1])
    else:
        sys.path.insert(0, str(here / name))
        sys.modules.pop("predictor", None)
        models.append(importlib.import_module("predictor"))
print(json.dumps([float(model.predict(pd.DataFrame({"a": [30.0], "b": [0]}))[0]) for model in models]))
"""


@pytest.mark.parametrize("delimiter", [";", "\t", "|", ","])
def test_command_finds_the_delimiter(small: Predictor, delimiter: str, tmp_path: Path) -> None:
    export(small, tmp_path / "out")
    frame = pd.DataFrame({"a": [1.0, 30.0], "b": [0, 1], "ä": ["x", "y"]})
    frame.to_csv(tmp_path / "table.csv", index=False, sep=delimiter, encoding="latin-1")
    same(command(tmp_path)["prediction"].to_numpy(), ours(small, frame)[0])


@pytest.mark.parametrize("content", [None, b"a,c\n1,2\n", b"a,b\n1,x\n", b"a,b\n1,2,3\n4,5,6\n", b"", b"\0\1"])
def test_a_mistake_is_one_line(small: Predictor, content: bytes | None, tmp_path: Path) -> None:
    export(small, tmp_path / "out")
    if content is not None:
        (tmp_path / "table.csv").write_bytes(content)
    words = [sys.executable, str(tmp_path / "out" / "predictor.py"), str(tmp_path / "table.csv")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    more = subprocess.run([*words, "--traceback"], capture_output=True, text=True)
    assert more.returncode == 1 and "Traceback" in more.stderr


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    X = pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40) % 3})
    return make_predictor(tmp_path_factory.mktemp("kept"), X, X["a"], "regression", [("linear", {})])


def test_nothing_is_written_over(small: Predictor, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export(small, tmp_path / "out")  # an empty folder may be there
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file", "out"):
        with pytest.raises(InputError, match="exists and is not empty"):
            export(small, tmp_path / name)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_a_family_without_an_export_is_named(small: Predictor, tmp_path: Path) -> None:
    (member,) = small.ensemble.members
    ensemble = replace(small.ensemble, members=(replace(member, family="own"),))
    own: Predictor = replace(small, ensemble=ensemble, models=[[object()] * 2])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"holds 'own'.*Allowed: lightgbm, catboost"):
        export(own, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_fails_leaves_nothing_behind(small: Predictor, tmp_path: Path) -> None:
    gone = replace(small, folders=[[tmp_path / "gone"] * 2])
    with pytest.raises(Exception, match="gone"):
        export(gone, tmp_path / "out")
    assert not list(tmp_path.iterdir())
