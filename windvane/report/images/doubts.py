"""Labels that are probably wrong, and images that look the same, as tables with pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from windvane.data.images.duplicates import find_copies
from windvane.errors import some_of
from windvane.evaluation.predictions import Predictions
from windvane.pages.html_builder import Html, Section, figure, note, paragraph, table
from windvane.pages.texts import counted
from windvane.report.images.overview import evaluated_images, image_names
from windvane.report.report_data import ReportData
from windvane.runtime.images import Pixels
from windvane.search.problem import Problem

MAX_DOUBTS, MAX_COPIES = 12, 12  # rows of the tables
MAX_SHOWN = 3  # images of a cluster
MAX_COMPARED = 20_000  # images that are searched for copies
SIDE = 96  # of the pictures, in pixels
TEST = "test"


def doubts_section(data: ReportData) -> Section:
    predictions = data.validation or data.test
    content = [] if predictions is None else _doubtful_labels(data, predictions)
    if data.problem is not None:
        content += _copies(data)
    return Section("Labels and copies", content)


def _doubtful_labels(data: ReportData, predictions: Predictions) -> list[Html]:
    from windvane.vision.report.gallery import thumbnail

    one = evaluated_images(data, predictions)
    if one is None:
        return []
    rows = "test images" if predictions.is_test else "validation images"
    found = one.doubtful_labels()
    if not found:
        return [paragraph(f"No label of the {len(one.images):,} {rows} contradicts a confident prediction.")]
    words = (
        f"{len(found):,} of {len(one.images):,} labels of {rows} contradict a confident prediction of models that did "
        "not train on the image (confident learning). Such a label is wrong, the image is hard, or the model is: look "
        "before you change it."
    )
    cells = [
        [
            thumbnail(one.images.decode(i), one.images.names[i], SIDE),
            one.images.names[i],
            one.images.classes[one.target[i]],
            one.images.classes[j],
            f"{one.probabilities[i, j]:.0%}",
            f"{one.probabilities[i, one.target[i]]:.0%}",
        ]
        for i, j in found[:MAX_DOUBTS]
    ]
    header = ["", "image", "label", "looks like", "with probability", "that of its label"]
    title = "Labels to check, the surest first"
    caption = f"{len(cells)} of {len(found):,}." if len(found) > len(cells) else ""
    return [paragraph(words), figure(title, table(header, cells, label=title), caption)]


def _copies(data: ReportData) -> list[Html]:
    """The training images that look the same, and the test images that look like one of them."""
    problem, test = data.problem, data.test
    assert problem is not None
    target, uses = problem.target, _uses(problem)
    names = image_names(data, np.arange(problem.task.n_rows), is_test=False)
    columns = [problem.table.images]
    if test is not None:
        target, uses = np.append(target, test.target), np.append(uses, np.full(len(test), TEST))
        names += image_names(data, test.rows, is_test=True)
        columns.append(test.table.take(test.rows).images)
    pixels = [image for column in columns if column is not None for image in column.each()][:MAX_COMPARED]
    clusters, _ = find_copies(pixels)
    if not clusters:
        return [paragraph(f"No two of {len(pixels):,} images look the same.")]
    differ = [len(np.unique(target[cluster])) > 1 for cluster in clusters]
    words = (
        f"{sum(map(len, clusters)):,} of {len(pixels):,} images look like another one, in "
        f"{counted(len(clusters), 'group')} (difference hash)"
    )
    words += f"; the labels of {sum(differ):,} of these groups differ." if any(differ) else "; no labels differ."
    content = [paragraph(words)]
    n_leaked = sum(int((uses[one] == TEST).sum()) for one in clusters if (uses[one] != TEST).any())
    if n_leaked:
        images = "images look" if n_leaked > 1 else "image looks"
        leak = f"{n_leaked:,} test {images} like training images, so the test score is optimistic."
        content.insert(0, note(leak, "warn"))
    shown = sorted(range(len(clusters)), key=lambda i: (not differ[i], i))[:MAX_COPIES]
    labels = [data.labels[code] for code in target]
    rows = [_row(clusters[i], pixels, names, labels, uses) for i in shown]
    title = "Images that look the same"
    more = len(clusters) > len(rows)
    caption = f"{len(rows)} of {len(clusters):,} groups, those with different labels first." if more else ""
    return [*content, figure(title, table(["", "images", "labels", "used to"], rows, label=title), caption)]


def _row(
    cluster: Sequence[int],
    pixels: Sequence[Pixels],
    names: Sequence[str],
    labels: Sequence[str],
    uses: NDArray[np.str_],
) -> list[object]:
    from windvane.vision.report.gallery import thumbnail

    return [
        Html("".join(thumbnail(pixels[i], names[i], SIDE) for i in cluster[:MAX_SHOWN])),
        some_of([names[i] for i in cluster], MAX_SHOWN),
        ", ".join(sorted({labels[i] for i in cluster})),
        " and ".join(sorted({str(uses[i]) for i in cluster})),
    ]


def _uses(problem: Problem) -> NDArray[np.str_]:  # (n,)
    """What each image of a run is used for."""
    if len(problem.folds) > 1:
        return np.full(problem.task.n_rows, "train and validate")
    uses = np.full(problem.task.n_rows, "train", dtype="<U18")
    uses[problem.folds[0].validation] = "validate"
    return uses
