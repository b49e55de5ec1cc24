"""What people do on the pages is done to its end and noted, even if its sender leaves meanwhile.

Owns: what is being done.  Called by: ``web.pages`` (``setup``); ``web.pages.forms`` and ``controls``, around
what changes something.  Rules: a fault that nobody is left to be told of is logged; the end of the server
waits for what was begun, but not for a disk or an Ollama that hangs.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import structlog
from aiohttp import web

from gpushare.core.errors import GpushareError
from gpushare.web.parts import REQUEST_ID

LAST_S = 2.0
"""How long the end of the server waits for what was begun."""

_Done = TypeVar("_Done")

_log = structlog.get_logger()


class Acts:
    """Everything that is being done; it lives as long as the application."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._doing: set[asyncio.Task[None]] = set()

    async def lifetime(self, _app: web.Application) -> AsyncIterator[None]:
        """For aiohttp's ``cleanup_ctx``, which goes on here once no handler is left to begin anything."""
        async with self._group:
            yield
            if self._doing:
                _, late = await asyncio.wait(self._doing, timeout=LAST_S)
                for task in late:
                    task.cancel()

    def begin(self, act: Coroutine[Any, Any, _Done], request_id: str) -> asyncio.Future[_Done]:
        """Returns what comes of an act that goes on when nobody waits for it any more.

        Args:
            act: what is to be done.
            request_id: whose fault it is called in the log.
        """
        outcome: asyncio.Future[_Done] = asyncio.get_running_loop().create_future()
        task = self._group.create_task(self._do(act, outcome, request_id))
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)
        return outcome

    async def _do(
        self, act: Coroutine[Any, Any, _Done], outcome: asyncio.Future[_Done], request_id: str
    ) -> None:
        try:
            done = await act
        except asyncio.CancelledError:
            outcome.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - told to whoever waits, else logged
            if not outcome.done():
                outcome.set_exception(error)
            elif not isinstance(error, GpushareError):
                _log.error("request.failed", request=request_id, error=type(error).__name__, exc_info=True)
        else:
            if not outcome.done():
                outcome.set_result(done)


ACTS = web.AppKey("acts", Acts)


async def to_its_end(request: web.Request, act: Coroutine[Any, Any, _Done]) -> _Done:
    """Returns what comes of an act; if the sender of the request leaves, it is done all the same.

    Raises:
        Exception: whatever the act raised.
    """
    return await request.app[ACTS].begin(act, request[REQUEST_ID])
