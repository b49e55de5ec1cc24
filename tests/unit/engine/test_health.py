"""The breaker and the queue: nothing is granted at an open door, and who waits has a grace."""

import asyncio

import pytest

from gpushare.core.breaker import DIALS_TO_OPEN, Door
from gpushare.core.errors import ModelFailing, OllamaDown
from gpushare.core.model import Outcome
from gpushare.engine.health import Health
from tests.unit.engine.test_slots import Bench, settle_loop


class Clinic(Bench):
    """Slots with a breaker."""

    def __init__(self, *, slots: int = 2, grace_s: float = 0.0) -> None:
        super().__init__(slots=slots)
        self.health = Health(
            self.slots, backends=("b", "e"), grace_s=grace_s, clock=self.clock, jitter=lambda: 0.5
        )
        self.moves: list[Door] = []
        self.health.on_change.append(lambda: self.moves.append(self.health.breaker.door))

    def lose_ollama(self) -> None:
        for _ in range(DIALS_TO_OPEN):
            self.health.ended("m", Outcome.UPSTREAM_REFUSED, 502)

    def find_ollama(self) -> None:
        self.clock.now += 5.0
        self.health.probed(up=True)


async def test_an_open_door_refuses_and_grants_nothing() -> None:
    """P9: the refusal is a 503 that says when to come back."""
    clinic = Clinic(grace_s=100.0)
    clinic.lose_ollama()
    with pytest.raises(OllamaDown) as caught:
        clinic.health.admit("m")
    assert caught.value.status == 503
    assert 1 <= (caught.value.retry_after_s or 0) <= 30
    waiting = asyncio.ensure_future(clinic.hold("a", asyncio.Event()))
    await settle_loop()
    assert clinic.served == []
    waiting.cancel()
    await asyncio.wait([waiting])
    await clinic.health.close()
    assert clinic.at_rest()


async def test_a_half_open_door_lets_one_through_at_a_time() -> None:
    """P10: after the probe one call runs; two good ones close the door and the rest runs too."""
    clinic = Clinic(slots=4, grace_s=100.0)
    clinic.lose_ollama()
    ends = [asyncio.Event() for _ in range(4)]
    tasks = [asyncio.ensure_future(clinic.hold(f"p{n}", end)) for n, end in enumerate(ends)]
    await settle_loop()
    clinic.find_ollama()
    for served in (1, 2):
        await settle_loop()
        assert len(clinic.served) == served
        ends[served - 1].set()
        await settle_loop()
        clinic.health.ended("m", Outcome.OK, 200)
    await settle_loop()
    assert len(clinic.served) == 4
    assert clinic.moves == [Door.OPEN, Door.HALF_OPEN, Door.CLOSED]
    for end in ends:
        end.set()
    await asyncio.gather(*tasks)
    assert clinic.at_rest()


@pytest.mark.parametrize("back", [True, False])
async def test_who_waits_has_a_grace(*, back: bool) -> None:
    """P11: within it a call that waits is served as if nothing had been; after it, it is told."""
    clinic = Clinic()
    clinic.lose_ollama()
    end = asyncio.Event()
    end.set()
    waiting = asyncio.ensure_future(clinic.hold("a", end))
    await asyncio.sleep(0)
    if back:
        clinic.find_ollama()
    for _ in range(50):
        await settle_loop()
        await asyncio.sleep(0.001)
    if back:
        await waiting
        assert clinic.served == ["a"]
    else:
        with pytest.raises(OllamaDown) as caught:
            await waiting
        assert caught.value.outcome is Outcome.BREAKER_OPEN
    await clinic.health.close()
    assert clinic.at_rest()


async def test_nobody_comes_back_after_the_grace() -> None:
    """P9, P11: who was dialling when it ended would be told of nothing any more."""
    clinic = Clinic()
    clinic.health.let_wait()
    clinic.lose_ollama()
    clinic.health.let_wait()
    await asyncio.sleep(0.001)
    with pytest.raises(OllamaDown) as caught:
        clinic.health.let_wait()
    assert caught.value.outcome is Outcome.BREAKER_OPEN
    clinic.find_ollama()
    clinic.health.let_wait()
    await clinic.health.close()


async def test_a_failing_model_leaves_the_others_alone() -> None:
    """P14: errors of its load shut it; errors in the request itself, or of a loaded model, do not."""
    clinic = Clinic()
    for _ in range(10):
        clinic.health.ended("typo", Outcome.UPSTREAM_ERROR, 404)
    for _ in range(3):
        clinic.health.ended("picky", Outcome.UPSTREAM_ERROR, 500)
        clinic.health.ended("big", Outcome.UPSTREAM_ERROR, 500, loading=True)
    clinic.health.admit("typo")
    clinic.health.admit("picky")
    clinic.health.admit("small")
    with pytest.raises(ModelFailing, match="big"):
        clinic.health.admit("big")
    assert clinic.health.shut_models() == ("big",)
    assert clinic.health.breaker.door is Door.CLOSED


async def test_a_model_that_keeps_silent_is_shut() -> None:
    """P14: with one slot, silences are too far apart to open the whole breaker."""
    clinic = Clinic()
    for outcome in (Outcome.TIMEOUT_FIRST_BYTE, Outcome.TIMEOUT_IDLE, Outcome.TIMEOUT_FIRST_BYTE):
        clinic.clock.now += 100.0
        clinic.health.ended("big", outcome, 504)
    with pytest.raises(ModelFailing):
        clinic.health.admit("big")
    assert clinic.health.breaker.door is Door.CLOSED


async def test_a_busy_ollama_moves_no_door() -> None:
    """Its silence neither fails a trial nor is a good probe, and the next one comes as soon as after any."""
    clinic = Clinic(grace_s=100.0)
    for _ in range(DIALS_TO_OPEN):
        clinic.health.probed(up=False, busy=True)
    assert clinic.moves == []
    clinic.lose_ollama()
    clinic.clock.now += 5.0
    clinic.health.probed(up=False, busy=True)
    assert clinic.clock.now < clinic.health.probe_at <= clinic.clock.now + 3
    clinic.find_ollama()
    for _ in range(DIALS_TO_OPEN):
        clinic.health.probed(up=False, busy=True)
    assert clinic.moves == [Door.OPEN, Door.HALF_OPEN]
    clinic.health.probed(up=False)
    assert clinic.moves == [Door.OPEN, Door.HALF_OPEN, Door.OPEN]
    await clinic.health.close()


async def test_a_door_that_does_not_answer_is_probed_soon() -> None:
    """While it is open the monitor is told when; at other times there is no hurry."""
    clinic = Clinic(grace_s=100.0)
    assert clinic.health.probe_at == float("inf")
    clinic.lose_ollama()
    assert clinic.clock.now < clinic.health.probe_at <= clinic.clock.now + 3
    await clinic.health.close()
