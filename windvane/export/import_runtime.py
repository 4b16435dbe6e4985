"""How the program of an exported folder finds the code beside it; `write_program` copies it into each program."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def import_runtime(name: str) -> Any:
    """Import a module of the folder `runtime`, under a separate name: other exported folders have one, too."""
    package = f"runtime_{hashlib.sha256(str(HERE).encode()).hexdigest()[:16]}"
    if package not in sys.modules:
        places = [str(HERE / "runtime")]
        spec = importlib.util.spec_from_file_location(
            package, HERE / "runtime" / "__init__.py", submodule_search_locations=places
        )
        assert spec is not None and spec.loader is not None
        sys.modules[package] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[package])
    return importlib.import_module(f"{package}.{name}")
