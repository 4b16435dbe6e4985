from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from cases import Case, make_case
from optuna.distributions import FloatDistribution
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingRegressor
from sklearn.linear_model import LinearRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from windvane.errors import InputError, ModelFileError
from windvane.models import FAMILIES
from windvane.models.base import Param
from windvane.models.sklearn_family import SklearnFamily, repeat_by_weight
from windvane.runtime.models.sklearn_estimator import read_estimator, write_estimator

CATALOG = ("hist_gradient_boosting", "sgd", "kernel", "neighbours", "discriminant")
BAYES = SklearnFamily(
    "bayes",
    classifier=GaussianNB(),
    search_space={"var_smoothing": Param(FloatDistribution(1e-9, 1.0, log=True), 1e-2)},
)
BOOSTING = SklearnFamily(
    "boosting", regressor=GradientBoostingRegressor(max_depth=2), iterations="n_estimators", max_iterations=100
)


def trained(family: Any, case: Case, config: dict[str, Any] | None = None, iterations: int = 40) -> Any:
    model = case.create_model(family, config)
    model.train_until(iterations)
    return model


def test_hyperparameters_reach_the_estimator() -> None:
    case = make_case("binary")
    assert not BAYES.supports(make_case("regression").context.task, case.train.table)
    assert {"var_smoothing", "scale", "class_weight"} <= set(BAYES.search_space(case.context.task))
    model = trained(BAYES, case, {"var_smoothing": 0.5})
    assert model.estimator.var_smoothing == 0.5 and model.finished


def test_seed_and_threads_reach_every_part_that_has_them() -> None:
    case = make_case("binary")
    forest = ExtraTreesClassifier(5, n_jobs=7)
    model = trained(SklearnFamily.wrap(make_pipeline(StandardScaler(), forest)), case)
    last = model.estimator.steps[-1][1]
    assert (last.random_state, last.n_jobs) == (case.context.seed, case.context.threads)


def test_a_classifier_without_probabilities_is_calibrated(tmp_path: Path) -> None:
    case = make_case("multiclass")
    family = SklearnFamily.wrap(LinearSVC())
    model = trained(family, case)
    found = model.predict(case.test.table)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert case.loss(found) < 1.0
    model.save(tmp_path)
    np.testing.assert_array_equal(family.load(tmp_path, case.context).predict(case.test.table), found)


@pytest.mark.parametrize("iterations", ["partial_fit", "max_iter"])
def test_a_classifier_that_trains_in_iterations_needs_probabilities(iterations: str) -> None:
    family = SklearnFamily("hinge", classifier=SGDClassifier(loss="hinge"), iterations=iterations)
    with pytest.raises(InputError, match=r"classifier without predict_proba. Allowed: iterations=None"):
        trained(family, make_case("binary"))


def test_a_target_is_scaled_and_the_number_of_iterations_found_on_validation_rows() -> None:
    case = make_case("regression")
    far = replace(case, train=replace(case.train, target=case.train.target + 1e9))
    linear = SklearnFamily.wrap(LinearRegression())
    near, shifted = (trained(linear, one).predict(case.test.table) for one in (case, far))
    np.testing.assert_allclose(shifted - 1e9, near, atol=1e-3)
    model = trained(BOOSTING, case, iterations=1000)
    assert model.finished and 8 <= model.best_iteration <= model.iterations <= 100
    assert len(model.estimator.estimators_) == model.best_iteration


def test_an_estimator_that_takes_no_weights_learns_from_repeated_rows() -> None:
    weight = np.array([1.0, 0.0, 2.0, 1.0])
    np.testing.assert_array_equal(repeat_by_weight(np.arange(4), weight), [0, 2, 2, 3])
    case = make_case("binary")
    target = case.train.target
    first = np.where(target == 0, 1.0, 0.0) + 1e-9
    model = trained(SklearnFamily.wrap(KNeighborsClassifier()), replace(case, train=replace(case.train, weight=first)))
    assert model.predict(case.test.table)[:, 0].min() == 1.0


def test_a_training_set_of_one_class_with_weights_is_predicted_with_certainty() -> None:
    case = make_case("binary")
    train = replace(case.train, target=np.ones_like(case.train.target), weight=np.full(len(case.train.target), 2.0))
    found = trained(FAMILIES["kernel"], replace(case, train=train)).predict(case.test.table)
    np.testing.assert_array_equal(found[:, 1], 1.0)


