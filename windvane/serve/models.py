"""The models of the runs: opened when first asked for, and again when their files change."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

from windvane import automl
from windvane.errors import NoModelError
from windvane.report.build import build_report
from windvane.report.report_data import ReportData
from windvane.search.workers.background import in_background
from windvane.serve.runs import Network, Run, SearchSummary, Signature

T = TypeVar("T")
MAX_OPEN = 8  # models that stay in memory


class Models:
    """Open models and computed reports, by the name of their run."""

    def __init__(self) -> None:
        # Beside each model and report stands the signature of the files that it was made from.
        self._opened: OrderedDict[str, tuple[Signature, Any]] = OrderedDict()  # the most recently used one is last
        self._reports: dict[str, tuple[Signature, str]] = {}
        # Locks of asyncio: a request that waits for one takes no thread.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def use(self, run: Run, work: Callable[[Any], T]) -> T:
        """Call a function with the model of a run, in a thread; raises WindvaneError where it cannot be opened."""
        check_has_model(run)
        async with self._locks[run.name]:
            signature = run.signature  # before the model is read: a change in between opens it again
            opened = self._opened.get(run.name)
            if opened is None or opened[0] != signature:
                opened = signature, await _in_thread(lambda: open_model(run))
            self._opened[run.name] = opened
            self._opened.move_to_end(run.name)
            while len(self._opened) > MAX_OPEN:
                self._opened.popitem(last=False)
            model = opened[1]
            return await _in_thread(lambda: work(model))

    def known_report(self, run: Run) -> str | None:
        """Return the report of a run if it was computed from the files as they are."""
        found = self._reports.get(run.name)
        return found[1] if found is not None and found[0] == run.signature else None

    async def report(self, run: Run) -> str:
        """Compute the report of a run, with a second copy of its model, so that predictions need not wait."""
        check_has_model(run)
        async with self._locks[f"report/{run.name}"]:  # no run has a slash in its name
            known = self.known_report(run)
            if known is None:
                signature = run.signature
                known = await _in_thread(lambda: str(build_report(ReportData.of(open_model(run))).to_html()))
                self._reports[run.name] = (signature, known)
            return known


def _in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Call a function in a thread; the program ends when it has returned."""
    return asyncio.wrap_future(in_background(work, waits_at_exit=True))


def check_has_model(run: Run) -> None:
    """Raise NoModelError if a run has no model yet, or is not readable."""
    if isinstance(run.content, str):
        raise NoModelError(f"The run {run.name!r} cannot be read. {run.content}")
    if isinstance(run.content, SearchSummary) and run.content.ensemble is None:
        if run.status == "running":
            raise NoModelError(f"The run {run.name!r} is still searching; its model is there when the search ends.")
        if run.content.best is None:
            raise NoModelError(f"The run {run.name!r} ended before there was a model.")


def open_model(run: Run) -> Any:
    """Open the model of a run: an estimator, or a network."""
    if isinstance(run.content, Network):
        from windvane.vision.saved_model import load_model

        return load_model(run.folder)
    return automl.load(run.folder)
