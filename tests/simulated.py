"""A simulated Ollama for a test; modules that want it import the fixture."""

from collections.abc import AsyncIterator

import pytest

from gpushare.sim import SimOllama


@pytest.fixture
async def sim() -> AsyncIterator[SimOllama]:
    """A simulated Ollama with its usual models."""
    server = SimOllama()
    await server.start()
    yield server
    await server.stop()
