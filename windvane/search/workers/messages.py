"""Messages between a fit and its worker processes: one JSON object a line over the pipes of the process.

Objects of a user's session (an own metric, own families) travel in the same message as bytes of cloudpickle. They come
from the living session through a private pipe; nothing here ever reads an object from a file.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from windvane.evaluation.metrics import Metric
from windvane.models import FAMILIES
from windvane.models.base import Family
from windvane.search.trial import Trial


@dataclass(frozen=True)
class RunContext:
    """What a worker needs to know of a run."""

    root: Path  # the run directory
    objects: str = field(repr=False)  # of the session, from `pack_objects`


def open_message(context: RunContext, memory_limit: float) -> dict[str, Any]:
    """Return the message that opens a run; all workers together may use `memory_limit` megabytes."""
    return {"do": "open", "root": str(context.root), "memory": memory_limit, "objects": context.objects}


def train_message(trial: Trial, seconds: float) -> dict[str, Any]:
    """Return the message that trains a trial for some seconds; infinity for no clock."""
    return {"do": "train", "trial": trial.to_json(), "seconds": seconds}


def send(stream: IO[bytes], message: dict[str, Any]) -> None:
    """Write one message; floats may be infinite. Raises OSError if the other side is gone."""
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def receive(stream: IO[bytes]) -> dict[str, Any] | None:
    """Read one message; None if the other side is gone (a torn last line counts as gone)."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    message: dict[str, Any] = json.loads(line)
    return message


def session_objects(metric: Metric, families: Mapping[str, Family]) -> dict[str, Any]:
    """Return what workers cannot import by name: the metric and the user's own families."""
    return {"metric": metric, "families": {name: f for name, f in families.items() if FAMILIES.get(name) is not f}}


def pack_objects(objects: Any) -> str:
    """Turn objects of the session into text, classes and functions of ``__main__`` by value."""
    import cloudpickle

    return base64.b64encode(cloudpickle.dumps(objects)).decode()


def unpack_objects(text: str) -> Any:
    """Turn the text of `pack_objects` into objects; only for a message of the session that owns the worker."""
    import cloudpickle

    return cloudpickle.loads(base64.b64decode(text))
