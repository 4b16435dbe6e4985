from __future__ import annotations

import subprocess
import sys

from windvane.version import VERSION


def test_the_package_is_a_program() -> None:
    said = subprocess.run([sys.executable, "-m", "windvane", "--version"], check=True, capture_output=True, text=True)
    assert VERSION in said.stdout
