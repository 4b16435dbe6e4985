"""Rows that a run does not see, kept with it so that whatever ensemble it has later is scored on them.

::

    test/
      score.json        the score, of which ensemble; hashes of the files below
      matrix.npy ...    the typed table, as in data/
      target.npy
      names.json        names of images
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from windvane.data.table_io import read_table, write_table
from windvane.errors import ModelFileError
from windvane.evaluation.predictions import Predictions
from windvane.persistence import Predictor
from windvane.runtime.ensemble import Ensemble
from windvane.runtime.serialization import check_files, file_digests, read_sealed, reading, write_sealed, writing
from windvane.search.run.replace_folder import replace_folder
from windvane.search.run.run_directory import read_names

_SCORE, _NAMES = "score.json", "names.json"
_SAFE = "The model and its test score are in memory all the same."  # where the disk is full


def write_test_rows(folder: Path, predictions: Predictions, score: float, *, keep: bool, names: Sequence[str]) -> None:
    """Write the score of predictions of test rows, and, to `keep` them, the rows; an earlier folder is replaced."""
    with replace_folder(folder, f"{folder.name}.tmp", _SAFE) as temporary:
        if keep:
            write_table(predictions.table, temporary)
            np.save(temporary / "target.npy", predictions.target)
            (temporary / _NAMES).write_text(json.dumps(list(names)), encoding="utf-8")
        _write_score(temporary, predictions.ensemble, score)


def update_test_score(folder: Path, ensemble: Ensemble, score: float) -> None:
    """Write the score of another ensemble on the same rows."""
    with writing(folder, _SAFE):
        _write_score(folder, ensemble, score)


def read_test_score(folder: Path, ensemble: Ensemble) -> float | None:
    """Read the score of an ensemble (higher is better); None if it is damaged or that of another ensemble."""
    try:
        record = read_sealed(folder / _SCORE)
        with reading(folder / _SCORE):
            return float(record["score"]) if Ensemble.from_json(record["ensemble"]) == ensemble else None
    except ModelFileError:
        return None


def read_test_rows(folder: Path, predictor: Predictor) -> Predictions | None:
    """Predict the rows that were kept; None if none were, or a file is damaged."""
    if not (folder / "target.npy").exists():
        return None
    try:
        check_files(folder, read_sealed(folder / _SCORE).get("files"), (_SCORE,))
        with reading(folder):
            table, target = read_table(folder), np.load(folder / "target.npy")
            return Predictions.of_table(predictor, table, target)
    except ModelFileError:
        return None


def read_test_names(folder: Path) -> tuple[str, ...]:
    """Read the names of the images that were kept; empty without any."""
    return read_names(folder / _NAMES)


def _write_score(folder: Path, ensemble: Ensemble, score: float) -> None:
    content: dict[str, Any] = {"score": score, "ensemble": ensemble.to_json()}
    write_sealed(folder / _SCORE, {**content, "files": file_digests(folder, (_SCORE,))})
