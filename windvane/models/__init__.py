"""The families of models, by name. Importing them loads no heavy library."""

from windvane.models.base import Family
from windvane.models.boosting_catboost import CatBoost
from windvane.models.boosting_histogram import HistGradientBoosting
from windvane.models.boosting_lightgbm import LightGBM
from windvane.models.discriminant import Discriminant
from windvane.models.forests import Forest
from windvane.models.kernel import Kernel
from windvane.models.linear import Linear
from windvane.models.mlp import MLP
from windvane.models.neighbours import Neighbours
from windvane.models.network import Network
from windvane.models.sgd import SGD

FAMILIES: dict[str, Family] = {
    "lightgbm": LightGBM(),
    "catboost": CatBoost(),
    "random_forest": Forest("random_forest"),
    "extra_trees": Forest("extra_trees"),
    "linear": Linear(),
    "mlp": MLP(),
    "network": Network(),
    "hist_gradient_boosting": HistGradientBoosting(),
    "sgd": SGD(),
    "kernel": Kernel(),
    "neighbours": Neighbours(),
    "discriminant": Discriminant(),
}

# What a search tries where no families are named. The others wait until measurement puts them into the portfolio.
DEFAULT = ("lightgbm", "catboost", "random_forest", "extra_trees", "linear", "mlp", "network")
