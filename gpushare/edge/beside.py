"""Work that may take its time, in a thread of its own that nobody waits for at the end.

Called by: whatever in ``edge`` and ``app`` asks the disk, the machine or a name server.  Rules: a disk that
hangs, or a file of a gigabyte that is read through, must not keep the process from ending; a pool's threads
would.
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


async def beside(work: Callable[[], _Found], *, within: asyncio.Semaphore | None = None) -> _Found:
    """Returns what the work finds; whoever is cancelled leaves it to itself.

    Args:
        work: called in a thread of its own.
        within: how many such works may run at once.  One that was left to itself keeps its place to its end.

    Raises:
        Exception: whatever the work raised.
    """
    places = within or asyncio.Semaphore()
    await places.acquire()
    loop = asyncio.get_running_loop()
    result: asyncio.Future[_Found] = loop.create_future()

    def settle(settled: Callable[[], None]) -> None:
        places.release()
        if not result.done():  # else it was given up
            settled()

    def run() -> None:
        try:
            settled = partial(result.set_result, work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            settled = partial(result.set_exception, error)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, settled)

    try:
        threading.Thread(target=run, daemon=True, name=NAME).start()
    except RuntimeError:  # the machine has none left
        places.release()
        raise
    return await result
