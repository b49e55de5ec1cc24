"""Fixtures of the integration suite, and the event loops it runs on."""

import pytest

from tests import loops
from tests.harness import gate, nothing_left

__all__ = ["gate", "nothing_left"]

MATRIX = "test_a_fault_in_a_state"


def pytest_asyncio_loop_factories(item: pytest.Item) -> loops.Loops:
    """Returns the service's loop, and for the fault matrix asyncio's own besides."""
    return loops.EVERY if item.name == MATRIX else loops.SERVICE
