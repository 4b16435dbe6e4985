"""Output in a notebook: one display that is updated, nothing on the standard error stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from windvane.data.task import Task
from windvane.evaluation.metrics import get_metric
from windvane.pages.notebook import MAX_NOTES, NotebookOutput, is_notebook
from windvane.progress import Progress
from windvane.search.trial import Trial
from windvane.vision.training.training_log import ProgressLogger

pytest.importorskip("IPython", reason="IPython is not installed")

from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

RMSE = get_metric("rmse", Task("regression", 100, 2))


@pytest.fixture
def shell() -> Iterator[Any]:
    """A shell of IPython in this process, which has a kernel as those of notebooks have."""
    shell = InteractiveShell.instance()
    shell.display_pub = CapturingDisplayPublisher()
    yield shell
    InteractiveShell.clear_instance()


@pytest.fixture
def notebook(shell: Any) -> Any:
    shell.kernel = object()
    return shell


def texts(shell: Any) -> list[str]:
    return [output["data"]["text/plain"] for output in shell.display_pub.outputs]


def test_a_terminal_is_no_notebook(shell: Any) -> None:
    assert not is_notebook()
    shell.kernel = object()
    assert is_notebook()


def test_output_is_updated_in_place(notebook: Any) -> None:
    output = NotebookOutput()
    output.show("one")
    output.note("a note")
    output.show("two")
    assert texts(notebook) == ["one", "a note\none", "a note\ntwo"]
    assert [bool(one.get("update")) for one in notebook.display_pub.outputs] == [False, True, True]
    assert len({one["transient"]["display_id"] for one in notebook.display_pub.outputs}) == 1
    for number in range(30):
        output.note(str(number))
    assert texts(notebook)[-1].count("\n") == MAX_NOTES


def test_progress_of_a_search(notebook: Any, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with Progress(clock=lambda: now[0]) as progress:
        progress.start(60.0, 2, RMSE)
        progress.note("day is read as a date")
        for number in range(300):
            now[0] += 0.1
            progress.trial(replace(Trial(number, "linear", {}, "sampler", 0), loss=1.0, checkpoint="c", status="done"))
            progress.tick()
    assert capsys.readouterr() == ("", "")
    assert texts(notebook)[-1] == "day is read as a date\nwindvane: 300 trials in 30 s, best RMSE 1 (linear)"
    assert len(texts(notebook)) < 40, "about one update a second"
    with Progress(quiet=True) as progress:
        progress.start(60.0, 2, RMSE)
    assert len({one["transient"]["display_id"] for one in notebook.display_pub.outputs}) == 1


def test_progress_of_a_network(notebook: Any, capsys: pytest.CaptureFixture[str]) -> None:
    log = ProgressLogger()
    log.log("windvane: epoch 1")
    log.log("windvane: epoch 2")
    ProgressLogger(quiet=True).log("nothing")
    assert texts(notebook) == ["windvane: epoch 1", "windvane: epoch 1\nwindvane: epoch 2"]
    assert capsys.readouterr() == ("", "")
