"""The keyboard of a terminal, one key at a time, and the terminal as it was before.

Owns: the settings of the terminal, which are given back however the block ends.
"""

import os
import select
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Self

ESCAPE_S = 0.05  # what follows an escape within this time belongs to it: a terminal sends an arrow at once
_NAMES = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b": "escape",
    b"\r": "enter",
    b"\n": "enter",
    b"\x7f": "backspace",
    b"\x08": "backspace",
}


class Keyboard:
    """Reads a terminal in a thread of its own for the length of a block.

    Args:
        terminal: the descriptor of the terminal.
        pressed: told each key, in the reading thread: a character, or one of the names above.
    """

    def __init__(self, terminal: int, pressed: Callable[[str], None]) -> None:
        self._terminal = terminal
        self._pressed = pressed
        self._before = termios.tcgetattr(terminal)
        self._wake, self._end = os.pipe()
        self.thread = Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self.take()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._end)
        self.thread.join()
        os.close(self._wake)
        self.give_back()

    def take(self) -> None:
        """Lets keys come one by one and unseen; Ctrl-C and Ctrl-Z act as always."""
        tty.setcbreak(self._terminal)

    def give_back(self) -> None:
        """Sets the terminal as it was, if it is still there."""
        with suppress(termios.error):
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._before)

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._terminal, self._wake], [], [])
            if self._wake in ready:
                return
            try:
                data = os.read(self._terminal, 64)
            except OSError:
                return  # the terminal is gone
            if not data:
                return
            if data == b"\x1b" and select.select([self._terminal], [], [], ESCAPE_S)[0]:
                data += os.read(self._terminal, 63)
            for key in decode(data):
                self._pressed(key)


def decode(data: bytes) -> list[str]:
    """Returns the keys in what a terminal sent at once; keys that have no name here are left out."""
    keys: list[str] = []
    while data:
        length = _length(data)
        piece, data = data[:length], data[length:]
        if piece in _NAMES:
            keys.append(_NAMES[piece])
        elif not piece.startswith(b"\x1b"):
            keys += [char for char in piece.decode(errors="ignore") if char.isprintable()]
    return keys


def _length(data: bytes) -> int:
    """Returns how many bytes belong to the first key."""
    if data[:2] in (b"\x1b[", b"\x1bO"):
        final = next((index for index, byte in enumerate(data) if index > 1 and 0x40 <= byte < 0x7F), None)
        return len(data) if final is None else final + 1
    if data[0] in b"\x1b\r\n\x7f\x08":
        return 1
    named = [index for index, byte in enumerate(data) if byte in b"\x1b\r\n\x7f\x08"]
    return named[0] if named else len(data)
