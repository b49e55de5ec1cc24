"""Joules of the calls that run, on a hand-driven clock."""

import pytest

from gpushare.core.gpu import GpuReading, GpuView
from gpushare.engine.energy import EnergyMeter
from tests.unit.engine.test_slots import Bench


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_calls_share_what_the_cards_draw() -> None:
    """100 W for 10 s alone, for 10 s between two, then 300 W for 2 s; the rest is nobody's."""
    clock = Clock()
    meter = EnergyMeter(clock)
    meter.read(100.0)
    clock.now += 60
    meter.begin("a")
    clock.now += 10
    meter.begin("b")
    clock.now += 10
    assert meter.end("a") == pytest.approx(1500.0)
    meter.read(300.0)
    clock.now += 2
    assert meter.end("b") == pytest.approx(1100.0)


def test_what_nobody_measured_is_unknown() -> None:
    """One moment without power is enough for the calls that ran then, and for no other."""
    clock = Clock()
    meter = EnergyMeter(clock)
    meter.begin("early")
    clock.now += 1
    meter.read(100.0)
    meter.begin("a")
    clock.now += 10
    meter.begin("b")
    clock.now += 10
    assert meter.end("early") is None
    assert meter.end("a") == pytest.approx(1000.0 / 2 + 1000.0 / 3)
    meter.read(None)
    clock.now += 1
    assert meter.end("b") is None


async def test_a_call_is_metered_while_it_has_a_slot() -> None:
    """Waiting costs nothing, and a slot that was given back unused counts no more."""
    bench = Bench()
    bench.slots.meter.read(100.0)
    async with bench.lease("a") as lease:
        bench.clock.now += 3
        lease.again()
        bench.clock.now += 5
        await lease.turn()
        bench.clock.now += 2
    assert lease.held().energy_j == pytest.approx(200.0)
    assert bench.at_rest()


@pytest.mark.parametrize(
    ("cards", "watts"),
    [
        ([], None),
        ([100.0], 100.0),
        ([100.0, 50.5], 150.5),
        ([100.0, None], None),
    ],
)
def test_all_cards_count(cards: list[float | None], watts: float | None) -> None:
    """A sum that leaves a card out would be wrong; one that is gone draws nothing that anybody knows of."""
    readings = tuple(GpuReading(index=index, watts=each) for index, each in enumerate(cards))
    assert GpuView(readings=readings).watts == watts
    lost = GpuReading(index=9, lost=True)
    assert GpuView(readings=(*readings, lost)).watts == watts
