"""A machine with a made-up NVIDIA driver, found by child processes before a real one; who is whose child."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.driver.nvml_library import CARD

DRIVER = Path(__file__).parent / "driver"
TWO_CARDS = [{**CARD, "uuid": "GPU-1"}, {**CARD, "uuid": "GPU-2", "gpu": 5}]


class Machine:
    """A machine whose driver says what the test wants: see ``tests/driver/nvml_library.py``."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.says(cards=TWO_CARDS)

    def says(self, **description: Any) -> None:
        """Changes what the driver says from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(description))
        new.rename(self._file)

    @property
    def hangs(self) -> bool:
        """Whether a child has made a call that does not return."""
        return self._file.with_suffix(".hung").exists()

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a child finds the driver."""
        return {"PYTHONPATH": str(DRIVER), "MADE_UP_DRIVER": str(self._file)}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A driver with two cards."""
    made = Machine(tmp_path / "driver.json")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


def children(parent: int = 0) -> list[int]:
    """Returns the children of a process, of this one unless told otherwise; zombies included."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == (parent or os.getpid()):
                found.append(int(entry.name))
    return found


def driver_readers(parent: int = 0) -> list[int]:
    """Returns those children that have become the program that asks the driver."""
    return [pid for pid in children(parent) if b"gpushare.edge.nvml" in _command(pid)]


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
