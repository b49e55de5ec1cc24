import base64
from pathlib import Path

import pytest

from gpushare.cli.clipboard import copy


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, the only one; neither X nor Wayland runs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def program(folder: Path, name: str, script: str) -> None:
    """Makes a program."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)


def test_the_program_of_the_desktop_gets_the_text(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is; one whose desktop does not run is not tried, one that fails gives way to the next."""
    program(programs, "wl-copy", "exit 7")
    program(programs, "xclip", "exit 1")
    program(programs, "xsel", f"/bin/cat > {programs}/copied")
    monkeypatch.setenv("DISPLAY", ":0")
    assert copy("a\u00e9\n b") == "xsel"
    assert (programs / "copied").read_text() == "a\u00e9\n b"


@pytest.mark.usefixtures("programs")
def test_a_terminal_is_asked_by_its_own_sequence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which reaches the desk of whoever came by ssh."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert copy("x y") == "the terminal"
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"\x1b]52;c;{base64.b64encode(b'x y').decode()}\a"


@pytest.mark.usefixtures("programs")
def test_without_any_there_is_none() -> None:
    """In a pipe nothing is written where nobody would read it."""
    assert copy("x") is None
