"""What tests of the web layer start, and on which event loops they run."""

from collections.abc import AsyncIterator

import pytest

from gpushare.core.config import Config, Metrics, Server, Status
from tests import loops
from tests.unit.web.site import Site, open_site
from tests.unit.web.wire import Bench

ON_EVERY_LOOP = {"test_protocol.py", "test_listening.py", "test_transport.py"}


def pytest_asyncio_loop_factories(item: pytest.Item) -> loops.Loops:
    """Returns the loops a test runs on: asyncio's own, and for some uvloop where it is installed."""
    return loops.EVERY if item.path.name in ON_EVERY_LOOP else loops.ASYNCIO


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A server of ours on loopback; tests set its limits before ``start`` and its handler at any time."""
    server = Bench()
    yield server
    await server.stop()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """The pages with the default configuration."""
    async for each in open_site(Config()):
        yield each


@pytest.fixture
async def closed_site() -> AsyncIterator[Site]:
    """The pages of a server that shows nothing without a key and has no metrics."""
    async for each in open_site(Config(status=Status(anonymous="off"), metrics=Metrics(enabled=False))):
        yield each


@pytest.fixture
async def far_site() -> AsyncIterator[Site]:
    """The pages of a server whose metrics are for another network."""
    async for each in open_site(Config(metrics=Metrics(allow=("10.0.0.0/8",)))):
        yield each


@pytest.fixture
async def listed_site() -> AsyncIterator[Site]:
    """The pages of a server whose API a foreign page may use."""
    async for each in open_site(Config(server=Server(allowed_origins=("https://chat.example",)))):
        yield each


@pytest.fixture
async def public_site() -> AsyncIterator[Site]:
    """The pages of a server that people reach under another address, through a proxy with TLS."""
    async for each in open_site(Config(server=Server(public_url="https://gpu.example.lan"))):
        yield each
