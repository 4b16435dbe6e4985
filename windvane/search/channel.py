"""Messages between a fit and its worker programs: one JSON object a line over the program's own pipes.

What a user's session lends (an own metric, own families) travels in the same message as bytes of cloudpickle. It
comes from the living session through a private pipe; nothing here ever reads an object from a file.
"""

from __future__ import annotations

import base64
import json
from typing import IO, Any


def send(stream: IO[bytes], message: dict[str, Any]) -> None:
    """Write one message.

    Parameters
    ----------
    stream
        The writing end of a pipe.
    message
        JSON values; floats may be infinite.

    Raises
    ------
    OSError
        Where the other side is gone.
    """
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def receive(stream: IO[bytes]) -> dict[str, Any] | None:
    """Read one message.

    Parameters
    ----------
    stream
        The reading end of a pipe.

    Returns
    -------
    dict or None
        The message; None where the other side is gone (a torn last line counts as gone).
    """
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    message: dict[str, Any] = json.loads(line)
    return message


def pack(objects: Any) -> str:
    """Turn objects of the session into text, classes and functions of ``__main__`` by value.

    Parameters
    ----------
    objects
        Anything that cloudpickle takes.

    Returns
    -------
    str
        Base64 text.
    """
    import cloudpickle

    return base64.b64encode(cloudpickle.dumps(objects)).decode()


def unpack(text: str) -> Any:
    """Turn text from `pack` into objects again; only ever called on a message of the session that owns the worker.

    Parameters
    ----------
    text
        What `pack` gave.

    Returns
    -------
    object
        The objects.
    """
    import cloudpickle

    return cloudpickle.loads(base64.b64decode(text))
