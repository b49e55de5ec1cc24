"""A program on a terminal of its own, with somebody who reads the screen and presses keys."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

PATIENCE_S = 30.0
"""Only ends a broken test."""
_CODES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\a]*\a)")
GPUSHARE = (sys.executable, "-c", "import sys; from gpushare.cli import main; sys.exit(main())")


class Terminal:
    """The side of a terminal that a person sits at."""

    def __init__(self, person: int, program: subprocess.Popen[bytes], keyboard: int) -> None:
        self._person = person
        self._program = program
        self._keyboard = keyboard
        self._before = termios.tcgetattr(keyboard)
        self.raw = ""
        self._seen = 0

    @property
    def settings_are_back(self) -> bool:
        """Whether the terminal is set as it was before the program."""
        return termios.tcgetattr(self._keyboard) == self._before

    def press(self, keys: str) -> None:
        """Types."""
        os.write(self._person, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Drags the window to another size."""
        set_size(self._keyboard, columns, lines)
        self._program.send_signal(signal.SIGWINCH)

    def signal(self, number: signal.Signals) -> None:
        """Sends the program a signal."""
        self._program.send_signal(number)

    def until(self, words: str) -> str:
        """Waits until something new on the screen says this, and returns what was written up to it."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            text = _CODES.sub("", self.raw[self._seen :])
            if words in text:
                self._seen = len(self.raw)
                return text
            assert time.monotonic() < deadline, f"never came: {words!r}; last was: {text[-2000:]!r}"
            self._read()

    def ended(self) -> int:
        """Waits for the end of the program and returns its exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self._program.poll() is None:
            assert time.monotonic() < deadline, f"does not end; last was: {self.raw[-2000:]!r}"
            self._read()
        self._read()
        return self._program.wait()

    def _read(self) -> None:
        while select.select([self._person], [], [], 0.05)[0]:
            try:
                data = os.read(self._person, 65536)
            except OSError:  # the last of the programs has left the terminal
                return
            self.raw += data.decode(errors="replace")


def set_size(terminal: int, columns: int, lines: int) -> None:
    """Gives a terminal a size."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@contextmanager
def on_terminal(
    command: Sequence[str], env: Mapping[str, str], *, columns: int = 80, lines: int = 24
) -> Iterator[Terminal]:
    """Runs a program on a terminal of its own for the block."""
    person, keyboard = pty.openpty()
    set_size(keyboard, columns, lines)
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG")}
    environment = {**kept, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **env}
    program = subprocess.Popen(
        [sys.executable, "-c", _ENTER, *command],
        stdin=keyboard,
        stdout=keyboard,
        stderr=keyboard,
        env=environment,
        start_new_session=True,
    )
    try:
        yield Terminal(person, program, keyboard)
    finally:
        program.kill()
        program.wait()
        os.close(person)
        os.close(keyboard)


# Makes the terminal the one that controls the session, so that Ctrl-C and Ctrl-Z become signals; a shell that
# started the tests in the background has them ignored.
_ENTER = """import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])"""
