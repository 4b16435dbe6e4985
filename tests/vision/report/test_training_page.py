"""The page of a run: honest about its figures, well formed, small, and there even where little is known."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from toys import HOSTILE_LABEL, check_html

from windvane.curvature.fisher_trace import FisherRecord
from windvane.data.images import read_images
from windvane.errors import InputError
from windvane.vision.report.classification import EvaluatedImages
from windvane.vision.report.training_page import RunFacts, describe_recipe, duration, make_run_page, write_run_page

RECIPE = {
    "model": "vit_lite_7_4",
    "model_kwargs": {},
    "weights": None,
    "image_size": 32,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "epochs": 50.0,
    "steps": None,
    "time_budget": None,
    "batch_size": 128,
    "optimizer": "adamw",
    "learning_rate": 0.001,
    "warmup_fraction": 0.1,
    "weight_decay": 0.1,
    "grad_clip": 1.0,
    "augreg": "light1",
    "dropout": 0.0,
    "drop_path": 0.0,
    "crop": "random_shift",
    "min_crop_area": 0.05,
    "horizontal_flip": True,
    "freeze_fraction": 0.0,
    "loss": "cross_entropy",
    "label_smoothing": 0.0,
    "ema_decay": None,
    "fisher_penalty": None,
    "track_fisher": False,
    "fisher_reference": None,
    "precision": "auto",
    "compile": False,
    "seed": 0,
}


def history(n: int = 12) -> pd.DataFrame:
    along = np.linspace(0, 1, n)
    frame = {"step": 100 * along, "epoch": 50 * along, "progress": along, "seconds": 60 * along}
    frame |= {"learning_rate": 1e-3 * np.sin(np.pi * along), "images_per_second": np.full(n, 812.0)}
    frame |= {"train_loss": 2 - along, "train_accuracy": 0.2 + 0.6 * along}
    return pd.DataFrame(frame | {"valid_loss": 2.1 - along, "valid_accuracy": 0.2 + 0.5 * along})


@pytest.fixture(scope="module")
def facts() -> RunFacts:
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
    judged = [
        EvaluatedImages(part, model.predict_proba(flat(part)), chose)
        for part, chose in ((data.valid, True), (data.test, False))
    ]
    return RunFacts(RECIPE, history(), 10, data, judged, 3_700_000, 61.0, {"torch": "2.15"}, Path("runs/digits"))


def text_of(html: str) -> str:
    return re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.S)


def written(facts: RunFacts, folder: Path) -> str:
    html = write_run_page(facts, folder / "page.html").read_text(encoding="utf-8")
    check_html(html)
    assert len(html) < 300_000
    assert "nan" not in text_of(html).lower().split()
    assert "<script" not in html
    return html


def test_a_test_score_comes_first(facts: RunFacts, tmp_path: Path) -> None:
    html = written(facts, tmp_path)
    entries = re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd><dd class=\"remark\">([^<]+)<", html)
    assert entries[0][:2] == ("Test accuracy", f"{facts.judged[1].accuracy:.1%}")
    assert "chose nothing" in entries[0][2]
    assert entries[1][0] == "Validation accuracy"
    assert "chose the model" in entries[1][2]
    assert re.findall(r"<h2>([^<]+)</h2>", html) == ["Errors", "Examples", "Training", "Data", "Use it", "Versions"]
    assert "497 test images" in html
    assert "digits" in re.findall(r"<h1>([^<]+)</h1>", html)[0]
    assert html.count("<img") > 12
    assert html.count("<svg") == 3
    assert "always saying" in html


def test_without_test_images_the_page_says_what_is_missing(facts: RunFacts, tmp_path: Path) -> None:
    html = written(dataclasses.replace(facts, judged=facts.judged[:1]), tmp_path)
    assert "Test accuracy" not in html
    assert "There is no unbiased score yet" in html
    assert "validation images, which also chose the model" in html


def test_little_is_known(facts: RunFacts, tmp_path: Path) -> None:
    blind = history(1).assign(valid_loss=np.nan, valid_accuracy=np.nan)
    html = written(dataclasses.replace(facts, judged=(), history=blind, best=0, folder=None), tmp_path)
    assert re.findall(r"<h2>([^<]+)</h2>", html) == ["Training", "Data", "Use it", "Versions"]
    assert "The model was not kept" in html


def test_all_right_and_all_wrong(facts: RunFacts, tmp_path: Path) -> None:
    images = facts.judged[0].images
    sure = np.eye(len(images.classes))[images.labels]
    html = written(dataclasses.replace(facts, judged=[EvaluatedImages(images, sure, chose=False)]), tmp_path)
    assert "None is wrong." in html
    assert "Most frequent confusions" not in html
    wrong = np.roll(sure, 1, axis=1)
    assert "None is right." in written(
        dataclasses.replace(facts, judged=[EvaluatedImages(images, wrong, chose=False)]), tmp_path
    )


def test_many_classes_have_no_matrix(facts: RunFacts, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (400, 6, 6), dtype=np.uint8)
    data = read_images(pixels, labels=[f"sign {i % 40}" for i in range(400)])
    assert data.valid is not None
    judged = EvaluatedImages(data.valid, rng.dirichlet(np.ones(40), len(data.valid)), chose=True)
    html = written(dataclasses.replace(facts, data=data, judged=[judged]), tmp_path)
    assert "Confusion matrix" not in html
    assert "Most frequent confusions" in html
    assert "All 40 classes" in html
    assert "20 more" in html


def test_only_its_own_pages_are_replaced(facts: RunFacts, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(InputError, match="windvane did not write it"):
        write_run_page(facts, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "mine"


def test_the_recipe_in_words() -> None:
    words = " ".join(describe_recipe(RECIPE))
    assert "vit_lite_7_4 from random weights, on images of 32 x 32 pixels, seed 0." in words
    assert "50 epochs in batches of 128 by AdamW. The rate rises to 0.001 over the first 10% of the run" in words
    assert "AugReg level light1, shifted by up to an eighth, half of them mirrored" in words
    assert "no dropout or stochastic depth" in words
    other = {
        "weights": "efficientnet_lite0",
        "optimizer": "sgd",
        "epochs": None,
        "time_budget": 300.0,
        "grad_clip": None,
    }
    other |= {
        "fisher_penalty": 0.01,
        "dropout": 0.1,
        "drop_path": 0.1,
        "crop": "random_resized_crop",
        "horizontal_flip": False,
        "label_smoothing": 0.1,
        "ema_decay": 0.999,
    }
    words = " ".join(describe_recipe(RECIPE | other | {"loss": "binary_cross_entropy"}))
    for part in ("from the weights efficientnet_lite0", "300 seconds", "SGD with momentum 0.9", "5% or more"):
        assert part in words
    assert "dropout 0.1 and stochastic depth up to 0.1, label smoothing 0.1, moving average" in words
    assert "Fisher Penalty 0.01, sigmoid loss" in words
    assert "mirrored" not in words
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
def test_a_trace_is_drawn_in_log_scale(facts: RunFacts, tmp_path: Path, traces: list[float], labels: list[str]) -> None:
    records = [FisherRecord(50 * i, trace, math.nan, "nothing", {}, 64, 1) for i, trace in enumerate(traces)]
    html = written(dataclasses.replace(facts, fisher=records), tmp_path)
    assert html.count("<svg") == 4
    drawn = html[html.index('aria-label="Fisher trace over the steps"') :]
    for label in labels:
        assert f">{label}</text>" in drawn[: drawn.index("</svg>")]


def test_an_alarm_stands_below_the_trace(facts: RunFacts, tmp_path: Path) -> None:
    records = [FisherRecord(50 * i, 3.0, math.nan, "nothing", {}, 64, 1) for i in range(5)]
    html = written(dataclasses.replace(facts, fisher=records, alarm="Step 7: <high>"), tmp_path)
    assert "from one batch. Step 7: &lt;high&gt;</p>" in html


def test_the_run_that_is_compared_to_is_drawn_too(facts: RunFacts, tmp_path: Path) -> None:
    records = [FisherRecord(50 * i, 3.0 + i, math.nan, "nothing", {}, 64, 1) for i in range(5)]
    alone, both = (
        written(dataclasses.replace(facts, fisher=records, reference=reference), tmp_path)
        for reference in ([], [dataclasses.replace(one, trace=100.0) for one in records])
    )
    assert "reference" not in alone[alone.index("Fisher trace") :].partition("</figure>")[0]
    shown = both[both.index("Fisher trace") :].partition("</figure>")[0]
    assert "this run" in shown and "reference" in shown and ">100</text>" in shown


def test_duration() -> None:
    assert [duration(s) for s in (0.5, 61, 3725)] == ["0.50 s", "1.0 min", "1.0 h"]


def test_a_page_needs_no_training(facts: RunFacts) -> None:
    assert make_run_page(facts).title == "windvane: digits"
