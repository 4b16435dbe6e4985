"""The families of models, by name. Importing them loads no heavy library."""

from windvane.models.base import Family
from windvane.models.boosting_catboost import CatBoost
from windvane.models.boosting_lightgbm import LightGBM
from windvane.models.forests import Forest
from windvane.models.linear import Linear
from windvane.models.mlp import MLP
from windvane.models.network import Network
from windvane.models.sklearn_catalog import discriminant, hist_gradient_boosting, kernel, neighbours, sgd

FAMILIES: dict[str, Family] = {
    "lightgbm": LightGBM(),
    "catboost": CatBoost(),
    "random_forest": Forest("random_forest"),
    "extra_trees": Forest("extra_trees"),
    "linear": Linear(),
    "mlp": MLP(),
    "network": Network(),
    "hist_gradient_boosting": hist_gradient_boosting(),
    "sgd": sgd(),
    "kernel": kernel(),
    "neighbours": neighbours(),
    "discriminant": discriminant(),
}

# What a search tries where no families are named. The others wait until measurement puts them into the portfolio.
DEFAULT = ("lightgbm", "catboost", "random_forest", "extra_trees", "linear", "mlp", "network")
