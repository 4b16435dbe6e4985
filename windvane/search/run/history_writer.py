"""Brings checkpoints and the history to the disk beside the search.

A line of the history is written only after the disk holds the checkpoint that it names, and an earlier checkpoint is
deleted only then, so that a power cut at any instant leaves every trial that the history names. Syncing takes 10 to 100
milliseconds and would stop the search, so a thread does it, and several trials that end together are synced at once.
"""

from __future__ import annotations

import queue
import threading

from windvane.runtime.serialization import sync, sync_folder
from windvane.search.run.checkpoint import drop_earlier
from windvane.search.run.history import History
from windvane.search.run.run_directory import RunDirectory
from windvane.search.trial import Trial


class HistoryWriter:
    """Writes the history of one fit."""

    def __init__(self, directory: RunDirectory, history: History) -> None:
        self.directory, self.history = directory, history
        self.error: OSError | None = None  # why nothing more can be written
        self._queue: queue.SimpleQueue[tuple[Trial, bool] | None] = queue.SimpleQueue()
        self._unwritten: list[Trial] = []
        self._data_are_safe = False
        self._n_synced = 0  # checkpoints and lines of the history that the disk has
        self._thread = threading.Thread(target=self._run, daemon=True, name="windvane-history")
        self._thread.start()

    def put(self, trial: Trial, *, ended: bool) -> None:
        """Bring the checkpoint of a trial to the disk, and its record if it has ended; returns at once."""
        self._queue.put((trial, ended))

    def close(self, seconds: float) -> None:
        """Wait until all is written, or until nothing more was written for some seconds."""
        self._queue.put(None)
        before = -1
        while self._thread.is_alive() and self._n_synced > before:
            before = self._n_synced
            self._thread.join(seconds)
        if self._thread.is_alive():
            self.error = TimeoutError(f"the disk did not answer for {seconds:.0f} seconds")

    def _run(self) -> None:
        is_open = True
        while is_open:
            items = [self._queue.get()]
            while not self._queue.empty():
                items.append(self._queue.get())
            is_open = None not in items
            trials = [item for item in items if item is not None]
            self._unwritten += [trial for trial, ended in trials if ended]
            try:
                self._write([trial for trial, _ in trials])
            except OSError as error:
                self.error = error

    def _write(self, trials: list[Trial]) -> None:
        newest = {trial.number: trial.checkpoint for trial in trials if trial.checkpoint is not None}
        if newest and not self._data_are_safe:
            if self.directory.data.exists():  # deleted by hand, they end nothing
                sync_folder(self.directory.data)
            sync(self.directory.root)
            self._data_are_safe = True
        for number, name in newest.items():
            sync_folder(self.directory.checkpoint(number, name))
            sync(self.directory.trial(number))
            self._n_synced += 1
        if newest:
            sync(self.directory.trials)
        for number, name in newest.items():
            drop_earlier(self.directory.trial(number), name)
        if self._unwritten:
            self.history.write(self._unwritten)
            self._unwritten = []
        self._n_synced += 1
