"""The whole program on a terminal, in front of a made-up gateway."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpushare.cli.terminal import ExitCode
from tests.terminal import GPUSHARE, Terminal, on_terminal

from .conftest import Gateway, Run
from .test_status import BODY, DOCUMENT

STATUS = "/gpushare/v1/status"
WHOAMI = "/gpushare/v1/whoami"
ADMIN = b"""{"schema": "gpushare.whoami/1", "name": "root", "key_id": "000000", "role": "admin",
"class": "interactive", "weight": 1.0, "host": "atlas", "version": "1"}"""
LEAVES = "\x1b[?1049l"  # the alternate screen
SHOWS = "\x1b[?25h"  # the cursor


@pytest.fixture
def atlas(gateway: Gateway) -> Gateway:
    """A gateway with a queue."""
    gateway.answer(STATUS, (200, BODY))
    return gateway


@contextmanager
def watching(gateway: Gateway, home: Path, **env: str) -> Iterator[Terminal]:
    """Somebody in front of ``gpushare top``."""
    environment = {"HOME": str(home), "GPUSHARE_URL": gateway.url, **env}
    with on_terminal([*GPUSHARE, "top"], environment) as terminal:
        terminal.until("Busy: 2 running, 2 waiting")
        yield terminal


def left_well(terminal: Terminal, code: int) -> bool:
    """Whether the program has ended with this code and left the terminal as it was."""
    assert terminal.ended() == code
    return (
        terminal.settings_are_back
        and terminal.raw.rindex(LEAVES) > terminal.raw.rindex("\x1b[?1049h")
        and SHOWS in terminal.raw
    )


def test_keys_act_and_the_terminal_is_given_back(atlas: Gateway, home: Path) -> None:
    """Help, models, a filter, and out."""
    with watching(atlas, home) as terminal:
        terminal.press("?")
        terminal.until("reverse the order")
        terminal.press("\x1b")
        terminal.until("WAITED")
        terminal.press("d")
        terminal.until("MODEL IN MEMORY")
        terminal.press("/dave\r")
        terminal.until("only: dave")
        terminal.press("q")
        assert terminal.ended() == 0
        terminal.press("x")
    with watching(atlas, home) as terminal:
        terminal.press("q")
        assert left_well(terminal, 0)


def test_ctrl_c_and_a_signal_give_the_terminal_back_too(atlas: Gateway, home: Path) -> None:
    """However it ends."""
    with watching(atlas, home) as terminal:
        terminal.press("\x03")
        assert left_well(terminal, ExitCode.INTERRUPTED)
    with watching(atlas, home) as terminal:
        terminal.signal(signal.SIGTERM)
        assert left_well(terminal, 0)


def test_another_size_of_the_window_is_followed(atlas: Gateway, home: Path) -> None:
    """At once, without a key."""
    with watching(atlas, home) as terminal:
        terminal.resize(50, 10)
        narrow = terminal.until("Busy: 2 running, 2 waiting")
        terminal.press("q")
        terminal.ended()
    assert "LAST 24 HOURS" not in narrow


def test_an_own_request_is_cancelled_at_once(atlas: Gateway, home: Path) -> None:
    """The selected one; what came of it stands in the bottom line."""
    atlas.answer("/gpushare/v1/queue/r2", (200, b"{}"))
    with watching(atlas, home) as terminal:
        terminal.press("jjjc")
        terminal.until("Cancelled.")
        terminal.press("jc")
        terminal.until("Only your own requests can be cancelled.")
        terminal.press("q")
        terminal.ended()
    assert ("DELETE", "/gpushare/v1/queue/r2", None) in atlas.asked


def test_an_admin_is_asked_before_somebody_elses_ends(atlas: Gateway, home: Path) -> None:
    """Any other key than y is a no."""
    atlas.answer(WHOAMI, (200, ADMIN))
    atlas.answer("/gpushare/v1/queue/r3", (404, b'{"error":{"code":"x","message":"It has gone."}}'))
    with watching(atlas, home, GPUSHARE_KEY="gs_root") as terminal:
        while not any(path == WHOAMI for _, path, _ in atlas.asked):
            terminal.until("Busy")
        terminal.press("kc")
        while "yes" not in terminal.until("2 waiting"):
            terminal.press("c")
        terminal.press("n")
        terminal.until("q quit")
        terminal.press("c")
        terminal.until("y: yes")
        assert not [path for method, path, _ in atlas.asked if method == "DELETE"]
        terminal.press("y")
        terminal.until("It has gone.")
        terminal.press("q")
        terminal.ended()


def test_a_lost_connection_is_told_and_the_picture_stays(atlas: Gateway, home: Path) -> None:
    """With the time it was taken at and the number of the try."""
    with watching(atlas, home) as terminal:
        atlas.answer(STATUS, (502, b"<html>"))
        shown = terminal.until(", try 1")
        assert "No connection since" in shown
        terminal.until("alice (you)")
        atlas.answer(STATUS, (200, json.dumps(DOCUMENT | {"host": "back"}).encode()))
        terminal.until("back · ")
        terminal.press("q")
        assert left_well(terminal, 0)


def test_a_key_that_ends_ends_the_program(atlas: Gateway, home: Path) -> None:
    """With the server's words, on a terminal that is as before."""
    with watching(atlas, home) as terminal:
        atlas.answer(STATUS, (401, b'{"error":{"code":"key_expired","message":"The key has expired."}}'))
        terminal.until("error: The key has expired.")
        assert left_well(terminal, ExitCode.NOT_ALLOWED)


