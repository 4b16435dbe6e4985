from __future__ import annotations

from typing import Any

import pytest
from scipy import sparse as sp
from sklearn.decomposition import PCA
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from toys import ToyFamily

from windvane.data.column_types import infer_schema
from windvane.data.task import Task
from windvane.errors import InputError
from windvane.models import DEFAULT, FAMILIES
from windvane.models.sklearn_family import SklearnFamily
from windvane.search.strategy.families import choose_families, supported_families


def test_families_are_names_or_objects() -> None:
    own = ToyFamily("own")
    assert choose_families(None) == {name: FAMILIES[name] for name in DEFAULT}
    assert choose_families("linear") == {"linear": FAMILIES["linear"]}
    assert list(choose_families(("mlp", own, "linear"))) == ["mlp", "own", "linear"]
    assert choose_families([own])["own"] is own


def test_an_estimator_becomes_a_family() -> None:
    chosen = choose_families([GaussianNB(), "linear", make_pipeline(PCA(2), LinearSVC())])
    assert list(chosen) == ["gaussian_nb", "linear", "linear_svc"]
    assert isinstance(chosen["gaussian_nb"], SklearnFamily)


@pytest.mark.parametrize(
    ("families", "message"),
    [
        ([], r"families=\[\] is not usable. Allowed: None, or a list of: lightgbm, "),
        (3, "families=3 is not usable"),
        ({"linear"}, "is not usable"),
        ("linaer", "families='linaer' is not known. Did you mean 'linear'?"),
        (
            ["linear", 3],
            "families holds 3. Allowed: names, scikit-learn estimators, or objects like windvane.models.base.Family",
        ),
        ([ToyFamily], "families holds <class"),
        ([GaussianNB], "families holds <class"),
        ([PCA()], r"families holds PCA\(\), which is neither a classifier nor a regressor"),
    ],
)
def test_what_is_no_family(families: Any, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        choose_families(families)


def test_families_that_do_not_fit_are_left_out() -> None:
    matrix = sp.random(60, 5, 0.5, format="csr", random_state=0)
    task, table = Task("binary", 60, 5, 2), infer_schema(matrix).transform(matrix)
    own = {"toy": ToyFamily(), "linear": FAMILIES["linear"]}
    assert list(supported_families(own, task, table)) == ["linear"]
    with pytest.raises(InputError, match=r"families=\['toy'\]: none of them supports these data. Allowed: lightgbm"):
        supported_families({"toy": ToyFamily()}, task, table)
    with pytest.raises(InputError) as caught:
        supported_families({"finetune": FAMILIES["finetune"]}, task, table)
    allowed = str(caught.value).partition("Allowed: ")[2].strip(".").split(", ")
    assert "linear" in allowed and not {"finetune", "from_scratch", "xgboost"} & set(allowed)  # of a sparse table
