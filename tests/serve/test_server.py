"""The server process: addresses, ports, the end by Ctrl-C; and the pages in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser
from served import ROW
from shell import shell

from windvane.errors import InputError
from windvane.serve import server

# Opening a model takes five seconds in the C++ code of torch.
BUSY = """
import sys
import time
from pathlib import Path

import torch

from windvane.serve import models, server

def open_model(run):
    print("busy", flush=True)
    end, rows = time.monotonic() + 5, torch.randn(300, 300)
    while time.monotonic() < end:
        rows @ rows

models.open_model = open_model
server.serve(Path(sys.argv[1]), port=0, ready=lambda url: print(url, flush=True))
"""


@contextmanager
def serving(*words: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start ``windvane serve`` and return its process and the address that it prints."""
    with starting("-m", "windvane", "serve", *words) as started:
        yield started


@contextmanager
def starting(*words: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start Python and return its process and the first line that it prints."""
    command = [sys.executable, *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def test_next_free_port() -> None:
    with server.listen("127.0.0.1", None) as first, server.listen("127.0.0.1", None) as second:
        ports = first.getsockname()[1], second.getsockname()[1]
        assert server.PORT <= ports[0] < ports[1] < server.PORT + server.N_PORTS
        with pytest.raises(InputError, match=f"Port {ports[0]} is not free on 127.0.0.1 .* as in --port 9000"):
            server.listen("127.0.0.1", ports[0])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"port": 70_000}, "port=70000 is not usable"),
        ({"host": "no.such.host.invalid"}, "host='no.such.host.invalid' is no address of this machine"),
        ({"host": "192.0.2.1"}, "not free on 192.0.2.1"),
        ({"token": "short"}, "8 or more"),
        ({"token": "a\nlong line"}, "8 or more"),
        ({"root": Path("no such folder")}, "'no such folder' is not a folder"),
    ],
)
def test_bad_arguments(tmp_path: Path, given: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        server.serve(**{"root": tmp_path, **given})


@pytest.mark.parametrize(
    ("host", "port", "token", "url"),
    [
        ("127.0.0.1", 1, None, "http://127.0.0.1:1/"),
        ("::1", 1, None, "http://[::1]:1/"),
        ("10.0.0.1", 80, "abc", "http://10.0.0.1:80/?token=abc"),
        ("0.0.0.0", 80, "a b&c", f"http://{socket.gethostname()}:80/?token=a%20b%26c"),
    ],
)
def test_printed_address(host: str, port: int, token: str | None, url: str) -> None:
    assert server.address(host, port, token) == url


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    done = shell("serve", tmp_path)
    assert (done.exit_code, done.stderr) == (
        2,
        "windvane: windvane serve needs starlette and uvicorn: pip install windvane[serve]\n",
    )


def test_other_machines_need_a_token(folder: Path) -> None:
    with serving(folder, "--host", "0.0.0.0", "--port", 0) as (process, url):
        assert re.fullmatch(r"http://\S+:\d+/\?token=\S{32}", url)
        local = re.sub(r"//[^/]*:", "//127.0.0.1:", url)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(local.partition("?")[0])
        health = local.replace("?", "health?")
        request = urllib.request.Request(health.partition("?")[0], headers={"Authorization": f"Bearer {url[-32:]}"})
        assert b'"status":"ok"' in urllib.request.urlopen(request).read()
        process.send_signal(signal.SIGINT)
        assert (process.wait(60), process.stderr and process.stderr.read()) == (0, "")


@contextmanager
def computing(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a server whose model computes for a request."""
    with starting("-c", BUSY, folder) as (process, url):
        connection = HTTPConnection(url.removeprefix("http://").rstrip("/"))
        connection.request("POST", "/predict?run=classes", b"{}", {"Content-Type": "application/json"})
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        yield process
        connection.close()


def test_networks_that_compute_at_the_end_are_waited_for(folder: Path) -> None:
    with computing(folder) as process:
        process.send_signal(signal.SIGINT)
        assert (process.wait(60), process.stderr and process.stderr.read()) == (0, "")


@pytest.mark.parametrize("seconds", [0.3, server.GRACE_SECONDS + 1.0])  # while requests, and while threads end
def test_a_second_ctrl_c_ends_the_process_at_once(seconds: float, folder: Path) -> None:
    with computing(folder) as process:
        process.send_signal(signal.SIGINT)
        time.sleep(seconds)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert (process.wait(2), process.stderr and process.stderr.read()) == (130, "")


def test_sigterm_has_its_exit_status(folder: Path) -> None:
    with serving(folder, "--port", 0) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert (process.wait(60), process.stderr and process.stderr.read()) == (143, "")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_in_a_browser(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "running", tmp_path / "runs" / "running")
    shutil.copytree(folder / "classes", tmp_path / "runs" / "classes")
    (tmp_path / "runs" / "running" / "lock").write_text(str(os.getpid()))
    history = tmp_path / "runs" / "running" / "history.jsonl"
    line = history.read_text()
    history.write_text("")
    with serving(tmp_path / "runs", "--port", 0) as (process, url), Browser(tmp_path / "profile") as browser:
        browser.open(url)
        assert browser.run("[...document.querySelectorAll('td a')].map(one => one.textContent)") == [
            "running",
            "classes",
        ]

        browser.open(f"{url}runs/running")
        assert "no model yet" in browser.run("document.body.innerText")
        browser.run("window.notReloaded = true")
        history.write_text(line)
        browser.wait("document.body.innerText.includes('of the best trial, linear #0')")
        assert browser.run("window.notReloaded")

        browser.open(f"{url}runs/classes/predict")
        for width in (1200, 400):
            browser.show(width)
            assert browser.run("document.documentElement.scrollWidth") <= width, "nothing stands beyond the window"
        field = "document.querySelector('[data-column=size]')"
        browser.run(f"{field}.value = 'wide'")
        browser.run("document.querySelector('button').click()")
        browser.wait("document.getElementById('result').innerText.includes('1 field cannot be read')")
        assert "'wide'" in browser.run(f"{field}.parentElement.querySelector('.error').innerText")
        assert browser.run(f"document.activeElement === {field}")
        browser.run(f"{field}.value = '{ROW['size']}'")
        browser.run("document.querySelector('button').click()")
        browser.wait("document.getElementById('result').innerText.includes('Probability of each class')")
        assert browser.run(f"{field}.parentElement.querySelector('.error').innerText") == ""

        browser.open(f"{url}runs/classes/report")
        browser.wait("document.body.innerText.includes('Versions and settings')")
        expected = [one for one in browser.complaints if "400 (Bad Request)" not in one and "favicon" not in one]
        assert not expected
        process.send_signal(signal.SIGINT)
        assert (process.wait(60), process.stderr and process.stderr.read()) == (0, "")
