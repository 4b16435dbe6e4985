"""The report of a training run: how good the network is, where it errs, how it was trained, and how to use it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from windvane.curvature.fisher_trace import FisherRecord
from windvane.data.images import ImageSplits
from windvane.errors import InputError
from windvane.evaluation.curves import top_confusions
from windvane.evaluation.evaluation_page import confusion_figure, confusions_table
from windvane.evaluation.metric_functions import balanced_accuracy, log_loss
from windvane.pages.html_builder import (
    Html,
    Page,
    Section,
    bullet_list,
    check_path,
    class_bars,
    code,
    details,
    figure,
    metric_cards,
    note,
    number,
    paragraph,
    side_by_side,
    table,
    write_page,
)
from windvane.pages.svg_charts import Axis, Kind, Series, plot, round_ticks
from windvane.pages.texts import counted
from windvane.settings import format_duration
from windvane.version import VERSION
from windvane.vision.networks.profiling import count_parameters
from windvane.vision.predict import predict_proba
from windvane.vision.recipe import Recipe
from windvane.vision.report.classification import EvaluatedImages
from windvane.vision.report.example_images import examples_section, scores_by_class
from windvane.vision.training.fisher import check_explosion
from windvane.vision.training.run import TrainingResult
from windvane.vision.training.training_log import Evaluation

PAGE = "page.html"  # in the folder of the run
MAX_MATRIX = 26  # classes in a confusion matrix
MAX_PAIRS = 12
MAX_BARS = 20
MAX_OPEN_ROWS = 12  # classes in a table that need not be opened
MAX_TICKS = 7  # of a log scale
FEW = 3  # evaluations that are drawn as points


def format_result(result: TrainingResult) -> str:
    """Format in two lines how good the best model is and where it was saved.

    Parameters
    ----------
    result
        From `train`, `finetune` or `finetune_timed`.

    Returns
    -------
    str
        Two lines of text.

    Examples
    --------
    >>> print(format_result(train(recipe, data, out="run")))  # doctest: +SKIP
    """
    best = result.best
    scores = f"validation accuracy {best.valid_accuracy:.4f}, loss {best.valid_loss:.4f}"
    where = "not saved" if result.folder is None else f"kept in {result.folder}"
    return f"best: epoch {best.epoch:.1f}, {scores}\n{where}"


def write_report(result: TrainingResult, data: ImageSplits, path: str | Path | None = None) -> Path:
    """Write the report of a training run as one HTML page: scores, errors, examples, curves, recipe, data.

    Parameters
    ----------
    result
        From `train`, `finetune` or `finetune_timed`.
    data
        What it was trained on. Test images, which selected nothing, give the page its headline.
    path
        A name that ends in .html; None for page.html in the folder of the run. An earlier page of windvane is
        replaced.

    Returns
    -------
    Path
        The page.

    Examples
    --------
    >>> write_report(train(recipe, data, out="run"), data)  # doctest: +SKIP
    """
    if path is None:
        if result.folder is None:
            raise InputError("path is missing: the run kept no folder. Allowed: a name that ends in .html.")
        path = result.folder / PAGE
    target = Path(path)
    check_path(target)
    if data.train.classes != result.model.classes:
        raise InputError(f"data has the classes {', '.join(data.train.classes)}, but the model has others.")
    evaluated = [
        EvaluatedImages(split, predict_proba(result.model, split), used_for_selection)
        for split, used_for_selection in ((data.valid, True), (data.test, False))
        if split is not None and len(split)
    ]
    return write_page(make_page(result, data, evaluated), target)


def make_page(result: TrainingResult, data: ImageSplits, evaluated: Sequence[EvaluatedImages]) -> Page:
    """Return the page; its errors are those on test images if there are any, else on validation images."""
    evaluated = sorted(evaluated, key=lambda one: one.used_for_selection)
    sections = [_errors(evaluated[0]), examples_section(evaluated[0])] if evaluated else []
    versions = table(["", ""], [[*pair] for pair in result.versions.items()], label="Versions")
    sections += [_training(result), _data(data), _use(result.folder), Section("Versions", [versions])]
    title = f"windvane: {result.model.recipe.model if result.folder is None else result.folder.name}"
    return Page(title, _headline(result, data, evaluated), sections, f"Written by windvane {VERSION}.")


def _headline(result: TrainingResult, data: ImageSplits, evaluated: Sequence[EvaluatedImages]) -> list[Html]:
    """Return the cards on top; `evaluated` has unbiased scores first."""
    entries: list[tuple[str, str, object]] = []
    for one in evaluated:
        low, high = one.interval()
        use = "selected the model, so it is slightly too good" if one.used_for_selection else "selected nothing"
        remark = f"95 % interval {low:.1%} to {high:.1%}; {len(one.images):,} images, which {use}"
        name = "Validation accuracy" if one.used_for_selection else "Test accuracy"
        entries.append((name, f"{one.accuracy:.1%}", remark))
    if evaluated:
        counts = np.bincount(evaluated[0].target)
        words = f"always predicting {evaluated[0].images.classes[int(counts.argmax())]}"
        entries.append(("Majority class", f"{counts.max() / counts.sum():.1%}", words))
    entries.append(("Images", f"{len(data.train):,}", f"to train on, of {len(data.train.classes)} classes"))
    speed = pd.Series([one.images_per_second for one in result.history]).median()
    n_parameters = _format_count(count_parameters(result.model.network))
    network = f"{result.model.recipe.model}, {n_parameters} parameters, {number(speed, 3)} images a second"
    entries.append(("Training", format_duration(result.seconds), network))
    content = [metric_cards(entries)]
    if evaluated and evaluated[0].used_for_selection:
        content.append(note("There is no unbiased score yet: keep test images aside, which select nothing."))
    return content


def _format_count(n: int) -> str:
    return f"{n / 1e6:.3g} M" if n >= 1e6 else f"{n / 1e3:.3g} k" if n >= 1e3 else str(n)


# Errors.


def _errors(one: EvaluatedImages) -> Section:
    classes = one.images.classes
    which = "validation images, which also selected the model" if one.used_for_selection else "test images"
    loss = log_loss(one.target, one.probabilities.astype(np.float64))
    words = (
        f"On {len(one.images):,} {which}: {one.accuracy:.1%} are correct. The mean over the classes is "
        f"{balanced_accuracy(one.target, one.predicted):.1%}, the log loss {number(loss, 3)}. The mean confidence of "
        f"the network is {one.confidence.mean():.1%}."
    )
    content = [paragraph(words)]
    if len(classes) <= MAX_MATRIX:
        counts = confusion_matrix(one.target, one.predicted, labels=range(len(classes)))
        content.append(confusion_figure(counts, classes, ""))
    tables = [] if len(classes) > MAX_OPEN_ROWS else [scores_by_class(one)]
    confusions = top_confusions(one.target, one.predicted, classes)[:MAX_PAIRS]
    if len(classes) > 2 and confusions:
        tables.append(confusions_table(confusions, "images"))
    content.append(side_by_side(*tables))
    if len(classes) > MAX_OPEN_ROWS:
        content.append(details(f"All {len(classes)} classes", scores_by_class(one)))
    return Section("Errors", content)


# Training.


def _training(result: TrainingResult) -> Section:
    recipe = result.model.recipe
    alarm = check_explosion(result.fisher, result.history[-1], recipe.warmup_fraction, result.reference)
    return Section(
        "Training",
        [
            bullet_list([*describe_recipe(recipe), *result.notes]),
            *training_curves(result.history, result.best, result.fisher, result.reference, alarm),
            recipe_table(recipe),
        ],
    )


def training_curves(
    history: Sequence[Evaluation],
    best: Evaluation,
    fisher: Sequence[FisherRecord] = (),
    reference: Sequence[FisherRecord] = (),
    alarm: str | None = None,
) -> list[Html]:
    """Draw loss, accuracy, learning rate and Fisher trace of a training, and say how to read them."""
    frame, kept = pd.DataFrame([asdict(one) for one in history]), list(history).index(best)
    pictures = [
        _curve(frame, kept, "Loss", ("train_loss", "valid_loss")),
        _curve(frame, kept, "Accuracy", ("train_accuracy", "valid_accuracy")),
        _curve(frame, kept, "Learning rate", ("learning_rate",)),
        _fisher_trace(fisher, reference, alarm),
    ]
    words = (
        "Training scores are those of augmented images, with dropout if the recipe sets it, so they may be worse than "
        "validation scores. The ring marks the model that was kept."
    )
    return [side_by_side(*(one for one in pictures if one is not None)), paragraph(words)]


def recipe_table(recipe: Recipe) -> Html:
    """List every setting of a recipe, to be opened."""
    fields = [[name, "none" if value is None else str(value)] for name, value in recipe.to_json().items()]
    return details("The whole recipe", table(["", ""], fields, label="The whole recipe"))


_SPLITS = {"train": "training", "valid": "validation"}


def _curve(history: pd.DataFrame, best: int, title: str, columns: Sequence[str]) -> Html | None:
    lines: list[Series] = []
    for color, column in enumerate(columns):
        shown = history[["epoch", column]].dropna()
        if len(shown):
            kind: Kind = "line" if len(shown) > FEW else "points"
            x, y = shown["epoch"].to_numpy(), shown[column].to_numpy()
            lines.append(Series(x, y, kind, color, _SPLITS.get(column.partition("_")[0], "")))
    if not lines:
        return None
    if columns[-1].startswith("valid") and not np.isnan(history[columns[-1]].iloc[best]):
        kept = history.iloc[[best]]
        lines.append(Series(kept["epoch"].to_numpy(), kept[columns[-1]].to_numpy(), "ring", lines[-1].color))
    x_axis = Axis.around("epoch", [0, *history["epoch"]], margin=0.02)
    y_axis = Axis.around(title.lower(), np.concatenate([one.y for one in lines]))
    return figure(title, plot(lines, x_axis, y_axis, f"{title} over the epochs"), legend=lines)


def _fisher_trace(records: Sequence[FisherRecord], reference: Sequence[FisherRecord], alarm: str | None) -> Html | None:
    """Plot Tr(F) over the steps on a log scale, without values that are zero or not finite."""
    lines = []
    for color, (name, those) in enumerate((("this run", records), ("reference", reference))):
        shown = [(one.step, math.log10(one.trace)) for one in those if 0 < one.trace < math.inf]
        if shown:
            x, y = np.array(shown).T
            lines.append(Series(x, y, "line" if len(shown) > FEW else "points", color, name))
    if not records or not lines:
        return None
    steps, powers = (np.concatenate([getattr(line, axis) for line in lines]) for axis in ("x", "y"))
    x_axis, y_axis = Axis.around("step", [0, *steps], margin=0.02), Axis.around("Tr(F)", powers)
    y_axis = replace(y_axis, ticks=_log_ticks(y_axis.low, y_axis.high))
    picture = plot(lines, x_axis, y_axis, "Fisher trace over the steps")
    caption = "Log scale; each is an estimate from one batch."
    if reference:
        caption += " The two are compared at equal entropy of the predictions, not at equal steps."
    if alarm is not None:
        caption += f" {alarm}"
    return figure("Fisher trace", picture, caption, legend=lines if len(lines) > 1 else ())


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return ticks between two logarithms to base 10: round numbers, of many the powers of 10."""
    ticks = [(math.log10(m) + k, f"{m * 10.0**k:g}") for k in range(-12, 16) for m in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick[0] <= high]
    if len(ticks) > MAX_TICKS:
        ticks = [tick for tick in ticks if tick[0] == round(tick[0])]
    if len(ticks) < 2:
        ticks = [(power, number(10.0**power, 3)) for power, _ in round_ticks(low, high)]
    return ticks


