"""The page of a run: honest about its figures, well formed, small, and there even where little is known."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from toys import HOSTILE_LABEL, check_html

from windvane.curvature.fisher_trace import FisherRecord
from windvane.data.images import ImageSplits, read_images
from windvane.pages.html_builder import write_page
from windvane.vision.recipe import Recipe
from windvane.vision.report import training_page
from windvane.vision.report.classification import EvaluatedImages
from windvane.vision.report.training_page import describe_recipe, make_page
from windvane.vision.saved_model import TrainedModel
from windvane.vision.training.run import TrainingResult
from windvane.vision.training.training_log import Evaluation

RECIPE = Recipe("vit_lite_7_4", image_size=32, epochs=50.0, augreg="light1", crop="random_shift")


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a page is made from."""

    result: TrainingResult
    data: ImageSplits
    evaluated: Sequence[EvaluatedImages]

    def but(self, **changes: Any) -> Facts:
        """The same with other evaluated images or data, or another field of the result."""
        own = {name: changes.pop(name) for name in ("data", "evaluated") if name in changes}
        return dataclasses.replace(self, result=dataclasses.replace(self.result, **changes), **own)


def history(n: int = 12) -> tuple[Evaluation, ...]:
    return tuple(
        Evaluation(
            step=round(100 * along),
            epoch=50 * along,
            progress=along,
            seconds=60 * along,
            learning_rate=1e-3 * math.sin(math.pi * along),
            images_per_second=812.0,
            train_loss=2 - along,
            train_accuracy=0.2 + 0.6 * along,
            valid_loss=2.1 - along,
            valid_accuracy=0.2 + 0.5 * along,
        )
        for along in np.linspace(0, 1, n).tolist()
    )


@pytest.fixture(scope="module")
def facts() -> Facts:
    digits = load_digits()
    names = np.array(["zero", HOSTILE_LABEL, *map(str, range(2, 10))])
    source = {"train": digits.images[:900], "valid": digits.images[900:1300], "test": digits.images[1300:]}
    labels = {"train": digits.target[:900], "valid": digits.target[900:1300], "test": digits.target[1300:]}
    data = read_images(source, labels={part: names[codes] for part, codes in labels.items()})
    assert data.valid is not None
    assert data.test is not None

    def flat(images: Any) -> Any:
        return images.load_array(8)[..., 0].reshape(len(images), -1) / 16

    model = LogisticRegression(C=0.01, max_iter=200).fit(flat(data.train), data.train.labels)
    evaluated = [
        EvaluatedImages(split, model.predict_proba(flat(split)), used_for_selection)
        for split, used_for_selection in ((data.valid, True), (data.test, False))
    ]
    trained = TrainedModel(torch.nn.Linear(64, 10), RECIPE, data.train.classes)
    result = TrainingResult(trained, history(), history()[10], 61.0, {"torch": "2.15"}, Path("runs/digits"))
    return Facts(result, data, evaluated)


def text_of(html: str) -> str:
    return re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.S)


def written(facts: Facts, folder: Path) -> str:
    page = make_page(facts.result, facts.data, facts.evaluated)
    html = write_page(page, folder / "page.html").read_text(encoding="utf-8")
    check_html(html)
    assert len(html) < 300_000
    assert "nan" not in text_of(html).lower().split()
    assert "<script" not in html
    return html


def test_a_test_score_comes_first(facts: Facts, tmp_path: Path) -> None:
    html = written(facts, tmp_path)
    entries = re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd><dd class=\"remark\">([^<]+)<", html)
    assert entries[0][:2] == ("Test accuracy", f"{facts.evaluated[1].accuracy:.1%}")
    assert "selected nothing" in entries[0][2]
    assert entries[1][0] == "Validation accuracy"
    assert "selected the model" in entries[1][2]
    assert re.findall(r"<h2>([^<]+)</h2>", html) == ["Errors", "Examples", "Training", "Data", "Use it", "Versions"]
    assert "497 test images" in html
    assert "digits" in re.findall(r"<h1>([^<]+)</h1>", html)[0]
    assert html.count("<img") > 12
    assert html.count("<svg") == 3
    assert "always predicting" in html


def test_without_test_images_the_page_says_what_is_missing(facts: Facts, tmp_path: Path) -> None:
    html = written(facts.but(evaluated=facts.evaluated[:1]), tmp_path)
    assert "Test accuracy" not in html
    assert "There is no unbiased score yet" in html
    assert "validation images, which also selected the model" in html


def test_little_is_known(facts: Facts, tmp_path: Path) -> None:
    blind = dataclasses.replace(history(1)[0], valid_loss=math.nan, valid_accuracy=math.nan)
    html = written(facts.but(evaluated=(), history=(blind,), best=blind, folder=None), tmp_path)
    assert re.findall(r"<h2>([^<]+)</h2>", html) == ["Training", "Data", "Use it", "Versions"]
    assert "The model was not saved" in html


