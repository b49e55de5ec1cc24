import os
import pty
import termios
from queue import SimpleQueue

import pytest

from gpushare.cli.top.keys import Keyboard, decode


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (b"q", ["q"]),
        (b"jk?", ["j", "k", "?"]),
        (b"\x1b[A\x1b[B", ["up", "down"]),
        (b"\x1bOA\x1bOB", ["up", "down"]),
        (b"\x1b", ["escape"]),
        (b"\x1b\x1b[A", ["escape", "up"]),
        (b"ab\r\x7f\n", ["a", "b", "enter", "backspace", "enter"]),
        ("é/".encode(), ["é", "/"]),
        (b"\x1b[1;5Cx\x1b[3~", ["x"]),
        (b"\x1b[", []),
        (b"\xc3", []),
        (b"\x01\x02", []),
    ],
)
def test_what_a_terminal_sends_becomes_keys(sent: bytes, keys: list[str]) -> None:
    """Several at once too; keys without a meaning here, and halves of them, are nothing."""
    assert decode(sent) == keys


def test_keys_come_one_by_one_and_the_terminal_is_given_back() -> None:
    """Without Enter and without an echo, for the length of the block."""
    person, terminal = pty.openpty()
    try:
        before = termios.tcgetattr(terminal)
        pressed: SimpleQueue[str] = SimpleQueue()
        with Keyboard(terminal, pressed.put) as keyboard:
            flags = termios.tcgetattr(terminal)[3]
            assert not flags & (termios.ICANON | termios.ECHO)
            assert flags & termios.ISIG
            os.write(person, b"a\x1b[A")
            assert [pressed.get(timeout=30), pressed.get(timeout=30)] == ["a", "up"]
            os.write(person, b"\x1b")
            assert pressed.get(timeout=30) == "escape"
            keyboard.give_back()
            assert termios.tcgetattr(terminal) == before
            keyboard.take()
        assert termios.tcgetattr(terminal) == before
    finally:
        os.close(person)
        os.close(terminal)


def test_a_terminal_that_goes_away_ends_the_reading() -> None:
    """No thread stays behind, spinning."""
    person, terminal = pty.openpty()
    try:
        keyboard = Keyboard(terminal, lambda _key: None)
        with keyboard:
            os.close(person)
            keyboard.thread.join(timeout=30)
            assert not keyboard.thread.is_alive()
    finally:
        os.close(terminal)
