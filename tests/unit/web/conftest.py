"""Runs what depends on the event loop on every loop the gateway may be given."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from tests.unit.web.wire import Bench

ON_EVERY_LOOP = {"test_protocol.py", "test_transport.py"}
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Returns the loops a test runs on: asyncio's own, and uvloop where it is installed."""
    loops: dict[str, LoopFactory] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in ON_EVERY_LOOP:
        try:
            import uvloop
        except ImportError:
            return loops
        loops["uvloop"] = uvloop.new_event_loop
    return loops


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A server of ours on loopback; tests set its limits before ``start`` and its handler at any time."""
    server = Bench()
    yield server
    await server.stop()
