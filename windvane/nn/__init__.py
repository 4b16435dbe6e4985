"""One network, trained once, the way "How to train your ViT" found (Steiner et al., arXiv 2106.10270).

Usable alone, on any image classification network of timm; it knows nothing of the search. The public names:

- `Recipe`, `read_recipe`, `named_recipes`, `NamedRecipe`: all that decides how a network is trained
- `train`, `Trained`, `Evaluation`: the loop, and what comes of it
- `report`, `describe_result`, `read_trace`: the page of a finished run, the run in a few lines, its Fisher trace
- `AUGREG_LEVELS`, `AugregLevel`: the paper's seven levels of augmentation
- `advise`, `advised`, `describe_advice`, `Advice`: which level, and whether to transfer instead, with reasons
- `transfer`, `transfer_recipe`, `usual_seconds`, `adapt`, `linear_probe`, `Probed`: weights that were learned elsewhere
- `choose_checkpoint`, `Checkpoint`, `Choice`: which weights
- `Model`, `open_model`, `is_network`: a trained network in memory, and in a folder
- `predict`, `predict_proba`, `prediction_table`: its use
- `export_onnx`, `export_torch`: for other programs
- `create_network`, `count_parameters`, `count_macs`, `usual_size`: networks alone (timm knows ViT-Lite and CCT too,
  once this is imported)
"""

from windvane.nn.adapt import adapt
from windvane.nn.advise import Advice, advise
from windvane.nn.advised import advised, describe_advice
from windvane.nn.augment import AUGREG_LEVELS, AugregLevel
from windvane.nn.choose import Checkpoint, Choice, choose_checkpoint
from windvane.nn.export import export_onnx, export_torch
from windvane.nn.finish import describe_result, report
from windvane.nn.fisher import read_trace
from windvane.nn.history import Evaluation
from windvane.nn.model import Model, is_network, open_model
from windvane.nn.networks import count_macs, count_parameters, create_network, usual_size
from windvane.nn.predict import predict, predict_proba, prediction_table
from windvane.nn.probe import Probed, linear_probe
from windvane.nn.recipe import NamedRecipe, Recipe, named_recipes, read_recipe
from windvane.nn.run import Trained
from windvane.nn.train import train
from windvane.nn.transfer import transfer, transfer_recipe, usual_seconds

__all__ = [
    "AUGREG_LEVELS",
    "Advice",
    "AugregLevel",
    "Checkpoint",
    "Choice",
    "Evaluation",
    "Model",
    "NamedRecipe",
    "Probed",
    "Recipe",
    "Trained",
    "adapt",
    "advise",
    "advised",
    "choose_checkpoint",
    "count_macs",
    "count_parameters",
    "create_network",
    "describe_advice",
    "describe_result",
    "export_onnx",
    "export_torch",
    "is_network",
    "linear_probe",
    "named_recipes",
    "open_model",
    "predict",
    "predict_proba",
    "prediction_table",
    "read_recipe",
    "read_trace",
    "report",
    "train",
    "transfer",
    "transfer_recipe",
    "usual_seconds",
    "usual_size",
]
