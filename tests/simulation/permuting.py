"""An event loop that runs what is ready in any order, on a clock that jumps to the next timer.

asyncio runs callbacks in the order in which they became ready, so a test on it sees one order of many.  Here
a seed decides, anew in each pass.  What holds for all seeds rests on no order that nobody promised.
"""

import asyncio
import heapq
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

Result = TypeVar("Result")


class Stuck(RuntimeError):
    """Nothing is ready and no timer runs, but somebody still waits."""


class PermutingLoop(asyncio.SelectorEventLoop):
    """The loop; ``after`` is called when a pass is over."""

    _ready: Any
    _scheduled: Any

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._now = 0.0
        self._rng = rng
        self.after: Callable[[], None] = lambda: None
        self.passes = 0

    def time(self) -> float:
        """Returns the time it would be."""
        return self._now

    def timers(self) -> int:
        """Returns how many timers would still fire."""
        return sum(not handle.cancelled() for handle in self._scheduled)

    def _run_once(self) -> None:
        """Runs everything that is ready once, in a new order."""
        self._drop_cancelled()
        if not self._ready:
            if not self._scheduled:
                raise Stuck
            self._now = max(self._now, self._scheduled[0].when())
        while self._scheduled and self._scheduled[0].when() <= self._now:
            self._ready.append(self._pop())
            self._drop_cancelled()
        handles = list(self._ready)
        self._rng.shuffle(handles)
        self._ready.clear()
        self._ready.extend(handles)
        super()._run_once()  # type: ignore[misc]
        self.passes += 1
        self.after()

    def _drop_cancelled(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            self._pop()
            self._timer_cancelled_count -= 1

    def _pop(self) -> asyncio.TimerHandle:
        handle: Any = heapq.heappop(self._scheduled)
        handle._scheduled = False  # noqa: SLF001 - as the loop itself does
        return cast("asyncio.TimerHandle", handle)

    _timer_cancelled_count: int


def run(make: Callable[[PermutingLoop], Coroutine[Any, Any, Result]], rng: random.Random) -> Result:
    """Runs a coroutine on a loop of its own and returns what it returned."""
    loop = PermutingLoop(rng)
    try:
        return loop.run_until_complete(make(loop))
    finally:
        loop.close()
