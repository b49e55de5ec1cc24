"""What talks to sockets is tested on every event loop it may run on."""

import pytest

from tests import loops


@pytest.hookimpl
def pytest_asyncio_loop_factories() -> loops.Loops:
    """Returns asyncio's own loop and, where it is installed, uvloop."""
    return loops.EVERY
