"""Fixtures of the hostile suite, its event loop, and the check that nothing hostile got into a log."""

import socket
from collections.abc import Iterator

import pytest

from tests import loops
from tests.harness import CANARY, gate, nothing_left

__all__ = ["gate", "nothing_left", "nothing_logged", "trap"]


def pytest_asyncio_loop_factories() -> loops.Loops:
    """Returns the service's loop."""
    return loops.SERVICE


@pytest.fixture(autouse=True)
def nothing_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Checks what libraries and the connection log: nothing that was sent, and no error of ours.

    What the product logs itself is checked by ``Gate.rest`` after each test.
    """
    yield
    lines = [record.getMessage() for record in caplog.get_records("call")]
    assert not [line for line in lines if CANARY in line or "gs_" in line]
    assert not [record for record in caplog.get_records("call") if record.levelname in ("ERROR", "CRITICAL")]


@pytest.fixture
def trap() -> Iterator[socket.socket]:
    """A port that nobody has a reason to dial."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock
