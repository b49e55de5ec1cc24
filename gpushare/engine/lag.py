"""How late the event loop is: the one figure that tells of a process with more to do than it can.

Called by: ``app`` (runs it), metrics (read ``worst_s``).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

STEP_S = 0.25
STEPS = 40  # the last 10 s


class LoopLag:
    """Sets itself a timer again and again, and keeps how late each one was.

    Args:
        clock: monotonic seconds.
        sleep: how a timer is waited for.
    """

    def __init__(
        self, *, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._late: deque[float] = deque(maxlen=STEPS)

    @property
    def worst_s(self) -> float:
        """The most a timer of the last ten seconds was late, in seconds."""
        return max(self._late, default=0.0)

    async def run(self) -> None:
        """Measures until cancelled."""
        while True:
            due = self._clock() + STEP_S
            await self._sleep(STEP_S)
            self._late.append(max(0.0, self._clock() - due))
