"""``gpushare top`` on a real terminal, in front of a real gateway."""

import asyncio
from pathlib import Path

from tests.harness import Gate
from tests.integration.leaving import queued
from tests.terminal import GPUSHARE, Terminal, on_terminal


def cancels(terminal: Terminal) -> tuple[int, bool]:
    """Finds the own waiting request, ends it, and quits."""
    terminal.until("alice (you)")
    terminal.press("k")
    terminal.press("c")
    terminal.until("Cancelled.")
    terminal.until("nobody waiting")
    terminal.press("q")
    return terminal.ended(), terminal.settings_are_back


async def test_a_person_ends_their_waiting_request_from_the_terminal(gate: Gate, tmp_path: Path) -> None:
    """What the keys ask for happens in the queue, and shows on the screen."""
    env = {"HOME": str(tmp_path), "GPUSHARE_URL": gate.url, "GPUSHARE_KEY": gate.keys["alice"]}
    async with queued(gate) as stand:
        with on_terminal([*GPUSHARE, "top"], env) as terminal:
            assert await asyncio.to_thread(cancels, terminal) == (0, True)
        assert gate.parts.slots.snapshot().waiting == ()
        assert (await stand.wire.until(b"\r\n")).startswith(b"HTTP/1.1 410 ")
