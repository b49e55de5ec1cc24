"""When the server examines itself."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gpushare.core.doctor import Report, report
from gpushare.engine.examiner import FRESH_S, Examiner


class Bench:
    """An examiner on a hand-driven clock, and what it examines."""

    def __init__(self) -> None:
        self.now = 100.0
        self.found: list[Report] = []
        self.broken = False
        self.done = asyncio.Event()
        self.examiner = Examiner(self.examine, lambda: self.now)

    async def examine(self) -> Report:
        self.done.set()
        if self.broken:
            raise RuntimeError
        self.found.append(report([]))
        return self.found[-1]

    async def examined(self) -> None:
        """Waits for the next examination and its result."""
        await self.done.wait()
        self.done.clear()
        await asyncio.sleep(0)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """One that runs."""
    made = Bench()
    running = asyncio.create_task(made.examiner.run())
    yield made
    running.cancel()
    await asyncio.wait([running])


async def test_who_looks_does_not_wait_and_finds_what_was_found_last(bench: Bench) -> None:
    """The first look finds nothing yet; a minute later what is there is shown, and made anew meanwhile."""
    await asyncio.sleep(0)
    assert bench.found == []
    assert bench.examiner.look() is None
    await bench.examined()
    first = bench.examiner.look()
    assert first is bench.found[0]
    assert bench.examiner.at == 100.0
    bench.now += FRESH_S
    assert bench.examiner.look() is first
    await bench.examined()
    assert bench.examiner.look() is bench.found[1]
    assert len(bench.found) == 2


async def test_a_fault_keeps_what_was_found_before(bench: Bench) -> None:
    """It is not told as newer than it is, and the next examination is made in its time."""
    bench.examiner.look()
    await bench.examined()
    bench.broken, bench.now = True, bench.now + FRESH_S
    bench.examiner.look()
    await bench.examined()
    assert bench.examiner.look() is bench.found[0]
    assert bench.examiner.at == 100.0
    bench.broken, bench.now = False, bench.now + FRESH_S
    bench.examiner.look()
    await bench.examined()
    assert bench.examiner.look() is bench.found[1]