# A shell's part: a job of its own in the foreground; a look at the terminal when it stops and when it ends.
SHELL = """
import os, signal, sys, termios
signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # who gives the terminal away may be in the background
before = termios.tcgetattr(0)
job = os.fork()
if not job:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execvp(sys.argv[1], sys.argv[1:])
_, status = os.waitpid(job, os.WUNTRACED)
os.tcsetpgrp(0, os.getpgrp())
print("stopped", os.WIFSTOPPED(status), termios.tcgetattr(0) == before, flush=True)
input()
os.tcsetpgrp(0, job)
os.kill(job, signal.SIGCONT)
_, status = os.waitpid(job, 0)
os.tcsetpgrp(0, os.getpgrp())
print("ended", os.waitstatus_to_exitcode(status), termios.tcgetattr(0) == before, flush=True)
"""


def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_back(atlas: Gateway, home: Path) -> None:
    """The shell finds its terminal as it left it, and the keys work again afterwards."""
    shell = [sys.executable, "-c", SHELL, *GPUSHARE, "top"]
    with on_terminal(shell, {"HOME": str(home), "GPUSHARE_URL": atlas.url}) as terminal:
        terminal.until("Busy: 2 running")
        terminal.press("\x1a")
        terminal.until("stopped True True")
        assert terminal.raw.rindex(LEAVES) > terminal.raw.rindex("\x1b[?1049h")
        terminal.press("\n")
        terminal.until("Busy: 2 running")
        terminal.press("?")
        terminal.until("reverse the order")
        terminal.press("q")
        terminal.until("ended 0 True")


def test_elsewhere_than_on_a_terminal_it_is_status_once(run: Run, atlas: Gateway) -> None:
    """For a pipe or a script, without a code for colours."""
    said = run("top", "--url", atlas.url)
    assert said.code == 0
    assert said.out.startswith("Busy: 2 running, 2 waiting")
    assert "\x1b" not in said.out
    assert [path for _, path, _ in atlas.asked] == [STATUS]


def test_nobody_there_is_told_before_the_screen_is_taken(home: Path, nobody: str) -> None:
    """The error stands where the person looks."""
    with on_terminal([*GPUSHARE, "top"], {"HOME": str(home), "GPUSHARE_URL": nobody}) as terminal:
        assert terminal.ended() == ExitCode.UNREACHABLE
        assert "cannot reach gpushare" in terminal.raw
        assert "\x1b[?1049h" not in terminal.raw
