"""The script that sets everything up, on machines that lack something."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.conftest import ROOT

OLD = "#!/bin/sh\nexit 1\n"
BARE = "#!/bin/sh\ncase $* in *ensurepip*) exit 1 ;; esac\nexit 0\n"
NO_PYTHON = "Python 3.11 or newer is missing. Run: sudo apt install python3 python3-venv   then: ./run demo"
NO_VENV = "Python's venv module is missing. Run: sudo apt install python3-venv   then: ./run demo"
NAMES = ("python3", "python3.11", "python3.12", "python3.13", "python3.14")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout on a machine that has neither Python nor uv: its ``bin`` is all there is."""
    (tmp_path / "bin").mkdir()
    for tool in ("cat", "cksum", "dirname", "sh"):
        found = shutil.which(tool)
        assert found
        (tmp_path / "bin" / tool).symlink_to(found)
    shutil.copy(ROOT / "run", tmp_path / "run")
    return tmp_path


def start(folder: Path, *words: str, path: str) -> subprocess.CompletedProcess[str]:
    """Runs the script of a checkout with nothing but this search path."""
    env = {**os.environ, "PATH": path}
    return subprocess.run(
        [str(folder / "run"), *words], env=env, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.parametrize(
    ("python", "sentence"),
    [(None, NO_PYTHON), (OLD, NO_PYTHON), (BARE, NO_VENV)],
    ids=["none", "old", "without venv"],
)
def test_a_machine_that_lacks_python_gets_one_line(bare: Path, python: str | None, sentence: str) -> None:
    """The remedy is one line that can be pasted, and the exit code is 3."""
    for name in NAMES if python else ():
        (bare / "bin" / name).write_text(python or "")
        (bare / "bin" / name).chmod(0o755)
    done = start(bare, "demo", path=str(bare / "bin"))
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"{sentence}\n")


def test_a_second_start_installs_nothing() -> None:
    """Once set up, a command starts at once: there is nothing to say and no network to ask."""
    usual = os.environ["PATH"]
    assert start(ROOT, "--version", path=usual).returncode == 0
    assert start(ROOT, "--version", path=usual).stderr == ""
