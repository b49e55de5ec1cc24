"""The child that asks the driver, as a real process: answers, hangs, deaths, and that none is left."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pytest

from gpushare.core.gpu import GpuReading, GpuReport
from gpushare.edge import gpu
from gpushare.edge.gpu import ENDED, FAKE_NAME, GARBLED, LONGEST_PAUSE_S, FakeGpus, NvmlGpus
from tests.driver.nvml_library import CARD, DRIVER_NOT_LOADED, GPU_IS_LOST, LIBRARY_NOT_FOUND
from tests.machine import TWO_CARDS, Machine, children, driver_readers, machine

__all__ = ["machine"]


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    """Checks that every child is gone, and not as a zombie either."""
    yield
    assert children() == []


def alive(pid: int) -> bool:
    """Returns whether a process runs; a zombie whose parent has not looked yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Pauses:
    """Lets no time pass, and keeps how much would have; the test decides when it goes on."""

    def __init__(self, last: int = 1_000_000) -> None:
        self.asked: list[float] = []
        self._last = last

    async def sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        if len(self.asked) >= self._last:
            await asyncio.Event().wait()
        await asyncio.sleep(0.001)


Reports = asyncio.Queue[GpuReport]


@asynccontextmanager
async def watched(
    *,
    devices: tuple[int, ...] = (),
    patience_s: float = 30.0,
    start_patience_s: float = 30.0,
    sleep: Callable[[float], Awaitable[None]] | None = None,
) -> AsyncIterator[Reports]:
    """Runs a source for the block and gives what it tells."""
    source = NvmlGpus(
        interval_s=2.0,
        devices=devices,
        patience_s=patience_s,
        start_patience_s=start_patience_s,
        sleep=sleep or Pauses().sleep,
    )
    reports: Reports = asyncio.Queue()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(source.run(reports.put_nowait))
        yield reports
        running.cancel()


async def until(reports: Reports, wanted: Callable[[GpuReport], object]) -> GpuReport:
    """Returns the next report of a kind; the limit only ends a broken test."""
    async with asyncio.timeout(60):
        while not wanted(report := await reports.get()):
            pass
    return report


async def test_readings_come_from_a_child(machine: Machine) -> None:
    """Another process asks the driver, and what it reads arrives here again and again."""
    async with watched() as reports:
        first = await until(reports, lambda report: True)
        assert [(reading.index, reading.busy) for reading in first.readings] == [(0, 0.87), (1, 0.05)]
        assert len(children()) == 1
        machine.says(cards=[{**CARD, "gpu": 99}])
        await until(reports, lambda report: [reading.busy for reading in report.readings] == [0.99])


async def test_one_question_per_interval(machine: Machine) -> None:
    """Between two questions the interval passes, and the child stays the same."""
    pauses = Pauses(last=3)
    async with watched(sleep=pauses.sleep) as reports:
        for _ in range(3):
            assert (await reports.get()).error is None
        assert pauses.asked == [2.0, 2.0, 2.0]


async def test_devices_reach_the_child(machine: Machine) -> None:
    """The configured indexes are read and no other."""
    async with watched(devices=(1,)) as reports:
        assert [reading.index for reading in (await reports.get()).readings] == [1]


async def test_a_lost_card_keeps_the_child(machine: Machine) -> None:
    """A card that falls off the bus ends neither the child nor the readings of the other one."""
    async with watched() as reports:
        await reports.get()
        (child,) = children()
        machine.says(cards=[{**CARD, "errors": {"every call": GPU_IS_LOST}}, TWO_CARDS[1]])
        report = await until(reports, lambda report: report.error)
        assert report.error == "GPU 0: GPU is lost"
        assert [(reading.lost, reading.busy) for reading in report.readings] == [(True, None), (False, 0.05)]
        machine.says(cards=TWO_CARDS)
        await until(reports, lambda report: not report.error)
        assert children() == [child]


async def test_a_driver_that_hangs_is_left_behind(machine: Machine) -> None:
    """A child that does not answer is killed; when the driver works again, a new one reads it."""
    async with watched(patience_s=0.5) as reports:
        await reports.get()
        (hung,) = children()
        machine.says(cards=[{**CARD, "hang": "nvmlDeviceGetUtilizationRates"}])
        report = await until(reports, lambda report: report.error)
        assert report == GpuReport(error="the driver does not answer within 0.5 s")
        machine.says(cards=TWO_CARDS)
        await until(reports, lambda report: report.readings)
        assert hung not in children()


async def test_a_driver_that_hangs_at_the_start_is_left_behind(machine: Machine) -> None:
    """The first answer may take longer than others, and not for ever."""
    machine.says(cards=[{**CARD, "hang": "nvmlDeviceGetName"}])
    async with watched(start_patience_s=0.1) as reports:
        for _ in range(2):
            report = await reports.get()
            assert report == GpuReport(error="the driver does not answer within 0.1 s")


async def test_a_child_that_dies_is_replaced(machine: Machine) -> None:
    """A crash inside the driver costs one reading."""
    async with watched() as reports:
        await reports.get()
        os.kill(children()[0], signal.SIGKILL)
        assert (await until(reports, lambda report: report.error)).error == ENDED
        await until(reports, lambda report: report.readings)


