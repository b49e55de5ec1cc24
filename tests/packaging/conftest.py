"""The built distributions, and fresh environments to install them in."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import nothing_left

__all__ = ["nothing_left"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment of its own."""

    path: Path

    def program(self, name: str) -> str:
        """Returns the path of an installed command."""
        return str(self.path / "bin" / name)

    def run(self, name: str, *words: str | Path) -> str:
        """Runs an installed command away from the repository and returns what it printed.

        Raises:
            AssertionError: it failed; the message is its output.
        """
        done = execute([self.program(name), *map(str, words)], cwd=self.path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def execute(words: Sequence[str], *, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, without the paths that would let it find the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(words, cwd=cwd, env=kept, capture_output=True, text=True, check=False)


def make_environment(path: Path) -> Environment:
    """Makes a virtual environment with pip in it."""
    done = execute([sys.executable, "-m", "venv", str(path)], cwd=path.parent)
    if done.returncode:
        pytest.skip(
            f"this Python makes no environments: {(done.stdout + done.stderr).strip().splitlines()[-1]}"
        )
    return Environment(path)


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pinned packages as files: installing from them needs no network and proves the list complete."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    pip = make_environment(tmp_path_factory.mktemp("pip") / "venv").program("pip")
    pinned = str(ROOT / "requirements" / "run.txt")
    done = execute([pip, "download", "-q", "--require-hashes", "-r", pinned, "-d", str(folder)], cwd=folder)
    if done.returncode:
        pytest.skip(f"the package index cannot be reached: {done.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What can be installed: the built wheel, the built sdist and the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", str(folder)]
    done = execute(build, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist, "editable": ROOT}


@pytest.fixture(scope="session", params=["wheel", "sdist", "editable"])
def form(request: pytest.FixtureRequest) -> str:
    """Each way of installing in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def installed(
    form: str, wheelhouse: Path, distributions: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """A fresh environment that holds the product and what it says it depends on."""
    environment = make_environment(tmp_path_factory.mktemp(form) / "venv")
    what = ["-e"] if form == "editable" else []
    offline = ["--no-index", "--find-links", str(wheelhouse)]
    environment.run("pip", "install", "-q", "--no-compile", *offline, *what, distributions[form])
    return environment
