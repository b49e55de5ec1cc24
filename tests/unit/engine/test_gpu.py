"""The picture of the GPUs, from a source that tells what the test wants."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gpushare.core.gpu import GpuReading, GpuReport
from gpushare.engine import gpu
from gpushare.engine.gpu import GpuWatch
from tests.harness import every_log_line

CARD = GpuReading(index=0, name="A", uuid="GPU-a", busy=0.5)
FINE = GpuReport(readings=(CARD,))


class Source:
    """Tells nothing by itself; ``broken`` makes it fail."""

    def __init__(self) -> None:
        self.broken = False
        self.started = 0

    async def run(self, tell: Callable[[GpuReport], None]) -> None:
        self.started += 1
        if self.broken:
            self.broken = False
            raise RuntimeError
        tell(FINE)
        await asyncio.Event().wait()


class Desk:
    """A watch on a hand-driven clock."""

    def __init__(self, *, required: bool = False) -> None:
        self.now = 100.0
        self.source = Source()
        self.watch = GpuWatch(self.source, required=required, clock=lambda: self.now)

    def points(self) -> tuple[float | None, ...]:
        """Returns the history of the card."""
        return self.watch.view.history["GPU-a"]


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """What is logged."""
    with every_log_line() as collected:
        yield collected


def test_a_reading_is_published_with_its_time() -> None:
    """The picture is that of the last report."""
    desk = Desk()
    desk.watch.take(FINE)
    assert (desk.watch.view.readings, desk.watch.view.at) == ((CARD,), 100.0)


def test_the_history_grows_point_by_point() -> None:
    """A picture changes its history only when ten seconds are over."""
    desk = Desk()
    seen = []
    for _ in range(11):
        desk.watch.take(FINE)
        seen.append(desk.points())
        desk.now += 2.0
    assert seen == [()] * 5 + [(0.5,)] * 5 + [(0.5, 0.5)]


def test_a_lost_card_keeps_its_history() -> None:
    """The line of the last minutes stays, with a gap at its end."""
    desk = Desk()
    desk.watch.take(FINE)
    for _ in range(2):
        desk.now += 10.0
        desk.watch.take(GpuReport(error="silent"))
    assert desk.watch.view.readings == (CARD.gone(),)
    assert desk.points() == (0.5, None)


def test_changes_are_logged_once(lines: list[Any]) -> None:
    """A state that lasts is one line, whatever it is read."""
    desk = Desk()
    two = GpuReport(readings=(CARD, GpuReading(index=1, lost=True)), error="GPU 1: GPU is lost")
    for report in (FINE, FINE, two, two, GpuReport(error="silent"), GpuReport(error="silent"), FINE):
        desk.watch.take(report)
    assert [(line["event"], line["log_level"], line.get("reason")) for line in lines] == [
        ("gpu.readable", "info", None),
        ("gpu.incomplete", "warning", "GPU 1: GPU is lost"),
        ("gpu.unreadable", "warning", "silent"),
        ("gpu.readable", "info", None),
    ]


@pytest.mark.parametrize(("required", "level"), [(False, "info"), (True, "warning")])
def test_a_machine_without_a_driver_is_no_warning(
    lines: list[Any],
    required: bool,  # noqa: FBT001
    level: str,
) -> None:
    """Unless the configuration asks for one."""
    desk = Desk(required=required)
    desk.watch.take(GpuReport(error="NVML Shared Library Not Found", absent=True))
    assert desk.watch.view.fault is required
    assert [line["log_level"] for line in lines] == [level]


async def test_a_fault_of_ours_reaches_nothing_else(
    lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that fails is started again; the server goes on."""
    monkeypatch.setattr(gpu, "AGAIN_S", 0.0)
    desk = Desk()
    desk.source.broken = True
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(desk.watch.run())
        while not desk.watch.view.readings:
            await asyncio.sleep(0)
        running.cancel()
    assert desk.source.started == 2
    assert [line["event"] for line in lines] == ["gpu.failed", "gpu.unreadable", "gpu.readable"]
