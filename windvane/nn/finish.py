"""From a finished run to its page."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from windvane.data.images import Images
from windvane.errors import InputError
from windvane.nn.fisher import find_alarm
from windvane.nn.judged import Judged
from windvane.nn.networks import count_parameters
from windvane.nn.page import RunFacts, write_run_page
from windvane.nn.predict import predict_proba
from windvane.nn.run import Trained
from windvane.page import check_path

NAME = "page.html"


def describe_result(trained: Trained, data: Images) -> str:
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
    return f"best: {score}\npage: {report(trained, data)}\nkept in {trained.folder}"


def report(trained: Trained, data: Images, path: str | Path | None = None) -> Path:
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
        Judged(part, predict_proba(trained.model, part), chose)
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
        alarm=find_alarm(trained.fisher, trained.history[-1], trained.model.recipe.warmup, trained.reference),
    )
    return write_run_page(facts, place)
