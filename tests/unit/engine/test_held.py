"""A place in the queue that becomes a slot, and may become a place again."""

import asyncio

import pytest

from gpushare.core.errors import Draining
from gpushare.core.model import Outcome
from tests.unit.engine.test_slots import Bench, call, person, settle_loop


async def test_a_call_that_finds_a_free_slot_has_not_waited() -> None:
    """Who did not wait is told apart from who did: a failed dial ends the one and not the other."""
    bench = Bench()
    async with bench.lease("a") as first:
        assert (first.waited, first.waited_s, first.backend) == (False, 0.0, "b")
        second = asyncio.ensure_future(bench.hold("b", asyncio.Event()))
        await settle_loop()
        (waiting,) = [each for each in bench.slots._waiters.values() if each.grant is None]  # noqa: SLF001
        assert waiting.waited
        second.cancel()
        await asyncio.wait([second])
    assert bench.at_rest()


async def test_what_waits_holds_nothing() -> None:
    """Asking a call that waits about its slot is a mistake, not an answer of zero."""
    bench = Bench()
    async with bench.lease("a"):
        place = bench.slots.lease(call(), person("b"), ticket_id="x", max_wait_s=1)
        with place, pytest.raises(AssertionError):
            place.settle(Outcome.OK)
    assert bench.at_rest()


async def test_a_call_goes_back_to_the_head_of_its_queue() -> None:
    """P1: the slot is free for others meanwhile, comes again in its turn, and nothing was charged."""
    bench = Bench()
    with bench.slots.lease(call(), person("a"), ticket_id="first", max_wait_s=60) as place:
        await place.turn()
        bench.clock.now += 3
        place.settle(Outcome.UPSTREAM_REFUSED)
        place.again()
        assert bench.slots.snapshot().held == 0
        later = asyncio.ensure_future(bench.hold("a", asyncio.Event()))
        await settle_loop()
        assert bench.served == [], "the younger call waits behind it"
        later.cancel()
        await asyncio.wait([later])
        await place.turn()
        assert place.held().charged > 0
        assert bench.slots.snapshot().running[0].id == "first"
    assert bench.at_rest()


async def test_nobody_goes_back_to_a_queue_that_is_drained() -> None:
    """P22: all who wait have been turned away, and nobody would tell this one."""
    bench = Bench()
    with bench.slots.lease(call(), person("a"), ticket_id="first", max_wait_s=60) as place:
        await place.turn()
        place.settle(Outcome.UPSTREAM_REFUSED)
        bench.slots.drain()
        with pytest.raises(Draining):
            place.again()
    assert bench.at_rest()
