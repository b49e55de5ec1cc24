"""How late the event loop is, on a hand-driven clock."""

import asyncio

import pytest

from gpushare.engine.lag import STEP_S, STEPS, LoopLag


async def measured(*late: float) -> float:
    """Returns the figure after timers that were so late, one after the other."""
    now = 0.0
    left = iter(late)

    async def sleep(seconds: float) -> None:
        nonlocal now
        try:
            now += seconds + next(left)
        except StopIteration:
            raise asyncio.CancelledError from None

    lag = LoopLag(clock=lambda: now, sleep=sleep)
    with pytest.raises(asyncio.CancelledError):
        await lag.run()
    return lag.worst_s


async def test_the_worst_of_the_last_ten_seconds_counts() -> None:
    """P38: none before the first timer, then the latest one, until it is too old."""
    assert await measured() == 0
    assert await measured(0.01, 2.0, 0.02) == pytest.approx(2.0)
    assert await measured(2.0, *[0.01] * STEPS) == pytest.approx(0.01)
    assert STEPS * STEP_S == 10


async def test_a_timer_that_comes_early_is_not_late() -> None:
    """Clocks and loops round differently."""
    assert await measured(-0.001) == 0
