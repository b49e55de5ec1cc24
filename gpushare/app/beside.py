"""Work that may take its time, in a thread of its own that nobody waits for at the end.

Called by: whatever in ``app`` asks the disk or the machine.  Rules: a disk that hangs, or a file of a
gigabyte that is read through, must not keep the process from ending; a pool's threads would.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

NAME = "beside"
"""Of every such thread."""

_Found = TypeVar("_Found")


async def beside(work: Callable[[], _Found]) -> _Found:
    """Returns what the work finds; whoever is cancelled leaves it to itself.

    Raises:
        Exception: whatever the work raised.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[_Found] = loop.create_future()

    def settle(settled: Callable[[], None]) -> None:
        if not result.done():  # else it was given up
            settled()

    def run() -> None:
        try:
            settled = partial(result.set_result, work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            settled = partial(result.set_exception, error)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, settled)

    threading.Thread(target=run, daemon=True, name=NAME).start()
    return await result
