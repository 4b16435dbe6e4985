"""The families of models, by name. Importing them loads no heavy library."""

from windvane.models.base import Family
from windvane.models.boosting.catboost import CatBoost
from windvane.models.boosting.lightgbm import LightGBM
from windvane.models.boosting.xgboost import XGBoost
from windvane.models.constant import Constant
from windvane.models.forest import Forest
from windvane.models.image_network import FineTune, FromScratch
from windvane.models.linear import Linear
from windvane.models.neural.mlp import MLP
from windvane.models.neural.realmlp import RealMLP
from windvane.models.sklearn_catalog import discriminant, hist_gradient_boosting, kernel, neighbours, sgd

TABLE_FAMILIES: dict[str, Family] = {
    "lightgbm": LightGBM(),
    "catboost": CatBoost(),
    "xgboost": XGBoost(),
    "random_forest": Forest("random_forest"),
    "extra_trees": Forest("extra_trees"),
    "linear": Linear(),
    "mlp": MLP(),
    "network": RealMLP(),
    "hist_gradient_boosting": hist_gradient_boosting(),
    "sgd": sgd(),
    "kernel": kernel(),
    "neighbours": neighbours(),
    "discriminant": discriminant(),
}
IMAGE_FAMILIES: dict[str, Family] = {"finetune": FineTune(), "from_scratch": FromScratch()}
FAMILIES: dict[str, Family] = {**TABLE_FAMILIES, **IMAGE_FAMILIES}
LAST_RESORT = Constant()  # of a search whose time ended before any model was trained; nobody asks for it by name

# What a search evaluates if no families are named: what the ensemble is better with than without (docs/decisions.md).
DEFAULT = ("lightgbm", "catboost", "random_forest", "extra_trees", "linear", "network")
# The same for images, whose features the families of tables read.
IMAGE_DEFAULT = ("linear", "finetune", "kernel", "network", "extra_trees", "from_scratch")