async def test_without_a_driver_there_is_no_storm(machine: Machine) -> None:
    """Each further try comes after twice the pause, up to the longest, and between them no child runs."""
    machine.says(init=DRIVER_NOT_LOADED)
    pauses = Pauses(last=10)
    async with watched(sleep=pauses.sleep) as reports:
        for _ in range(10):
            assert await reports.get() == GpuReport(error="Driver Not Loaded")
        while len(pauses.asked) < 10:
            await asyncio.sleep(0.001)
        assert children() == []
    assert pauses.asked == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


async def test_a_machine_without_a_driver_is_left_alone(machine: Machine) -> None:
    """Where there is no library at all, the second try comes after the longest pause."""
    machine.says(init=LIBRARY_NOT_FOUND)
    pauses = Pauses(last=2)
    async with watched(sleep=pauses.sleep) as reports:
        assert (await reports.get()).absent
        while len(pauses.asked) < 2:
            await asyncio.sleep(0.001)
    assert pauses.asked == [LONGEST_PAUSE_S, LONGEST_PAUSE_S]


async def test_a_reading_ends_the_long_pauses(machine: Machine) -> None:
    """After a time of good readings the next failure is tried again soon."""
    machine.says(init=DRIVER_NOT_LOADED)
    pauses = Pauses()
    async with watched(sleep=pauses.sleep) as reports:
        for _ in range(3):
            await reports.get()
        machine.says(cards=TWO_CARDS)
        await until(reports, lambda report: report.readings)
        tried = len(pauses.asked)
        os.kill(children()[0], signal.SIGKILL)
        await until(reports, lambda report: report.error)
        await until(reports, lambda report: report.readings)
    assert 4.0 in pauses.asked[:tried]
    assert set(pauses.asked[tried:]) == {2.0}


async def test_what_is_no_answer_is_not_believed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that prints something else is replaced."""
    monkeypatch.setattr(gpu, "CHILD", "babbler")
    async with watched() as reports:
        assert (await reports.get()).error == GARBLED


async def test_a_child_that_cannot_start_is_a_report(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a program to run, or a process to run it in, the reason is told."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    async with watched() as reports:
        report = await reports.get()
        assert report.error == "no program can be started to ask the driver (No such file or directory)"


@pytest.mark.parametrize("hang", ["", "nvmlDeviceGetName"])
async def test_the_end_leaves_no_child(machine: Machine, hang: str) -> None:
    """When the gateway ends, so does its child at once, whatever it is doing."""
    machine.says(cards=[{**CARD, "hang": hang}])
    async with watched() as reports:
        while not children():
            await asyncio.sleep(0.001)
        if not hang:
            await reports.get()


PARENT = """
import asyncio
from gpushare.edge.gpu import NvmlGpus
asyncio.run(NvmlGpus(interval_s=60.0).run(lambda report: print("read", flush=True)))
"""


@pytest.mark.parametrize(
    "moment", ["at the start of the child", "between readings", "while the driver hangs"]
)
def test_a_killed_gateway_leaves_no_child(machine: Machine, moment: str) -> None:
    """Even when the gateway has no time to end anything, and even when its child hangs."""
    machine.says(cards=[{**CARD, "hang": "" if moment == "between readings" else "nvmlDeviceGetName"}])
    with subprocess.Popen([sys.executable, "-P", "-c", PARENT], stdout=subprocess.PIPE) as parent:
        (child,) = wait_for(lambda: driver_readers(parent.pid))
        if moment == "between readings":
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"read\n"
        elif moment == "while the driver hangs":
            wait_for(lambda: machine.hangs)
        parent.kill()
        wait_for(lambda: not alive(child))


T = TypeVar("T")


def wait_for(condition: Callable[[], T]) -> T:
    """Waits until something is true of other processes; the limit only ends a broken test."""
    for _ in range(6000):
        if found := condition():
            return found
        time.sleep(0.005)
    raise TimeoutError


def pretend(*running: int) -> list[GpuReading]:
    """Returns what the pretend card says while so many calls run."""
    calls = iter(running)
    card = FakeGpus(interval_s=2.0, running=lambda: next(calls), loaded_bytes=lambda: 19_000_000_000)
    return list(islice(card.readings(), len(running)))


def test_the_pretend_card_says_that_it_is_one() -> None:
    """Nobody who looks at the demo takes it for a real card."""
    (reading,) = pretend(0)
    assert reading.name == FAKE_NAME
    assert "Simulated" in FAKE_NAME
    assert reading.memory_used == 19_600_000_000


def test_the_pretend_card_follows_the_calls() -> None:
    """Busy while calls run and idle without, warmer by and by, and the same each time."""
    readings = pretend(*[0] * 5, *[1] * 20, *[0] * 10)
    idle, busy, after = readings[4], readings[24], readings[34]
    assert (idle.busy or 0) < 0.1
    assert 0.8 < (busy.busy or 0) <= 1.0
    assert (after.busy or 0) < 0.1
    assert (idle.celsius or 0) < (after.celsius or 0) < (busy.celsius or 0) < 80
    assert (busy.watts or 0) < (busy.watts_limit or 0)
    assert readings == pretend(*[0] * 5, *[1] * 20, *[0] * 10)


async def test_the_pretend_card_is_a_source() -> None:
    """It tells one card, again and again, until it is cancelled."""
    told: Reports = asyncio.Queue()
    card = FakeGpus(interval_s=0.001, running=lambda: 1, loaded_bytes=lambda: 0)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(card.run(told.put_nowait))
        for _ in range(3):
            assert [reading.index for reading in (await told.get()).readings] == [0]
        running.cancel()
