"""Rows and run folders that the tests of the live view share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from toys import HOSTILE_NAME

from windvane.pages.html_builder import Page, write_page
from windvane.runtime.serialization import write_sealed

ORIGIN = "http://127.0.0.1:8321"
ROW = {"size": 1.5, "colour": "red", "day": "24.12.2025", "price": "1.234,5", HOSTILE_NAME: 0.5}


def rows(n: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    days = pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.integers(0, 365, n), unit="D")
    return pd.DataFrame(
        {
            "size": rng.normal(size=n).round(3),
            "colour": rng.choice(["red", "green", "blue"], n, p=[0.6, 0.3, 0.1]),
            "day": days.strftime("%d.%m.%Y"),
            "price": [f"{value:,.1f}".translate({44: ".", 46: ","}) for value in rng.uniform(1000, 3000, n)],
            HOSTILE_NAME: rng.normal(size=n),
        }
    )


def write_network(folder: Path) -> None:
    """Write what a training run shows, without its weights."""
    folder.mkdir()
    best = {"epoch": 2.0, "valid_accuracy": 0.75}
    content = {"format": 3, "kind": "image_model", "classes": ["cat", "dog"], "recipe": {"model": "vit"}, "best": best}
    write_sealed(folder / "manifest.json", content)
    frame = pd.DataFrame({"epoch": [0.0, 1.0, 2.0], "progress": [0.0, 0.25, 0.5], "seconds": [1.0, 30.0, 62.0]})
    frame = frame.assign(images_per_second=[np.nan, 100.0, 101.0], train_loss=[np.nan, 0.6, 0.5])
    frame = frame.assign(train_accuracy=[np.nan, 0.6, 0.7], valid_loss=[0.7, 0.6, 0.5], valid_accuracy=[0.5, 0.7, 0.75])
    frame.to_csv(folder / "metrics.csv", index=False, na_rep="nan")
    write_page(Page("windvane: network", [], []), folder / "page.html")
