"""The event loops that tests run on: asyncio's own, and uvloop where it is installed, as in the service."""

import asyncio
from collections.abc import Callable, Mapping

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
Loops = Mapping[str, LoopFactory]
ASYNCIO: Loops = {"asyncio": asyncio.new_event_loop}


def find_uvloop() -> Loops:
    """Returns uvloop, or nothing."""
    try:
        import uvloop
    except ImportError:
        return {}
    uvloop.new_event_loop().close()  # the first of a process leaves a pipe open, which is no test's
    return {"uvloop": uvloop.new_event_loop}


SERVICE: Loops = find_uvloop() or ASYNCIO
"""The one the service has here."""
EVERY: Loops = {**ASYNCIO, **SERVICE}
