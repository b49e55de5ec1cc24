"""A command runs in this process, in an empty home, with what it said on stdout and stderr."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from gpushare.cli import main


class Ran(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, with nothing of gpushare in the environment."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "STATE_DIRECTORY", "GPUSHARE_URL", "GPUSHARE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    # Named, so that a configuration in /etc of the machine under test is never read.
    config = tmp_path / ".config/gpushare/config.toml"
    monkeypatch.setenv("GPUSHARE_CONFIG", str(config))
    config.parent.mkdir(parents=True)
    config.touch()
    return tmp_path


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``gpushare`` with these arguments."""

    def run_one(*args: str) -> Ran:
        capsys.readouterr()
        code = main(args)
        said = capsys.readouterr()
        return Ran(int(code), said.out, said.err)

    return run_one
