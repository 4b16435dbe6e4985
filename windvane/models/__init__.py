"""The families of models, by name. Importing them loads no heavy library."""

from windvane.models.base import Family
from windvane.models.boosting_catboost import CatBoost
from windvane.models.boosting_lightgbm import LightGBM
from windvane.models.forests import Forest
from windvane.models.linear import Linear
from windvane.models.mlp import MLP

FAMILIES: dict[str, Family] = {
    "lightgbm": LightGBM(),
    "catboost": CatBoost(),
    "random_forest": Forest("random_forest"),
    "extra_trees": Forest("extra_trees"),
    "linear": Linear(),
    "mlp": MLP(),
}