def test_all_right_and_all_wrong(facts: Facts, tmp_path: Path) -> None:
    images = facts.evaluated[0].images
    sure = np.eye(len(images.classes))[images.labels]
    html = written(facts.but(evaluated=[EvaluatedImages(images, sure, used_for_selection=False)]), tmp_path)
    assert "None is wrong." in html
    assert "Most frequent confusions" not in html
    wrong = np.roll(sure, 1, axis=1)
    assert "None is correct." in written(
        facts.but(evaluated=[EvaluatedImages(images, wrong, used_for_selection=False)]), tmp_path
    )


def test_many_classes_have_no_matrix(facts: Facts, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (400, 6, 6), dtype=np.uint8)
    data = read_images(pixels, labels=[f"sign {i % 40}" for i in range(400)])
    assert data.valid is not None
    evaluated = EvaluatedImages(data.valid, rng.dirichlet(np.ones(40), len(data.valid)), used_for_selection=True)
    html = written(facts.but(data=data, evaluated=[evaluated]), tmp_path)
    assert "Confusion matrix" not in html
    assert "Most frequent confusions" in html
    assert "All 40 classes" in html
    assert "20 more" in html


def test_the_recipe_in_words() -> None:
    words = " ".join(describe_recipe(RECIPE))
    assert "vit_lite_7_4 from random weights, on images of 32 x 32 pixels, seed 0." in words
    assert (
        "50 epochs in batches of 128 by AdamW. The learning rate rises to 0.001 over the first 10% of the run" in words
    )
    assert "AugReg level light1, shifted by up to an eighth, half of them flipped" in words
    assert "no dropout or stochastic depth" in words
    other = Recipe(
        "tf_efficientnet_lite0",
        weights="efficientnet_lite0",
        optimizer="sgd",
        time_budget=300.0,
        grad_clip=None,
        fisher_penalty=0.01,
        dropout=0.1,
        drop_path=0.1,
        horizontal_flip=False,
        label_smoothing=0.1,
        ema_decay=0.999,
        loss="binary_cross_entropy",
    )
    words = " ".join(describe_recipe(other))
    for part in ("from the weights efficientnet_lite0", "300 seconds", "SGD with momentum 0.9", "5% or more"):
        assert part in words
    assert "dropout 0.1 and stochastic depth up to 0.1, label smoothing 0.1, moving average" in words
    assert "Fisher Penalty 0.01, binary cross-entropy" in words
    assert "flipped" not in words
    assert "Gradients" not in words


@pytest.mark.parametrize(
    ("traces", "labels"),
    [
        ([3.0, 40.0, 900.0, math.inf, 0.0, 2.0], ["10", "100"]),
        ([1.0, 4.0], ["1", "2"]),
        ([3.1, 3.2], ["3.16"]),
        ([7.0], []),
    ],
)
def test_a_trace_is_drawn_in_log_scale(facts: Facts, tmp_path: Path, traces: list[float], labels: list[str]) -> None:
    records = [FisherRecord(50 * i, trace, math.nan, "nothing", {}, 64, 1) for i, trace in enumerate(traces)]
    html = written(facts.but(fisher=records), tmp_path)
    assert html.count("<svg") == 4
    drawn = html[html.index('aria-label="Fisher trace over the steps"') :]
    for label in labels:
        assert f">{label}</text>" in drawn[: drawn.index("</svg>")]


def test_an_alarm_stands_below_the_trace(facts: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_page, "check_explosion", lambda *_: "Step 7: <high>")
    records = [FisherRecord(50 * i, 3.0, math.nan, "nothing", {}, 64, 1) for i in range(5)]
    html = written(facts.but(fisher=records), tmp_path)
    assert "from one batch. Step 7: &lt;high&gt;</p>" in html


def test_the_run_that_is_compared_to_is_drawn_too(facts: Facts, tmp_path: Path) -> None:
    records = [FisherRecord(50 * i, 3.0 + i, math.nan, "nothing", {}, 64, 1) for i in range(5)]
    alone, both = (
        written(facts.but(fisher=records, reference=reference), tmp_path)
        for reference in ([], [dataclasses.replace(one, trace=100.0) for one in records])
    )
    assert "reference" not in alone[alone.index("Fisher trace") :].partition("</figure>")[0]
    shown = both[both.index("Fisher trace") :].partition("</figure>")[0]
    assert "this run" in shown and "reference" in shown and ">100</text>" in shown


def test_a_page_needs_no_training(facts: Facts) -> None:
    assert make_page(facts.result, facts.data, facts.evaluated).title == "windvane: digits"
