"""Tests of deadlines run on a loop whose clock jumps to the next timer instead of waiting for it."""

import asyncio
import selectors
from collections.abc import Callable, Mapping

import pytest

JUMPING = ("test_deadlines.py", "test_dial.py", "test_relay.py")


class JumpingSelector(selectors.DefaultSelector):
    """Advances the clock by what the loop wanted to sleep, if nothing else is ready."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Returns what is ready at once, or lets the time pass."""
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0 if timeout else timeout)
        if not ready and timeout:
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop in which waiting for a timer takes no time."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Returns the time it would be."""
        return self._jumping.now


@pytest.hookimpl
def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Returns the loop that the file of the test is made for."""
    return {"jumping": JumpingLoop} if item.path.name in JUMPING else {"asyncio": asyncio.new_event_loop}
