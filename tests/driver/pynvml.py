"""The real ``pynvml`` over a made-up library; a child finds it first when this folder is in PYTHONPATH.

The library's description is the JSON file that ``$MADE_UP_DRIVER`` names, read at every call; a file beside
it appears when a call hangs.
"""

import importlib.util
import json
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DESCRIPTION = Path(os.environ["MADE_UP_DRIVER"])


def load(name: str, spec: Any) -> Any:
    """Returns a module made from a spec, under a name that this file does not have."""
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def describe() -> Any:
    """Returns what the library says now."""
    return json.loads(DESCRIPTION.read_text())


def tell_of_hang() -> None:
    """Lets the test know that a call will not return."""
    DESCRIPTION.with_suffix(".hung").touch()


elsewhere = [entry for entry in sys.path if Path(entry).resolve() != HERE]
real = load("pynvml", PathFinder.find_spec("pynvml", elsewhere))
library = load(
    "nvml_library", importlib.util.spec_from_file_location("nvml_library", HERE / "nvml_library.py")
)
real.nvmlLib = library.Library(describe, tell_of_hang)
