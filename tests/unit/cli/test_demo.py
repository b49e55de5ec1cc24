"""The demo's parts that need no running gateway."""

import asyncio

from gpushare.cli.demo import models_at
from gpushare.sim import Plan, SimOllama


async def test_the_models_of_an_ollama_are_found() -> None:
    """An Ollama that answers is recognised by its list of models."""
    sim = SimOllama()
    url = await sim.start()
    assert await asyncio.to_thread(models_at, url) == ["m:latest", "n:latest", "embed:latest"]
    await sim.stop()


async def test_what_is_no_ollama_is_not_taken_for_one() -> None:
    """A closed port and an answer of another form both mean "none"."""
    sim = SimOllama()
    url = await sim.start()
    sim.next(Plan(status=500))
    assert await asyncio.to_thread(models_at, url) is None
    sim.refuse()
    assert await asyncio.to_thread(models_at, url) is None
    await sim.stop()
