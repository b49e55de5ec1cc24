"""The watchdog is fed while every part makes progress, and not a moment longer."""

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from gpushare.app.build import build_parts
from gpushare.app.life import Life
from gpushare.app.serving import Running
from gpushare.app.supervision import CLOSING, Supervision
from gpushare.core.config import Config
from gpushare.core.keys import KeyRing
from gpushare.edge.ollama import HttpOllama
from gpushare.edge.systemd import Notifier
from gpushare.web.parts import Parts
from tests.harness import every_log_line


@dataclass
class Bench:
    """A server that is watched, and the notify socket's other end."""

    parts: Parts
    life: Life
    log: list[Any]
    ear: socket.socket
    supervision: Supervision
    healthy: dict[str, bool] = field(default_factory=dict)

    async def heard(self) -> bytes:
        """Returns the next message."""
        async with asyncio.timeout(30):
            return await asyncio.get_running_loop().sock_recv(self.ear, 4096)

    def silence(self) -> bool:
        """Returns whether nothing more has come."""
        try:
            self.ear.recv(4096)
        except BlockingIOError:
            return True
        return False

    async def logged(self, count: int) -> None:
        """Waits until so many lines were logged."""
        async with asyncio.timeout(30):
            while len(self.log) < count:
                await asyncio.sleep(0.002)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A server that is not running, watched every 10 ms."""
    life, config = Life(), Config()
    parts = build_parts(config, KeyRing(), HttpOllama(config.ollama.url), tmp_path, life)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear, every_log_line() as log:
        ear.bind(str(tmp_path / "notify"))
        ear.setblocking(False)
        running = Running(parts, life, cast("Any", None), "127.0.0.1", 1, handed_over=False)
        notifier = Notifier(address=str(tmp_path / "notify"), watchdog_s=0.02)
        yield Bench(parts, life, log, ear, Supervision(running, notifier))


async def watching(bench: Bench) -> asyncio.Task[None]:
    """Returns the running watch."""
    return asyncio.get_running_loop().create_task(bench.supervision.watch())


async def test_it_is_fed_again_and_again(bench: Bench) -> None:
    """Each time with what is going on."""
    watch = await watching(bench)
    for _ in range(3):
        assert (
            await bench.heard() == b"WATCHDOG=1\nSTATUS=Serving on http://127.0.0.1:1. 0 running, 0 waiting."
        )
    watch.cancel()


async def test_what_people_should_know_stays(bench: Bench) -> None:
    """Feeding the watchdog takes neither a refused reload nor the end from the status."""
    bench.parts.config_rejected = True
    bench.supervision.serving()
    mistakes = (await bench.heard()).removeprefix(b"READY=1\n")
    assert b"cannot be used" in mistakes
    watch = await watching(bench)
    assert (await bench.heard()) == b"WATCHDOG=1\n" + mistakes + b" 0 running, 0 waiting."
    bench.parts.slots.close()
    while (said := await bench.heard()).startswith(b"WATCHDOG=1\n" + mistakes):
        pass
    assert said == f"WATCHDOG=1\nSTATUS={CLOSING} 0 running, 0 waiting.".encode()
    watch.cancel()


async def test_a_part_that_says_no_stops_it(bench: Bench) -> None:
    """P40: one failing part is enough; the log names it once, and a recovery feeds the watchdog again."""
    fine = True
    bench.life.checks["ledger"] = lambda: fine
    watch = await watching(bench)
    await bench.heard()
    fine = False
    await bench.logged(1)
    bench.silence()
    looks = 0

    def count() -> bool:
        nonlocal looks
        looks += 1
        return True

    bench.life.checks["counter"] = count
    while looks < 3:
        await asyncio.sleep(0.002)
    assert bench.silence()
    assert bench.log == [{"event": "watchdog.withheld", "log_level": "error", "failing": ("ledger",)}]
    fine = True
    await bench.heard()
    watch.cancel()


async def test_a_part_that_cannot_say_stops_it(bench: Bench) -> None:
    """A check that fails itself is no yes."""
    bench.life.checks["broken"] = lambda: bool(1 // 0)
    watch = await watching(bench)
    await bench.logged(1)
    assert bench.silence()
    watch.cancel()


async def test_a_wedged_scheduler_stops_it(bench: Bench) -> None:
    """P40: somebody waits, nothing runs and nothing is granted: only a restart helps."""
    assert "scheduler" in bench.life.checks
    bench.parts.slots.is_stuck = lambda: True  # type: ignore[method-assign]
    watch = await watching(bench)
    await bench.logged(1)
    assert bench.log[0]["failing"] == ("scheduler",)
    assert bench.silence()
    watch.cancel()


async def test_without_a_watchdog_nothing_is_watched(bench: Bench) -> None:
    """Then there is nobody to feed."""
    running = cast("Any", None)
    await Supervision(running, Notifier()).watch()
