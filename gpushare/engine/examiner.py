"""The last examination of the server by itself, made anew when somebody looks and it is a minute old.

Owns: what was found.  Called by: ``app`` (runs it), pages (look).  Rules: who looks never waits; while nobody
looks, nothing is examined.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gpushare.core.doctor import Report

FRESH_S = 60.0

_log = structlog.get_logger()


class Examiner:
    """Examines when asked.

    ``report`` is what was found last, None before the first time; ``at`` is when that was, in monotonic
    seconds, whatever has failed since.

    Args:
        examine: finds out what ``gpushare doctor`` tells; may take some seconds, and may fail.
        clock: monotonic seconds.
    """

    def __init__(self, examine: Callable[[], Awaitable[Report]], clock: Callable[[], float]) -> None:
        self._examine = examine
        self._clock = clock
        self._asked = asyncio.Event()
        self.report: Report | None = None
        self.at = self._tried_at = float("-inf")

    def look(self) -> Report | None:
        """Returns what was found last; what is old is found out anew meanwhile."""
        if self._clock() - self._tried_at >= FRESH_S:
            self._asked.set()
        return self.report

    async def run(self) -> None:
        """Examines as often as asked, until cancelled."""
        while True:
            await self._asked.wait()
            try:
                self.report = await self._examine()
                self.at = self._clock()
            except Exception:  # noqa: BLE001 - the next one may succeed
                _log.exception("doctor.failed")
            self._tried_at = self._clock()
            self._asked.clear()
