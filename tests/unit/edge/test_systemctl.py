"""What systemd's programs print, played by programs of the test's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gpushare.edge import systemctl

Play = Callable[..., None]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Puts a program in the place of one of systemd's; there is no other."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(name: str, says: str, *, code: int = 0) -> None:
        lines = "".join(f"echo '{line}'\n" for line in says.splitlines())
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/asked\n{lines}exit {code}\n')
        program.chmod(0o755)

    return put


def test_a_unit(play: Play, tmp_path: Path) -> None:
    """Its properties as they are written, values with an equals sign included."""
    play("systemctl", "LoadState=loaded\nActiveState=active\nEnvironment=A=1")
    found = systemctl.unit("gpushare.service", ("ActiveState", "Environment"))
    assert found == {"LoadState": "loaded", "ActiveState": "active", "Environment": "A=1"}
    asked = (tmp_path / "asked").read_text()
    assert asked == "show gpushare.service --property LoadState,ActiveState,Environment\n"


def test_a_unit_that_is_not_there(play: Play) -> None:
    """Systemd tells the defaults of such a unit, which mean nothing."""
    play("systemctl", "LoadState=not-found\nActiveState=inactive")
    assert systemctl.unit("gpushare.service", ("ActiveState",)) == {}


@pytest.mark.usefixtures("play")
def test_without_systemd() -> None:
    """There is no such program."""
    assert systemctl.unit("gpushare.service", ()) == {}
    assert systemctl.environment("ollama.service") is None
    assert systemctl.clock_is_synchronized() is None


def test_in_a_container(play: Play) -> None:
    """There is the program, and nobody it could ask."""
    for name in ("systemctl", "timedatectl"):
        play(name, "System has not been booted with systemd", code=1)
    assert systemctl.unit("gpushare.service", ()) == {}
    assert systemctl.clock_is_synchronized() is None


RUNS = "LoadState=loaded\nActiveState=active\n"


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (
            RUNS + 'Environment=OLLAMA_HOST=127.0.0.1 "A=b c" OLLAMA_NUM_PARALLEL=2',
            {"OLLAMA_HOST": "127.0.0.1", "A": "b c", "OLLAMA_NUM_PARALLEL": "2"},
        ),
        (RUNS + "Environment=", {}),
        (RUNS + "Environment=A=1\nEnvironmentFiles=/etc/default/ollama (ignore_errors=no)", None),
        (RUNS + "Environment=A=1\nPassEnvironment=B", None),
        (RUNS + 'Environment="A=1', None),
        ("LoadState=loaded\nActiveState=inactive\nEnvironment=A=1", None),
    ],
)
def test_an_environment(play: Play, says: str, expected: dict[str, str] | None) -> None:
    """Known only where all of it stands in a unit that runs."""
    play("systemctl", says)
    assert systemctl.environment("ollama.service") == expected


@pytest.mark.parametrize(("says", "expected"), [("yes", True), ("no", False)])
def test_the_clock(play: Play, says: str, *, expected: bool) -> None:
    """As systemd has it from the kernel."""
    play("timedatectl", f"NTPSynchronized={says}")
    assert systemctl.clock_is_synchronized() is expected


def test_a_program_that_hangs(play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up."""
    play("systemctl", "LoadState=loaded")
    (tmp_path / "systemctl").write_text("#!/bin/sh\nwhile :; do :; done\n")
    monkeypatch.setattr(systemctl, "PATIENCE_S", 0.05)
    assert systemctl.unit("gpushare.service", ()) == {}