def test_classes_with_few_rows_are_left_out() -> None:
    case = make_case("multiclass")
    target = case.train.target.copy()
    rare = np.flatnonzero(target == 2)[3:]
    target[rare] = 1
    family = SklearnFamily("lda", classifier=LinearDiscriminantAnalysis(), min_class_size=4)
    found = trained(family, replace(case, train=replace(case.train, target=target))).predict(case.test.table)
    assert (found[:, 2] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("name", CATALOG)
def test_files_are_opened_with_the_types_of_the_code_alone(name: str, tmp_path: Path) -> None:
    """A file says which classes it holds; one that names another than the family's is refused before it is opened."""
    case = make_case("binary")
    model = trained(FAMILIES[name], case)
    model.save(tmp_path)
    path = tmp_path / "model.skops"
    read_estimator(path, FAMILIES[name].trusted_types(case.context.task))  # type: ignore[attr-defined]
    with zipfile.ZipFile(path) as archive:
        files = {file: archive.read(file) for file in archive.namelist()}
    schema = json.loads(files["schema.json"])
    schema |= {"__class__": "Popen", "__module__": "subprocess"}
    files["schema.json"] = json.dumps(schema).encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file, data in files.items():
            archive.writestr(file, data)
    path.write_bytes(content.getvalue())
    with pytest.raises(ModelFileError, match=r"model\.skops"):
        read_estimator(path, FAMILIES[name].trusted_types(case.context.task))  # type: ignore[attr-defined]


@pytest.mark.parametrize("damage", ["left", "right", "feature_idx"])
def test_trees_that_lead_astray_are_refused(damage: str, tmp_path: Path) -> None:
    case = make_case("regression")
    estimator = trained(FAMILIES["hist_gradient_boosting"], case).estimator
    estimator._predictors[3][0].nodes[damage][0] = 10**6
    write_estimator(tmp_path / "model.skops", estimator, (), "hist_gradient_boosting")
    with pytest.raises(ModelFileError, match="a tree"):
        read_estimator(tmp_path / "model.skops")


def test_trees_of_a_forest_are_checked_too(tmp_path: Path) -> None:
    case = make_case("binary")
    estimator = trained(SklearnFamily.wrap(ExtraTreesClassifier(3)), case).estimator
    write_estimator(tmp_path / "model.skops", estimator, (), "forest")
    read_estimator(tmp_path / "model.skops")
    tree = estimator.estimators_[1].tree_
    state = tree.__getstate__()
    state["nodes"]["right_child"][0] = 10**6
    tree.__setstate__(state)
    write_estimator(tmp_path / "model.skops", estimator, (), "forest")
    with pytest.raises(ModelFileError, match="not behind its parent"):
        read_estimator(tmp_path / "model.skops")


def test_what_cannot_be_opened_again_is_not_written(tmp_path: Path) -> None:
    case = make_case("binary")
    family = SklearnFamily.wrap(KNeighborsClassifier(algorithm="kd_tree"))
    with pytest.raises(InputError, match=r"'k_neighbors_classifier' cannot be saved.*KDTree.*trusted=\["):
        trained(family, case).save(tmp_path)
    trusting = SklearnFamily(
        "near",
        classifier=KNeighborsClassifier(algorithm="kd_tree"),
        trusted=["sklearn.neighbors._kd_tree.KDTree", "sklearn.metrics._dist_metrics.EuclideanDistance64"],
    )
    model = trained(trusting, case)
    model.save(tmp_path)
    found = trusting.load(tmp_path, case.context).predict(case.test.table)
    np.testing.assert_array_equal(found, model.predict(case.test.table))
    again = tmp_path / "again"
    again.mkdir()
    case.create_model(trusting, checkpoint=tmp_path).save(again)  # a finished model of a trial that is resumed
    np.testing.assert_array_equal(trusting.load(again, case.context).predict(case.test.table), found)


def test_neither_classifier_nor_regressor() -> None:
    with pytest.raises(InputError, match="neither a classifier nor a regressor"):
        SklearnFamily("nothing")


def test_skops_is_asked_for_nothing_that_it_does_not_trust() -> None:
    """The list in the code is as short as it can be: all of it occurs in what the catalogue writes."""
    case, held = make_case("multiclass"), set()
    for name in CATALOG:
        estimator = trained(FAMILIES[name], case).estimator
        held |= set(skops.io.get_untrusted_types(data=skops.io.dumps(estimator)))
    assert held == {
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._TemperatureScaling",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    }