def describe_recipe(recipe: Recipe) -> list[str]:
    """Describe a recipe in sentences: network, schedule, augmentation, regularization."""
    size = recipe.image_size
    start = "random weights" if recipe.weights is None else f"the weights {recipe.weights}"
    return [
        f"{recipe.model} from {start}, on images of {size} x {size} pixels, seed {recipe.seed}.",
        _describe_schedule(recipe),
        _describe_crops(recipe),
        _describe_regularization(recipe),
    ]


def _describe_schedule(recipe: Recipe) -> str:
    lengths = {"epochs": recipe.epochs, "steps": recipe.steps, "seconds": recipe.time_budget}
    length = next(f"{value:g} {unit}" for unit, value in lengths.items() if value is not None)
    optimizer = {"adamw": "AdamW", "sgd": "SGD with momentum 0.9"}[recipe.optimizer]
    text = (
        f"{length} in batches of {recipe.batch_size} by {optimizer}. The learning rate rises to "
        f"{recipe.learning_rate:g} over the first {recipe.warmup_fraction:.0%} of the run, then falls to zero along a "
        f"cosine. Weight decay {recipe.weight_decay:g}."
    )
    if recipe.micro_batch_size is not None:
        text += f" A batch is computed {counted(recipe.micro_batch_size, 'image')} at a time."
    if recipe.grad_clip is not None:
        text += f" Gradients are clipped to a norm of {recipe.grad_clip:g}."
    return text


