"""AutoImageClassifier, end to end on tiny images: every source, what is left out, save, load, resume, the shell."""

from __future__ import annotations

import io
import json
import math
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import numpy as np
import pandas as pd
import pytest
from picture_folders import KINDS, pictures, tiny_weights, write_pictures
from shell import shell
from starlette.testclient import TestClient
from toys import check_html

from windvane import AutoImageClassifier, InputError, load
from windvane.data.images.checks import decode_squares
from windvane.errors import RunMismatchError
from windvane.serve.app import create_app


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_weights(tmp_path_factory.mktemp("weights"))


def automl(weights: str, **settings: object) -> AutoImageClassifier:
    """Linear models on the features of a tiny network."""
    few = {"n_trials": 2, "families": ["linear"], "n_jobs": 1, "random_state": 0, "verbose": 0}
    return AutoImageClassifier(**{"time_budget": 120, "weights": [weights], **few, **settings})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a damaged file, and a test split with a copy of a training image."""
    root = tmp_path_factory.mktemp("images")
    write_pictures(root / "train", 60)
    write_pictures(root / "test", 15, seed=1)
    shutil.copy(root / "train" / "dark" / "0.png", root / "test" / "dark" / "copy.png")
    (root / "train" / "dark" / "damaged.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def fitted(weights: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AutoImageClassifier:
    run = tmp_path_factory.mktemp("runs") / "run"
    with warns_of_the_folder():
        return automl(weights, run_dir=run).fit(folder)


@contextmanager
def warns_of_the_folder() -> Iterator[None]:
    """What every fit on it says: the damaged file, and the copy."""
    copies = pytest.warns(UserWarning, match="1 of 16 test images look like training")
    with copies, pytest.warns(UserWarning, match=r"damaged\.png"):
        yield


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> AutoImageClassifier:
    """A run on arrays, two of which are swapped copies: a linear model of pixels, and a small network."""
    pixels, kinds = pictures(45)
    pixels[9] = pixels[3]
    numbers = np.array([list(KINDS).index(kind) for kind in kinds])
    numbers[9] = 2
    folder = tmp_path_factory.mktemp("networks")
    entries = [{"family": "linear", "config": {}}]
    entries += [{"family": "from_scratch", "config": {"epochs": epochs}} for epochs in (12, 10)]
    own = {"format": 2, "made": "for tests", "cases": [{"entries": entries}]}
    (folder / "portfolio.json").write_text(json.dumps(own))
    settings = {"n_trials": 3, "n_jobs": 1, "random_state": 0, "verbose": 0, "policy": "holdout"}
    model = AutoImageClassifier(
        600, weights=[], families=["linear", "from_scratch"], portfolio=folder / "portfolio.json", **settings
    )
    return model.fit(pixels, numbers, valid=0.4)


def test_a_short_time_scores_some_of_the_test_images(fitted: AutoImageClassifier, folder: Path) -> None:
    images = sorted((folder / "test").rglob("*.png"))
    assert fitted._test_images_in_time(images, math.inf) == list(range(16))
    assert fitted._test_images_in_time(images, monotonic() + 600) == list(range(16))
    few = fitted._test_images_in_time(images, 0.0)
    assert len(few) == 8 and few == sorted(set(few))


def test_test_images_of_classes_that_no_used_image_trains_are_left_out(weights: str, tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", 45)
    for seed, split in enumerate(("test", "valid"), start=1):
        write_pictures(tmp_path / split, 15, seed=seed)
        (tmp_path / split / "gray").rename(tmp_path / split / "owl")  # a class that nothing trains
    for file in (tmp_path / "train" / "light").iterdir():
        file.write_bytes(b"no image")
    model = automl(weights)
    with (
        pytest.warns(UserWarning, match="10 of 15 test images .* left out of the test score: light, owl"),
        pytest.warns(UserWarning, match="25 left out"),
    ):
        model.fit(tmp_path)
    assert model.classes_.tolist() == ["dark", "gray"] and model.test_score_ < 0


def test_served_as_it_predicts(fitted: AutoImageClassifier, folder: Path) -> None:
    picture = sorted((folder / "test").rglob("*.png"))[0]
    with TestClient(create_app(Path(fitted.run_dir)), base_url="http://localhost") as client:
        query, kind = "/predict?proba=true", {"Content-Type": "image/png"}
        answer = client.post(query, content=picture.read_bytes(), headers=kind).json()
        form = client.get(f"/runs/{Path(fitted.run_dir).name}/predict").text
    shares = [answer["probabilities"][label] for label in fitted.classes_]
    np.testing.assert_allclose(shares, fitted.predict_proba(picture)[0], rtol=1e-6)
    assert answer["prediction"] == fitted.predict(picture)[0]
    assert 'type="file"' in form


def test_the_best_of_a_folder(fitted: AutoImageClassifier, folder: Path) -> None:
    assert fitted.classes_.tolist() == sorted(KINDS)
    assert fitted.test_score_ > -np.log(3)  # better than a guess by frequency
    assert fitted.score(folder / "test") == pytest.approx(fitted.test_score_)
    assert fitted.leaderboard()["family"].tolist().count("constant") == 1 and len(fitted.leaderboard()) == 3
    found = fitted.evaluate(folder / "test")
    assert found.metrics["score"].iloc[0] == pytest.approx(-fitted.test_score_) and found.classes is not None
    assert fitted.policy_.name == "cv5"  # few images


def test_the_report_of_a_run_with_test_images(fitted: AutoImageClassifier, folder: Path, tmp_path: Path) -> None:
    page = fitted.report(tmp_path / "kept.html").read_text(encoding="utf-8")  # the test split is kept with the run
    check_html(page)
    told = ("60 images of 3 classes", "F1", "most confident", "linear", "images/", "Grad-CAM", "of 16 images are right")
    for words in told:
        assert words in page
    assert "that the search did not see" in page and "Importance" not in page
    assert page.count("data:image/") >= 12 and "dark/copy.png" in page
    assert "1 test image looks like training images" in page and "test and train and validate" in page
    assert len(page) < 1_000_000
    page = fitted.report(tmp_path / "given.html", folder / "test").read_text(encoding="utf-8")
    assert "of 16 images are right" in page and "dark/copy.png" in page


def check_inspection(networks: AutoImageClassifier, folder: Path) -> None:
    """A saved model or run is inspected by its heaviest network, or refused without one."""
    write_pictures(folder / "pictures", 12)
    done = shell("inspect", folder / "model", folder / "pictures", "--out", folder / "inspect.html", "--quiet")
    trained = [one for one in networks.predictor_.ensemble.members if one.family == "from_scratch"]
    if trained:
        assert done.exit_code == 0, done.output
        heaviest = max(trained, key=lambda one: one.weight)
        assert f"Inside trial {heaviest.number} of model" in (folder / "inspect.html").read_text(encoding="utf-8")
    else:
        assert "has no network in its ensemble" in done.stderr


def test_a_run_without_a_network_is_not_inspected(fitted: AutoImageClassifier, folder: Path) -> None:
    done = shell("inspect", fitted.run_dir, folder / "train")
    assert (done.exit_code, "has no network in its ensemble (linear)" in done.stderr) == (2, True)


def test_the_images_that_are_predicted_worst_are_named(
    fitted: AutoImageClassifier, folder: Path, tmp_path: Path
) -> None:
    names = fitted.prediction_table(folder / "test")["name"]
    worst = fitted.evaluate(folder / "test").worst_rows
    assert worst["image"].tolist() == names[worst.index].tolist()
    page = fitted.report(tmp_path / "worst.html").read_text(encoding="utf-8")
    table = page[page.index("The rows that are predicted worst") :].partition("</table>")[0]
    assert ">image</th>" in table and worst["image"].iloc[0] in table


def test_the_report_of_a_run_with_networks(networks: AutoImageClassifier, tmp_path: Path) -> None:
    page = networks.report(tmp_path / "report.html").read_text(encoding="utf-8")
    check_html(page)
    assert "There is no unbiased score yet" in page
    assert "AugReg level none, as advised: " in page and "Fisher trace" in page and "Learning rate" in page
    assert "The explosion alarm " in page  # of two trainings of one network
    assert "Every network of the run: 2" in page
    assert "image 3, image 9" in page or "image 9, image 3" in page  # copies, with two labels
    assert "the labels of 1 of these groups differ" in page
    if max(networks.predictor_.ensemble.members, key=lambda one: one.weight).family == "from_scratch":
        assert "attention rollout" in page and "How far the heads look" in page
    networks.save(tmp_path / "model")
    check_inspection(networks, tmp_path)
    page = load(tmp_path / "model").report(tmp_path / "saved.html").read_text(encoding="utf-8")
    assert "Search" in page and "Networks" not in page  # a saved model has no data and no histories


def test_every_source_is_predicted_alike(fitted: AutoImageClassifier, folder: Path) -> None:
    files = sorted((folder / "test").rglob("*.png"))
    expected = fitted.predict_proba(files)
    frame = pd.DataFrame({"path": [str(file) for file in files]})
    from PIL import Image

    opened = [np.asarray(Image.open(file)) for file in files]
    for source in (frame, opened, np.stack(opened), [file.read_bytes() for file in files], list(map(str, files))):
        np.testing.assert_allclose(fitted.predict_proba(source), expected, atol=1e-7)
    np.testing.assert_array_equal(fitted.predict(files), fitted.classes_[expected.argmax(axis=1)])
    assert len(fitted.predict(folder / "test")) == 16
    np.testing.assert_allclose(expected.sum(axis=1), 1)


def test_images_without_labels_are_not_evaluated(fitted: AutoImageClassifier, folder: Path) -> None:
    (files, *_) = (one for one in (folder / "test").iterdir() if one.is_dir())
    with pytest.raises(InputError, match=r"no labelled image.* in no folder of a class"):
        fitted.evaluate(files)


def test_a_damaged_file_keeps_its_row(fitted: AutoImageClassifier, folder: Path) -> None:
    sound = next((folder / "test").rglob("*.png"))
    files = [sound, folder / "train" / "dark" / "damaged.png", folder / "nothing.png"]
    with pytest.warns(UserWarning, match="frequencies of the classes.*damaged.png"):
        found = fitted.predict_proba(files)
    np.testing.assert_allclose(found[1:], np.full((2, 3), 1 / 3), atol=0.01)
    np.testing.assert_allclose(found[0], fitted.predict_proba([sound])[0], atol=1e-7)


def test_a_saved_model_predicts_the_same_without_the_weights(
    fitted: AutoImageClassifier, folder: Path, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert isinstance(loaded, AutoImageClassifier)
    np.testing.assert_array_equal(loaded.predict_proba(folder / "test"), fitted.predict_proba(folder / "test"))
    assert not any(file.suffix in (".pkl", ".pickle") for file in (tmp_path / "model").rglob("*"))
    features = next((tmp_path / "model" / "features").rglob("model.safetensors"))
    features.write_bytes(features.read_bytes()[:-1])
    with pytest.raises(Exception, match="damaged"):
        load(tmp_path / "model")


def test_a_run_is_resumed(fitted: AutoImageClassifier, folder: Path, weights: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(fitted.run_dir, run)
    again = automl(weights, run_dir=run, n_trials=3, random_state=0)
    with pytest.warns(UserWarning, match="look like training images"):
        assert len(again.fit(folder).trials_) == 3
    opened = load(run)
    assert isinstance(opened, AutoImageClassifier)
    assert len(opened.trials_) == 3
    assert opened.test_score_ == again.test_score_
    opened.set_params(verbose=0, n_jobs=1)
    assert len(opened.resume(60, n_trials=1).trials_) == 4
    assert opened.test_score_ == pytest.approx(opened.score(folder / "test"))  # of the ensemble that there is now
    shutil.rmtree(tmp_path / "other", ignore_errors=True)
    with pytest.raises(RunMismatchError, match="data"):
        automl(weights, run_dir=run).fit(write_pictures(tmp_path / "other", 30, seed=5))


def test_a_run_split_otherwise_is_another_run(
    fitted: AutoImageClassifier, folder: Path, weights: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(fitted.run_dir, run)
    for split in ({"groups": lambda name: Path(name).stem[-1]}, {"valid": 0.4}):
        with pytest.warns(UserWarning, match=r"damaged\.png"), pytest.raises(RunMismatchError, match=r"fold|policy"):
            automl(weights, run_dir=run).fit(folder, **split)  # type: ignore[arg-type]


def test_arrays_with_labels_and_a_network_beside(networks: AutoImageClassifier, tmp_path: Path) -> None:
    pixels, kinds = pictures(45)
    labels = np.array([list(KINDS).index(kind) for kind in kinds])
    assert {trial.family for trial in networks.trials_ if trial.usable} == {"linear", "from_scratch"}
    found = networks.predict(pixels)
    assert found.dtype.kind == "i"
    assert (found == labels).mean() > 0.8
    networks.save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(pixels), found)


@pytest.mark.alone
def test_the_clock_is_kept(weights: str, folder: Path) -> None:
    started = monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on a busy machine there is more to say than of the folder
        model = automl(weights, time_budget=10, n_trials=None, families=None).fit(folder)
    assert monotonic() - started < 10 * 1.05 + 10  # the machine may be busy
    assert len(model.predict(folder / "test")) == 16


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros((4, 8, 8, 3), np.uint8), None, "no labelled image"),
        (np.zeros((4, 8, 8, 3), np.uint8), [1, 1, 1, 1], "one class only"),
        (np.zeros((4, 8, 8, 3), np.uint8), [0, 1], "^y has 2 values, but there are 4 images"),
        (np.zeros((4, 8, 8, 3), np.uint8), "label", "^y is of type str"),
        (np.zeros((4, 8, 8, 3), np.uint8), np.eye(4)[:, :3] / 2, "^y has the shape"),
        ([b"x", b"y"], ["a", "b"], "no labelled image that can be read"),
        (np.zeros((4, 8, 8, 3), np.uint8), [[1], [0], [1], [0, 1]], "several labels"),
    ],
)
def test_bad_images_get_one_error(X: object, y: object, message: str, weights: str) -> None:
    with pytest.raises(InputError, match=message):
        automl(weights).fit(X, y)


def test_one_network_and_an_exported_folder_predict_the_same(
    fitted: AutoImageClassifier, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    import torch

    files = sorted((folder / "test").rglob("*.png"))
    expected = fitted.predict_proba(files)
    network = fitted.to_torch()
    assert network.classes == fitted.classes_.tolist()
    squares = np.empty((len(files), network.image_size, network.image_size, 3), np.uint8)
    decode_squares(files, squares, np.arange(len(files)))
    with torch.inference_mode():
        found = network(torch.from_numpy(squares).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    fitted.export(tmp_path / "birds")
    words = [sys.executable, "-I", str(tmp_path / "birds" / "predictor.py"), str(folder / "test")]
    done = subprocess.run([*words, "--proba"], capture_output=True, text=True, check=True)
    table = pd.read_csv(io.StringIO(done.stdout), index_col="name").loc[[f.parent.name + "/" + f.name for f in files]]
    assert list(table) == fitted.classes_.tolist()
    np.testing.assert_allclose(table.to_numpy(), expected, atol=1e-4)
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    labels = pd.read_csv(io.StringIO(done.stdout), index_col="name").loc[table.index, "prediction"]
    assert labels.tolist() == fitted.predict(files).tolist()


def test_what_is_for_tables_says_so(fitted: AutoImageClassifier, folder: Path, tmp_path: Path) -> None:
    for call in (
        fitted.to_sklearn,
        lambda: fitted.refit([], []),
        lambda: fitted.feature_importance([], []),
    ):
        with pytest.raises(InputError, match="for tables"):
            call()
    with pytest.raises(InputError, match="valid=2"):
        automl("timm/resnet18").fit(tmp_path, valid=2)
    with pytest.raises(InputError, match="weights="):
        automl("nowhere").fit(tmp_path)
    with pytest.raises(InputError, match="families=5 is not usable"):
        AutoImageClassifier(families=5, n_jobs=1, verbose=0).fit(folder)


def test_the_shell(folder: Path, weights: str, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "predictions.csv"
    words = ["fit", folder / "test", "--out", run, "--time", "60s", "--weights", weights, "--jobs", "1"]
    words += ["--families", "linear", "--n-trials", "1"]
    done = shell(*words, "--groups", r"(\d+)\.png", "--quiet", "--report")
    assert done.exit_code == 0, done.output
    assert "linear" in done.stdout and f"report: {run / 'report.html'}" in done.stdout
    assert "Labels and copies" in (run / "report.html").read_text(encoding="utf-8")
    done = shell("predict", run, folder / "test", "--out", out)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(out)
    assert list(table) == ["name", "prediction", "probability"]
    assert len(table) == 16
    done = shell("explain", run, folder / "test")
    assert (done.exit_code, "explain is for tables" in done.output) == (2, True)
    for option in (["--task", "regression"], ["--ignore", "a"], ["--id", "a"], ["--keep-ids"]):
        done = shell("fit", folder, "--out", tmp_path / "x", *option)
        assert done.exit_code == 2
        assert f"{option[0]} is for tables" in done.output


def test_sets_of_classes(fitted: AutoImageClassifier, folder: Path, tmp_path: Path) -> None:
    sets = fitted.predict_set(folder / "test", coverage=0.8)
    assert sets.shape == (16, 3) and sets.any(axis=1).all()
    most_probable = fitted.predict_proba(folder / "test").argmax(axis=1)
    assert sets[np.arange(16), most_probable].all()
    assert not hasattr(fitted, "predict_interval")
    done = shell("predict", fitted.run_dir, folder / "test", "--out", tmp_path / "a.csv", "--set", "0.8")
    assert done.exit_code == 0, done.output
    found = pd.read_csv(tmp_path / "a.csv")
    assert list(found.columns) == ["name", "prediction", "probability", "set"]
    assert found["set"].tolist() == ["|".join(fitted.classes_[row]) for row in sets]
    with pytest.warns(UserWarning, match=r"damaged\.png"):
        assert fitted.predict_set([folder / "train" / "dark" / "damaged.png"]).all()  # it may be anything
