"""Every trial on disk: append-only JSON lines.

A line is a `Trial`; a later line with the same number replaces an earlier one (a trial that went on). A line torn
by a kill is skipped, wherever it stands, and the next line starts on a line of its own.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from windvane.search.trial import Trial


class History:
    """The trials of a run, in memory and in one file.

    Parameters
    ----------
    path
        The file; made with the first trial. What it holds already is read.

    Attributes
    ----------
    records
        Every line in the order of writing; a trial that went on has several.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Trial] = []
        self._whole = True  # whether the file ends with a line break
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            self._whole = text.endswith("\n") or not text
            for line in text.splitlines():
                try:
                    trial = Trial.from_json(json.loads(line))
                except (ValueError, TypeError, KeyError):
                    continue  # torn by a kill
                self.records.append(trial)

    @property
    def trials(self) -> list[Trial]:
        """The last record of every trial, in the order of their numbers."""
        latest = {trial.number: trial for trial in self.records}
        return [latest[number] for number in sorted(latest)]

    def append(self, trial: Trial) -> None:
        """Add a trial, or replace the one of the same number.

        Parameters
        ----------
        trial
            What came of it.

        Raises
        ------
        OSError
            Where the file cannot be written; the trial is known in memory all the same.
        """
        self.records.append(trial)
        line = json.dumps(trial.to_json()) + "\n"
        if not self._whole:
            line = "\n" + line
        self._whole = False  # until the line is safe
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._whole = True