def _describe_crops(recipe: Recipe) -> str:
    crops = {
        "random_resized_crop": f"cropped to {recipe.min_crop_area:.0%} or more of their area",
        "random_shift": "shifted by up to an eighth",
        "none": "not cropped",
    }
    flipped = ", half of them flipped" if recipe.horizontal_flip else ""
    evaluated = "the central square of each image" if recipe.crops_center else "whole images, stretched to a square"
    return f"Training images: AugReg level {recipe.augreg}, {crops[recipe.crop]}{flipped}. Evaluated: {evaluated}."


def _describe_regularization(recipe: Recipe) -> str:
    rates = {"dropout": recipe.dropout, "stochastic depth up to": recipe.drop_path}
    dropout = " and ".join(f"{name} {rate:g}" for name, rate in rates.items() if rate)
    parts = [dropout or "no dropout or stochastic depth"]
    if recipe.label_smoothing:
        parts.append(f"label smoothing {recipe.label_smoothing:g}")
    if recipe.ema_decay is not None:
        parts.append(f"moving average of the weights {recipe.ema_decay:g}")
    if recipe.fisher_penalty:
        parts.append(f"Fisher Penalty {recipe.fisher_penalty:g}")
    if recipe.freeze_fraction:
        parts.append(f"the first {recipe.freeze_fraction:.0%} of the layers frozen")
    if recipe.loss == "binary_cross_entropy":
        parts.append("binary cross-entropy")
    return f"Regularization: {', '.join(parts)}."


# Data and use.


def _data(data: ImageSplits) -> Section:
    classes = data.train.classes
    counts = np.bincount(np.asarray(data.train.labels), minlength=len(classes)).tolist()
    shown = class_bars(counts, classes, "Training images of each class", MAX_BARS)
    return Section("Data", [bullet_list(data.summary().splitlines()), shown])


def _use(folder: Path | None) -> Section:
    if folder is None:
        return Section("Use it", [paragraph("The model was not saved: train(recipe, data, out='run') saves it.")])
    where = str(folder.absolute())
    lines = (
        "from windvane import vision\nfrom windvane.data.images import read_unlabelled\n\n"
        f"model = vision.load_model({where!r})\n"
        'vision.prediction_table(model, read_unlabelled("new_images/"))'
    )
    shell = f"windvane predict {where} new_images/ --out predictions.csv"
    return Section("Use it", [code(lines), code(shell)])
