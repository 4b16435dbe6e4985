"""Image classification: train a network the way "How to train your ViT?" found, or fine-tune one (arXiv 2106.10270).

Works with any image classification network of timm; it does not use the search. The public names:

- train: `train`, `Recipe`, `TrainingResult`, `Evaluation`, `load_recipe`, `list_recipes`, `NamedRecipe`
- choose settings: `default_recipe`, `advise`, `apply_advice`, `format_advice`, `Advice`, `AUGREG_LEVELS`, `AugRegLevel`
- transfer: `finetune`, `finetune_recipe`, `finetune_timed`, `default_time_budget`, `linear_probe`, `ProbeResult`,
  `finetune_grid`, `FinetuneGrid`, `select_checkpoint`, `select_run`, `PretrainedCheckpoint`, `CheckpointSelection`
- use a model: `TrainedModel`, `load_model`, `is_image_model`, `predict`, `predict_proba`, `prediction_table`
- report: `write_report`, `format_result`, `load_fisher_trace`
- export: `export_onnx`, `export_torch`
- networks: `create_model`, `count_parameters`, `count_macs`, `default_image_size`; importing this package
  registers ViT-Lite and CCT with timm
"""

from windvane.vision.advice import Advice, advise, apply_advice, default_recipe, format_advice
from windvane.vision.augment.augreg import AUGREG_LEVELS, AugRegLevel
from windvane.vision.export import export_onnx, export_torch
from windvane.vision.networks.create import create_model, default_image_size
from windvane.vision.networks.profiling import count_macs, count_parameters
from windvane.vision.predict import predict, predict_proba, prediction_table
from windvane.vision.recipe import NamedRecipe, Recipe, list_recipes, load_recipe
from windvane.vision.report.training_page import format_result, write_report
from windvane.vision.saved_model import TrainedModel, is_image_model, load_model
from windvane.vision.training.fisher import load_fisher_trace
from windvane.vision.training.run import TrainingResult
from windvane.vision.training.train import train
from windvane.vision.training.training_log import Evaluation
from windvane.vision.transfer.finetune import default_time_budget, finetune, finetune_recipe
from windvane.vision.transfer.grid import FinetuneGrid, finetune_grid
from windvane.vision.transfer.linear_probe import ProbeResult, linear_probe
from windvane.vision.transfer.select_checkpoint import (
    CheckpointSelection,
    PretrainedCheckpoint,
    select_checkpoint,
    select_run,
)
from windvane.vision.transfer.timed import finetune_timed

__all__ = [
    "AUGREG_LEVELS",
    "Advice",
    "AugRegLevel",
    "CheckpointSelection",
    "Evaluation",
    "FinetuneGrid",
    "NamedRecipe",
    "PretrainedCheckpoint",
    "ProbeResult",
    "Recipe",
    "TrainedModel",
    "TrainingResult",
    "advise",
    "apply_advice",
    "count_macs",
    "count_parameters",
    "create_model",
    "default_image_size",
    "default_recipe",
    "default_time_budget",
    "export_onnx",
    "export_torch",
    "finetune",
    "finetune_grid",
    "finetune_recipe",
    "finetune_timed",
    "format_advice",
    "format_result",
    "is_image_model",
    "linear_probe",
    "list_recipes",
    "load_fisher_trace",
    "load_model",
    "load_recipe",
    "predict",
    "predict_proba",
    "prediction_table",
    "select_checkpoint",
    "select_run",
    "train",
    "write_report",
]
