"""How images were read, and the images that are right or wrong with most confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from windvane.data.images import ImageDataset
from windvane.evaluation.predictions import Predictions
from windvane.pages.html_builder import Section, paragraph
from windvane.report.data_section import class_figure
from windvane.report.report_data import ReportData
from windvane.runtime.columns.table import PIXELS, FeatureView, Integers

if TYPE_CHECKING:
    from windvane.vision.report.classification import EvaluatedImages

TOP = 5  # most probable classes, among which the true one may be


def images_section(data: ReportData) -> Section:
    """How many images there are, how they are read, and the size of each class."""
    reader, problem = data.predictor.images, data.problem
    assert reader is not None
    text = (
        f"{data.task.n_rows:,} images of {data.task.n_classes:,} classes, kept at {reader.size} x {reader.size} pixels."
    )
    content = [paragraph(text), paragraph(f"The models of tables read {describe_views(reader.views)}.")]
    if problem is not None:
        content.append(class_figure(problem.target, data.labels, "Images of each class"))
    return Section("Images", content)


def describe_views(views: tuple[FeatureView, ...]) -> str:
    """Describe in words what the columns of the table are."""
    if views[0].weights == PIXELS:
        return f"the pixels of copies of {views[0].size} x {views[0].size} pixels, as there are no pretrained weights"
    words = [f"{view.stop - view.start:,} of {view.weights} at {view.size} pixels" for view in views]
    return f"principal components of what the blocks of frozen networks see: {', '.join(words)}"


def evaluated_images(data: ReportData, predictions: Predictions) -> EvaluatedImages | None:
    """Return the images of predictions with their labels and probabilities; None where there are no pixels."""
    from windvane.vision.report.classification import EvaluatedImages

    images = predictions.table.images
    if images is None:
        return None
    pixels = tuple(images.pixels[place] for place in images.rows[predictions.rows].tolist())
    names = image_names(data, predictions.rows, is_test=predictions.is_test)
    dataset = ImageDataset(pixels, predictions.target, tuple(data.labels), tuple(names))
    return EvaluatedImages(dataset, np.asarray(predictions.prediction), not predictions.is_test)


def image_names(data: ReportData, rows: Integers, *, is_test: bool) -> list[str]:
    """Return the names of images by their row; numbers where they are unknown."""
    known = data.test_names if is_test else data.image_names
    return [known[row] if row < len(known) else f"image {row}" for row in rows.tolist()]


def examples_section(one: EvaluatedImages) -> Section:
    """The accuracy, and the images that are wrong or right with most confidence."""
    from windvane.vision.report.example_images import examples_section as examples

    low, high = one.interval()
    text = f"{one.accuracy:.1%} of {len(one.images):,} images are right (95 % interval {low:.1%} to {high:.1%})."
    if len(one.images.classes) > TOP:
        text += f" The true class is among the {TOP} most probable ones for {one.top_accuracy(TOP):.1%}."
    shown = examples(one)
    return Section(shown.title, [paragraph(text), *shown.content])
