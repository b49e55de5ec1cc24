"""Reaching Ollama for one call: a dial, once more if it fails, given up when nobody needs it.

Called by: ``engine.relay``.
"""

import asyncio

from gpushare.core.errors import Fault
from gpushare.core.model import UpstreamRequest
from gpushare.engine.ports import Consumer, Exchange, Upstream

AGAIN_S = 0.1
"""Pause before the second dial."""


class Dial:
    """The way to one exchange; made for one ``open``."""

    __slots__ = ("_given_up", "_task")

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._given_up = False

    async def open(self, upstream: Upstream, request: UpstreamRequest, consumer: Consumer) -> Exchange | None:
        """Connects and sends the request; returns None if it was given up.

        Raises:
            Fault: both dials failed, or what was sent was not taken.
            asyncio.CancelledError: somebody else cancelled the task, perhaps besides.
        """
        task = self._task = asyncio.current_task()
        try:
            try:
                return await upstream.open(request, consumer)
            except Fault as fault:
                if fault.sent:
                    raise
            await asyncio.sleep(AGAIN_S)
            return await upstream.open(request, consumer)
        except asyncio.CancelledError:
            if not self._given_up or (task is not None and task.uncancel()):
                raise
            return None
        finally:
            self._task = None

    def give_up(self) -> None:
        """Ends a dial, by one cancellation of its task; does nothing before and after it."""
        if self._task is not None and not self._given_up:
            self._given_up = True
            self._task.cancel()
