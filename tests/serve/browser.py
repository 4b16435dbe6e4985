"""A headless Chromium that tests lead through a page, over its own pipe: no driver and no port."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# Chromium reads from the file number 3 and writes to 4.
LAUNCHER = """import os, sys
os.dup2(int(sys.argv[1]), 98), os.dup2(int(sys.argv[2]), 99), os.dup2(98, 3), os.dup2(99, 4)
os.execv(sys.argv[3], sys.argv[3:])"""


class Browser:
    """One tab. `profile` is a folder of its own; `complaints` are what pages wrote to the console."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        reading, theirs = os.pipe()
        mine, writing = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        command = [CHROMIUM, *options, "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(mine), str(theirs), *command],
            pass_fds=(mine, theirs),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(mine)
        os.close(theirs)
        self._reading, self._writing, self._number, self._rest = reading, writing, 0, b""
        self.complaints: list[str] = []
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._reading)
        os.close(self._writing)

    def send(self, method: str, **values: Any) -> Any:
        """Send a command of the DevTools protocol to the tab and return its result."""
        return self._send(method, self._session, **values)

    def open(self, url: str) -> None:
        """Go to an address."""
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 120) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"{script} is still false: {self.run('document.body.innerText')}"
            time.sleep(0.1)

    def show(self, width: int, scheme: str = "light") -> None:
        """Set the width of the window in pixels, and light or dark."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path: Path) -> None:
        """Write a picture of the whole page."""
        picture = self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(picture))

    def _send(self, method: str, session: str | None = None, **values: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": values}
        message |= {} if session is None else {"sessionId": session}
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 120
        while True:
            answer = self._receive(end)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self, end: float) -> Any:
        while b"\0" not in self._rest:
            assert select.select([self._reading], [], [], max(0.0, end - time.monotonic()))[0], "Chromium is silent"
            part = os.read(self._reading, 65536)
            assert part, "Chromium has ended"
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(text)
        if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
            self.complaints.append(json.dumps(message["params"]))
        return message
