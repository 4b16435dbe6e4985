"""What pages on images show of each class, and of the images that are right or wrong with most confidence."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from windvane.pages.html_builder import Html, Section, figure, paragraph, table
from windvane.vision.report.classification import EvaluatedImages
from windvane.vision.report.gallery import gallery

SHOTS, SHOTS_PER_CLASS = 18, 3  # examples, and of one predicted class


def scores_by_class(one: EvaluatedImages) -> Html:
    """Table of recall, precision and F1 of each class, the hardest first."""

    def share(value: float) -> str:
        return "-" if np.isnan(value) else f"{value:.1%}"

    classes = one.images.classes
    precision, recall, f1, sizes = precision_recall_fscore_support(
        one.target, one.predicted, labels=range(len(classes)), zero_division=np.nan
    )
    rows = [
        [classes[i], int(sizes[i]), share(recall[i]), share(precision[i]), share(f1[i])] for i in np.argsort(recall)
    ]
    caption = (
        "Recall: share of the images of the class that are found. Precision: share of its predictions that hold. F1: "
        "their harmonic mean."
    )
    header = ["class", "images", "recall", "precision", "F1"]
    return figure("Each class, the hardest first", table(header, rows, label="Scores of each class"), caption)


def examples_section(one: EvaluatedImages) -> Section:
    """Images that are wrong, and images that are right, with most confidence."""
    content = []
    for correct, title in ((False, "Wrong, and most confident"), (True, "Correct, and most confident")):
        chosen = one.most_confident(correct=correct, n=SHOTS, per_class=SHOTS_PER_CLASS)
        if not chosen:
            content.append(paragraph("None is wrong." if not correct else "None is correct."))
            continue
        shots = [(one.images.decode(i), one.caption(i), one.images.names[i]) for i in chosen]
        content.append(figure(title, gallery(shots, label=title)))
    words = (
        "Below each image: the predicted class, its probability, and the label if that differs. At most "
        f"{SHOTS_PER_CLASS} of each predicted class are shown. Errors of high confidence are often wrong labels: look "
        "at them."
    )
    return Section("Examples", [paragraph(words), *content])
