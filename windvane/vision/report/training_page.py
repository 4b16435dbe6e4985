"""The page of a training run: how good the network is, where it errs, how it was trained, and how to use it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from windvane.curvature.fisher_trace import FisherRecord
from windvane.data.images.dataset import ImageSplits
from windvane.errors import InputError
from windvane.html_builder import (
    Html,
    Page,
    Section,
    bars,
    bullet_list,
    check_path,
    code,
    details,
    figure,
    heatmap,
    metric_cards,
    note,
    number,
    paragraph,
    side_by_side,
    table,
    write_page,
)
from windvane.svg_charts import Axis, Kind, Series, plot, round_ticks
from windvane.version import VERSION
from windvane.vision.networks.profiling import count_parameters
from windvane.vision.predict import predict_proba
from windvane.vision.report.classification import EvaluatedImages
from windvane.vision.report.gallery import gallery
from windvane.vision.training.fisher import check_explosion
from windvane.vision.training.run import TrainingResult

MOST_SHADED = 26  # classes in a confusion matrix
MOST_PAIRS = 12
MOST_BARS = 20
MOST_OPEN = 12  # classes in a table that need not be opened
SHOTS, SHOTS_EACH = 18, 3  # examples, and of one predicted class
MOST_MARKS = 7  # on the axis of a log scale
FEW = 3  # evaluations that are drawn as points


@dataclass(frozen=True, eq=False)
class RunFacts:
    """What the page of a run shows.

    Attributes
    ----------
    recipe
        By its fields, as `windvane.vision.Recipe.to_json` gives them.
    history
        A row an evaluation: epoch, seconds, learning_rate, images_per_second, train_loss, train_accuracy, valid_loss,
        valid_accuracy; nan where there is none.
    best
        The row of the model that was kept.
    data
        What it was trained on.
    judged
        The validation images, the test images, or both.
    n_parameters
        Of the network.
    seconds
        That the run took.
    versions
        Of the libraries, by name.
    folder
        Of the run; None where nothing was kept.
    fisher
        Measurements of the Fisher trace; empty where there are none.
    reference
        Those of the run that they are compared to; empty where there is none.
    notes
        What was chosen in the run, and why.
    alarm
        What the explosion alarm says of them; None where it is silent.
    """

    recipe: Mapping[str, Any]
    history: pd.DataFrame
    best: int
    data: ImageSplits
    judged: Sequence[EvaluatedImages]
    n_parameters: int
    seconds: float
    versions: Mapping[str, str]
    folder: Path | None = None
    fisher: Sequence[FisherRecord] = ()
    reference: Sequence[FisherRecord] = ()
    notes: Sequence[str] = ()
    alarm: str | None = None


def write_run_page(facts: RunFacts, path: Path) -> Path:
    """Write the page of a training run.

    Parameters
    ----------
    facts
        Of the run.
    path
        A name that ends in .html; an earlier page of windvane is replaced.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    InputError
        Where the path cannot be used; nothing is written.
    """
    check_path(path)
    return write_page(make_run_page(facts), path)


def make_run_page(facts: RunFacts) -> Page:
    """Compute everything that the page shows.

    Parameters
    ----------
    facts
        Of the run.

    Returns
    -------
    Page
        Judged on the test images where there are any, else on the validation images.
    """
    judged = min(facts.judged, key=lambda one: one.chose, default=None)
    sections = [] if judged is None else [_errors(judged), _examples(judged)]
    sections += [_training(facts), _data(facts.data), _use(facts), _versions(facts)]
    title = f"windvane: {facts.recipe['model'] if facts.folder is None else facts.folder.name}"
    return Page(title, _headline(facts, judged), sections, f"Written by windvane {VERSION}.")


def _headline(facts: RunFacts, judged: EvaluatedImages | None) -> list[Html]:
    """Put the honest number first."""
    entries: list[tuple[str, str, object]] = []
    for one in sorted(facts.judged, key=lambda one: one.chose):
        low, high = one.interval()
        use = "chose the model, so it is a little too good" if one.chose else "these images chose nothing"
        remark = f"95 % interval {low:.1%} to {high:.1%}; {len(one.images):,} images; {use}"
        entries.append(("Validation accuracy" if one.chose else "Test accuracy", f"{one.accuracy:.1%}", remark))
    if judged is not None:
        counts = np.bincount(judged.target, minlength=len(judged.images.classes))
        words = f"always saying {judged.images.classes[int(counts.argmax())]}"
        entries.append(("Blind guess", f"{counts.max() / counts.sum():.1%}", words))
    train = facts.data.train
    entries.append(("Images", f"{len(train):,}", f"to train on, of {len(train.classes)} classes"))
    speed = facts.history["images_per_second"].median()
    network = f"{facts.recipe['model']}, {_count(facts.n_parameters)} parameters, {number(speed, 3)} images a second"
    entries.append(("Training", duration(facts.seconds), network))
    content = [metric_cards(entries)]
    if judged is not None and judged.chose:
        content.append(note("There is no unbiased score yet: keep test images aside, which choose nothing."))
    return content


def duration(seconds: float) -> str:
    """Write a duration for people, as in "12.6 min"."""
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{number(seconds, 2)} s"


def _count(n: int) -> str:
    return f"{n / 1e6:.3g} M" if n >= 1e6 else f"{n / 1e3:.3g} k" if n >= 1e3 else str(n)


# Where it errs.


def _errors(judged: EvaluatedImages) -> Section:
    classes, matrix = judged.images.classes, judged.confusion
    which = "validation images, which also chose the model" if judged.chose else "test images"
    words = (
        f"On {len(judged.images):,} {which}: {judged.accuracy:.1%} are right. The mean over the classes is "
        f"{judged.balanced_accuracy():.1%}, the log loss {number(judged.log_loss, 3)}. The network is "
        f"{judged.certainty.mean():.1%} certain on average."
    )
    content = [paragraph(words)]
    if len(classes) <= MOST_SHADED:
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        cells = [
            [(float(share), f"{count:,}" if count else "·") for share, count in zip(*pair, strict=True)]
            for pair in zip(shares, matrix.tolist(), strict=True)
        ]
        caption = "Rows: the true class. Columns: what the network says. Shade: share of the row."
        content.append(figure("Confusion matrix", heatmap(classes, classes, cells, label="Confusion matrix"), caption))
    tables = [] if len(classes) > MOST_OPEN else [_by_class(judged)]
    pairs = judged.pairs()[:MOST_PAIRS]
    if len(classes) > 2 and pairs:
        sizes = matrix.sum(axis=1)
        rows = [[classes[i], classes[j], count, f"{count / sizes[i]:.0%}"] for i, j, count in pairs]
        header = ["true class", "taken for", "images", "of the class"]
        tables.append(figure("Most frequent confusions", table(header, rows, label="Most frequent confusions")))
    content.append(side_by_side(*tables))
    if len(classes) > MOST_OPEN:
        content.append(details(f"All {len(classes)} classes", _by_class(judged)))
    return Section("Errors", content)


def _by_class(judged: EvaluatedImages) -> Html:
    found, trusted, sizes = judged.found(), judged.trusted(), judged.confusion.sum(axis=1)
    rows = [[judged.images.classes[i], int(sizes[i]), _share(found[i]), _share(trusted[i])] for i in np.argsort(found)]
    header = ["class", "images", "found", "right when said"]
    caption = "Found: share of the class's images that are called so (recall). Right when said: precision."
    return figure("Each class, the hardest first", table(header, rows, label="Scores of each class"), caption)


def _share(share: float) -> str:
    return "-" if np.isnan(share) else f"{share:.1%}"


def _examples(judged: EvaluatedImages) -> Section:
    content = []
    for right, title in ((False, "Wrong, and most certain"), (True, "Right, and most certain")):
        chosen = judged.most_certain(right=right, most=SHOTS, each=SHOTS_EACH)
        if not chosen:
            content.append(paragraph("None is wrong." if not right else "None is right."))
            continue
        shots = [(judged.images.decode(i), _caption(judged, i), judged.images.names[i]) for i in chosen]
        content.append(figure(title, gallery(shots, label=title)))
    words = "Below each image: what the network says, how certain it is, and the label where that differs. "
    few = f"At most {SHOTS_EACH} of each predicted class are shown. "
    hint = "Errors of high certainty are often wrong labels: look at them."
    return Section("Examples", [paragraph(words + few + hint), *content])


def _caption(judged: EvaluatedImages, i: int) -> str:
    classes = judged.images.classes
    said = f"{classes[judged.predicted[i]]} ({judged.certainty[i]:.0%})"
    return said if judged.right[i] else f"{said}, is {classes[judged.target[i]]}"


# How it was trained.


def _training(facts: RunFacts) -> Section:
    pictures = [
        _curve(facts, "Loss", ("train_loss", "valid_loss")),
        _curve(facts, "Accuracy", ("train_accuracy", "valid_accuracy")),
        _curve(facts, "Learning rate", ("learning_rate",)),
        _trace(facts.fisher, facts.reference, facts.alarm),
    ]
    words = "Training figures are of varied images with dropout where the recipe has them, so they may lie below those "
    content = [
        bullet_list([*describe_recipe(facts.recipe), *facts.notes]),
        side_by_side(*(one for one in pictures if one is not None)),
    ]
    content.append(paragraph(words + "of validation. The large dot is the model that was kept."))
    fields = [[name, "none" if value is None else str(value)] for name, value in facts.recipe.items()]
    content.append(details("The whole recipe", table(["", ""], fields, label="The whole recipe")))
    return Section("Training", content)


_SPLITS = {"train": "training", "valid": "validation"}


def _curve(facts: RunFacts, title: str, columns: Sequence[str]) -> Html | None:
    history = facts.history
    lines: list[Series] = []
    for color, column in enumerate(columns):
        shown = history[["epoch", column]].dropna()
        if len(shown):
            kind: Kind = "line" if len(shown) > FEW else "points"
            x, y = shown["epoch"].to_numpy(), shown[column].to_numpy()
            lines.append(Series(x, y, kind, color, _SPLITS.get(column.partition("_")[0], "")))
    if not lines:
        return None
    if columns[-1].startswith("valid") and not np.isnan(history[columns[-1]].iloc[facts.best]):
        kept = history.iloc[[facts.best]]
        lines.append(Series(kept["epoch"].to_numpy(), kept[columns[-1]].to_numpy(), "ring", lines[-1].color))
    x_axis = Axis.around("epoch", [0, *history["epoch"]], margin=0.02)
    y_axis = Axis.around(title.lower(), np.concatenate([one.y for one in lines]))
    return figure(title, plot(lines, x_axis, y_axis, f"{title} over the epochs"), legend=lines)


def _trace(records: Sequence[FisherRecord], reference: Sequence[FisherRecord], alarm: str | None) -> Html | None:
    """Draw Tr(F) over the steps, in log scale; a trace that is zero or not finite has no place there."""
    lines = []
    for color, (name, those) in enumerate((("this run", records), ("reference", reference))):
        shown = [(one.step, math.log10(one.trace)) for one in those if 0 < one.trace < math.inf]
        if shown:
            x, y = np.array(shown).T
            lines.append(Series(x, y, "line" if len(shown) > FEW else "points", color, name))
    if not records or not lines:
        return None
    steps, powers = (np.concatenate([getattr(line, axis) for line in lines]) for axis in ("x", "y"))
    around = Axis.around("Tr(F)", powers)
    marks = [(math.log10(m) + k, f"{m * 10.0**k:g}") for k in range(-12, 16) for m in (1, 2, 5)]
    marks = [mark for mark in marks if around.low <= mark[0] <= around.high]
    if len(marks) > MOST_MARKS:
        marks = [mark for mark in marks if mark[0] == round(mark[0])]
    if len(marks) < 2:
        marks = [(power, number(10.0**power, 3)) for power, _ in round_ticks(around.low, around.high)]
    x_axis = Axis.around("step", [0, *steps], margin=0.02)
    picture = plot(lines, x_axis, Axis("Tr(F)", around.low, around.high, marks), "Fisher trace over the steps")
    caption = "Log scale; each is an estimate from one batch."
    if reference:
        caption += " The two are compared where they are equally certain of their predictions, not at equal steps."
    said = caption if alarm is None else f"{caption} {alarm}"
    return figure("Fisher trace", picture, said, legend=lines if len(lines) > 1 else ())


def describe_recipe(recipe: Mapping[str, Any]) -> list[str]:
    """Say in words how a network is trained.

    Parameters
    ----------
    recipe
        By its fields, as `windvane.vision.Recipe.to_json` gives them.

    Returns
    -------
    list of str
        Sentences: the network, the schedule, the variation of images, regularisation.
    """
    size = recipe["image_size"]
    start = "random weights" if recipe["weights"] is None else f"the weights {recipe['weights']}"
    words = [f"{recipe['model']} from {start}, on images of {size} x {size} pixels, seed {recipe['seed']}."]
    length = next(
        (
            f"{recipe[name]:g} {unit}"
            for name, unit in (("epochs", "epochs"), ("steps", "steps"), ("time_budget", "seconds"))
            if recipe[name] is not None
        ),
        "no limit",
    )
    optimizer = {"adamw": "AdamW", "sgd": "SGD with momentum 0.9"}[recipe["optimizer"]]
    schedule = (
        f"{length} in batches of {recipe['batch_size']} by {optimizer}. The rate rises to {recipe['learning_rate']:g} "
        f"over the first {recipe['warmup_fraction']:.0%} of the run, then falls to zero along a cosine. "
        f"Weight decay {recipe['weight_decay']:g}."
    )
    words.append(
        schedule
        if recipe["grad_clip"] is None
        else f"{schedule} Gradients are clipped to a norm of {recipe['grad_clip']:g}."
    )
    crops = {
        "random_resized_crop": f"cropped to {recipe['min_crop_area']:.0%} or more of their area",
        "random_shift": "shifted by up to an eighth",
        "none": "not cropped",
    }
    varied = [
        f"AugReg level {recipe['augreg']}",
        crops[recipe["crop"]],
        *(["half of them mirrored"] if recipe["horizontal_flip"] else []),
    ]
    words.append(f"Images in training: {', '.join(varied)}.")
    rates = {"dropout": recipe["dropout"], "stochastic depth up to": recipe["drop_path"]}
    more = [
        " and ".join(f"{name} {rate:g}" for name, rate in rates.items() if rate) or "no dropout or stochastic depth"
    ]
    more += [f"label smoothing {recipe['label_smoothing']:g}"] if recipe["label_smoothing"] else []
    more += [f"moving average of the weights {recipe['ema_decay']:g}"] if recipe["ema_decay"] is not None else []
    penalty = recipe["fisher_penalty"]
    more += [f"Fisher Penalty {penalty:g}"] if penalty else []
    more += (
        [f"the first {recipe['freeze_fraction']:.0%} of the layers as they were"] if recipe["freeze_fraction"] else []
    )
    more += ["sigmoid loss"] if recipe["loss"] == "binary_cross_entropy" else []
    words.append(f"Regularization: {', '.join(more)}.")
    return words


# What it was trained on, and its use.


def _data(data: ImageSplits) -> Section:
    counts = np.bincount(np.asarray(data.train.labels), minlength=len(data.train.classes))
    order = np.argsort(-counts, kind="stable")
    entries = [
        (data.train.classes[i], float(counts[i]), f"{counts[i]:,} · {counts[i] / counts.sum():.1%}") for i in order
    ]
    if len(entries) > MOST_BARS:
        rest = int(counts[order[MOST_BARS:]].sum())
        entries = [*entries[:MOST_BARS], (f"{len(order) - MOST_BARS} more", -1.0, f"{rest:,}")]
    shown = figure("Training images of each class", bars(entries, label="Training images of each class"))
    return Section("Data", [bullet_list(data.summary().splitlines()), shown])


def _use(facts: RunFacts) -> Section:
    if facts.folder is None:
        return Section("Use it", [paragraph("The model was not kept: train(recipe, data, out='run') keeps it.")])
    place = str(facts.folder.absolute())
    lines = (
        "from windvane import vision\nfrom windvane.data.images.read import read_unlabelled\n\n"
        f"model = nn.open_model({place!r})\n"
        'nn.prediction_table(model, read_unlabelled("new_images/"))'
    )
    shell = f"windvane predict {place} new_images/ --out predictions.csv"
    return Section("Use it", [code(lines), code(shell)])


def _versions(facts: RunFacts) -> Section:
    rows = [[name, version] for name, version in facts.versions.items()]
    return Section("Versions", [table(["", ""], rows, label="Versions")])


NAME = "page.html"


def format_result(trained: TrainingResult, data: ImageSplits) -> str:
    """Write the page of a finished run, and say in a few lines how good it is and where it is kept.

    Parameters
    ----------
    trained, data
        As for `report`; the run kept a folder.

    Returns
    -------
    str
        Lines.
    """
    best = trained.best
    score = f"epoch {best.epoch:.1f}, validation accuracy {best.valid_accuracy:.4f}, loss {best.valid_loss:.4f}"
    return f"best: {score}\npage: {write_report(trained, data)}\nkept in {trained.folder}"


def write_report(trained: TrainingResult, data: ImageSplits, path: str | Path | None = None) -> Path:
    """Write the page of a finished run: scores, errors, examples, curves, recipe, data.

    Parameters
    ----------
    trained
        What came of it.
    data
        What it was trained on; test images, which chose nothing, give the page its headline.
    path
        A name that ends in .html; page.html in the folder of the run where it is not given. An earlier page of windvane
        is replaced.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    InputError
        Where there is neither a path nor a folder, or the path cannot be used, or the data have other classes.
    """
    if path is None and trained.folder is None:
        raise InputError("path is missing: the run kept no folder. Allowed: a name that ends in .html.")
    place = Path(path) if path is not None else Path(trained.folder or "") / NAME
    check_path(place)
    if data.train.classes != trained.model.classes:
        raise InputError(f"data has the classes {', '.join(data.train.classes)}, but the model has others.")
    judged = [
        EvaluatedImages(part, predict_proba(trained.model, part), chose)
        for part, chose in ((data.valid, True), (data.test, False))
        if part is not None and len(part)
    ]
    facts = RunFacts(
        recipe=trained.model.recipe.to_json(),
        history=pd.DataFrame([asdict(row) for row in trained.history]),
        best=trained.history.index(trained.best),
        data=data,
        judged=judged,
        n_parameters=count_parameters(trained.model.network),
        seconds=trained.seconds,
        versions=trained.versions,
        folder=trained.folder,
        fisher=trained.fisher,
        reference=trained.reference,
        notes=trained.notes,
        alarm=check_explosion(
            trained.fisher, trained.history[-1], trained.model.recipe.warmup_fraction, trained.reference
        ),
    )
    return write_run_page(facts, place)
