"""The server: an address of this machine, a port that is free, and an end by Ctrl-C."""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import quote

import uvicorn

from windvane.errors import InputError
from windvane.search.workers.background import wait_for_background
from windvane.serve.app import create_app
from windvane.stop_signals import StopRequest, stop_on_signal

PORT = 8321
N_PORTS = 20  # that are tried if none is given
MIN_TOKEN = 8  # characters
GRACE_SECONDS = 1  # for requests in progress when the server ends


def serve(
    root: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    ready: Callable[[str], object] = print,
) -> None:
    """Serve a run or a folder of runs until Ctrl-C; a second one ends the process at once.

    `ready` is called with the address when it answers. Other machines need a token: one is made if none is given.
    Raises InputError if the folder does not exist, or the address or the port cannot be used.
    """
    if not root.is_dir():
        raise InputError(f"{str(root)!r} is not a folder. Allowed: the directory of a run, or a folder of these.")
    if token is not None and (len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable()):
        raise InputError(f"The token is not usable. Allowed: {MIN_TOKEN} or more letters, digits and signs.")
    listener = listen(host, port)
    with listener:
        name, number = listener.getsockname()[:2]
        if token is None and not ipaddress.ip_address(name.partition("%")[0]).is_loopback:
            token = secrets.token_urlsafe(24)
        config = uvicorn.Config(
            create_app(root, token),
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        stop = _ServerStop(_Server(config))
        with stop_on_signal(stop=stop):
            ready(address(name, number, token))
            stop.server.run(sockets=[listener])
            wait_for_background()
    if stop.number == signal.SIGTERM:
        signal.raise_signal(signal.SIGTERM)


class _Server(uvicorn.Server):
    """A server that leaves signals to `_ServerStop`."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _ServerStop(StopRequest):
    """The first signal ends the server, which waits for networks that compute; the second one ends the process."""

    def __init__(self, server: _Server) -> None:
        super().__init__()
        self.server, self.number = server, 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:  # Python would wait for threads, and abort the networks in them if it were interrupted
            os._exit(128 + number)
        self.requested = self.server.should_exit = True
        self.number = number
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # requests that the end cuts off are no errors


def listen(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens; without a port the first free one from `PORT` on."""
    if port is not None and not 0 <= port < 2**16:
        raise InputError(f"port={port} is not usable. Allowed: a number from 0 to 65535; 0 for any free one.")
    try:
        family, _, _, _, found = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"host={host!r} is no address of this machine. Allowed: such as 127.0.0.1, 0.0.0.0."
        ) from error
    failure: OSError | None = None
    for one in range(PORT, PORT + N_PORTS) if port is None else [port]:
        listener = socket.socket(family)
        try:
            if os.name == "posix":  # on Windows it would take over a port in use
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((found[0], one, *found[2:]))
            listener.listen(128)
            return listener
        except OSError as error:
            listener.close()
            failure = error
    tried = f"The ports {PORT} to {PORT + N_PORTS - 1} are" if port is None else f"Port {port} is"
    reason = failure.strerror if failure is not None else ""
    raise InputError(f"{tried} not free on {host} ({reason}). Allowed: another one, as in --port 9000.") from failure


def address(host: str, port: int, token: str | None) -> str:
    """Return the address to open; if the server listens on all addresses, with the name of this machine."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?token={quote(token, safe='')}" if token is not None else "")
