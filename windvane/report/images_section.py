"""The sections of a report that only runs on images have: what was read, each class, examples."""

from __future__ import annotations

import numpy as np

from windvane.data.images import ImageDataset
from windvane.evaluation.predictions import Predictions
from windvane.pages.html_builder import Section, paragraph
from windvane.report.data_section import class_figure
from windvane.report.report_data import ReportData
from windvane.runtime.columns.table import PIXELS, FeatureView


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
    words = [f"{view.stop - view.start:,} features of {view.weights} at {view.size} pixels" for view in views]
    return " and ".join(words)


def examples_sections(data: ReportData, predictions: Predictions) -> list[Section]:
    """Scores of each class, and the images that are right or wrong with most confidence."""
    from windvane.vision.report.classification import EvaluatedImages
    from windvane.vision.report.examples import examples_section, scores_by_class

    images = predictions.table.images
    if images is None:
        return []
    places = images.rows[predictions.rows]
    known = data.directory.read_image_names() if data.directory is not None and not predictions.is_test else ()
    names = [known[row] if row < len(known) else f"image {row}" for row in predictions.rows.tolist()]
    pixels = tuple(images.pixels[place] for place in places.tolist())
    dataset = ImageDataset(pixels, predictions.target, tuple(data.labels), tuple(names))
    one = EvaluatedImages(dataset, np.asarray(predictions.prediction), not predictions.is_test)
    low, high = one.interval()
    text = f"{one.accuracy:.1%} of {len(dataset):,} images are right (95 % interval {low:.1%} to {high:.1%})."
    return [Section("Classes", [paragraph(text), scores_by_class(one)]), examples_section(one)]
