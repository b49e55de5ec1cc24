"""What a call's record says, from what was noted while it lived."""

import pytest

from gpushare.core.model import Outcome, Phase, Usage
from gpushare.engine.live import LiveCall
from tests.unit.engine.test_slots import Bench, call, person


def live(**fields: object) -> LiveCall:
    """A call that began at 100 s."""
    return LiveCall(call=call(), who=person("a"), request_id="r_1", tool="curl", began=100.0, **fields)  # type: ignore[arg-type]


def test_a_call_that_was_refused_has_no_times() -> None:
    """What was not reached is absent, not zero."""
    record = live(outcome=Outcome.INVALID, status=400).record(101.0, 5.0)
    assert (record.waited_s, record.connect_s, record.first_s) == (None, None, None)
    assert (record.total_s, record.slot_s, record.ended_at) == (1.0, 0.0, 5.0)


def test_a_call_that_gave_up_says_how_long_it_waited() -> None:
    """The wait counts without a slot at its end."""
    assert live(queued_at=102.0).record(109.0, 0.0).waited_s == 7.0


def test_an_end_nobody_noted_is_a_fault_of_ours() -> None:
    """A record always has an outcome."""
    assert live().record(101.0, 0.0).outcome is Outcome.INTERNAL_ERROR


@pytest.mark.parametrize(("reported_s", "load_s"), [(None, 4.0), (3.5, 3.5)])
async def test_a_load_is_known_whoever_tells_of_it(reported_s: float | None, load_s: float) -> None:
    """Ollama says how long a load took in its own dialect alone; in others what was seen counts."""
    bench = Bench()
    one = live(usage=Usage(load_s=reported_s))
    async with bench.lease("a", model="n") as lease:
        one.lease = lease
        one.sent()
        bench.clock.now += 4
        one.first_byte()
        one.answered(Outcome.OK)
        record = one.record(bench.clock.now, 0.0)
        assert (record.swap, record.load_s) == (True, load_s)
    async with bench.lease("a", model="n") as lease:
        one.lease = lease
        assert one.record(bench.clock.now, 0.0).load_s is None


async def test_it_tells_its_slot_how_far_the_answer_has_come() -> None:
    """Charging runs from the sending to the decision, and the phases follow."""
    bench = Bench()
    one = live()
    async with bench.lease("a") as lease:
        one.lease = lease
        one.sent()
        assert one.phase is Phase.FIRST
        bench.clock.now += 2
        one.first_byte()
        assert one.phase.value == "data"
        bench.clock.now += 1
        one.answered(Outcome.OK)
        bench.clock.now += 9
        assert one.record(bench.clock.now, 0.0).slot_s == pytest.approx(3)
    assert bench.at_rest()
