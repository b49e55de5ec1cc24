"""Invented people against a simulated Ollama, without the gateway between them."""

import asyncio
import random
from collections.abc import AsyncIterator

import aiohttp
import pytest

from gpushare.cli.invented import HABITS, Habit, Models, Visitor, live
from gpushare.sim import Plan, SimOllama
from tests.simulated import sim

__all__ = ["sim"]

MODELS = Models(usual="m", other="n", embedding="embed")


class Hurried(random.Random):
    """Never rests."""

    def uniform(self, a: float, b: float) -> float:
        return 0.0


@pytest.fixture
async def visitor(sim: SimOllama) -> AsyncIterator[Visitor]:
    """A person in a hurry."""
    async with aiohttp.ClientSession() as session:
        yield Visitor(session=session, url=sim.url, key="gs_x", models=MODELS, chance=Hurried(1))


@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.__name__.lstrip("_"))
async def test_every_habit_asks_what_the_server_understands(
    visitor: Visitor, sim: SimOllama, habit: Habit
) -> None:
    """Each habit's calls carry the key and are answered 200."""
    await habit(visitor)
    assert sim.log
    assert {entry.header("Authorization") for entry in sim.log} == {"Bearer gs_x"}
    assert {entry.status for entry in sim.log} <= {0, 200}
    assert any(entry.status == 200 for entry in sim.log)


async def test_a_person_without_an_embedding_model_embeds_nothing(visitor: Visitor, sim: SimOllama) -> None:
    """No model, no call."""
    visitor.models = Models(usual="m", other="n", embedding="")
    for habit in HABITS:
        await habit(visitor)
    assert "/api/embed" not in {entry.path for entry in sim.log}


async def test_leaving_early_closes_the_call(visitor: Visitor, sim: SimOllama) -> None:
    """Who loses patience is seen to have left in the middle of the answer."""
    body: dict[str, object] = {
        "model": "m",
        "messages": [{"role": "user", "content": "#sim:delay_ms=5,tokens=9999"}],
    }
    await visitor.post("/api/chat", body, agent="x", leave_after=3)
    entry = await sim.arrived(0)
    await entry.reached()
    assert entry.cancelled
    assert entry.records >= 3


async def test_a_failed_round_does_not_end_a_person(visitor: Visitor, sim: SimOllama) -> None:
    """While the server refuses connections the person goes on trying, and asks again when it is back."""
    sim.refuse()
    failures = 0

    async def habit(one: Visitor) -> None:
        nonlocal failures
        try:
            await HABITS[0](one)
        except aiohttp.ClientError:
            failures += 1
            await sim.accept()
            raise

    life = asyncio.ensure_future(live(visitor, habit))
    await sim.arrived(1)
    life.cancel()
    await asyncio.wait([life])
    assert failures == 1


async def test_a_refusal_is_waited_out(visitor: Visitor, sim: SimOllama) -> None:
    """A 503 is answered by waiting, not by an error."""
    sim.next(Plan(status=503))
    waiting = asyncio.ensure_future(visitor.post("/api/chat", {"model": "m", "messages": []}, agent="x"))
    await (await sim.arrived(0)).reached()
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
