"""How much room is left where what outlives the process is kept: looked at every minute.

Owns: ``Parts.disk``.  Called by: ``app.serving``, as a task.  Rules: a disk may take its time, so it is asked
beside the loop.
"""

import asyncio
from pathlib import Path

from gpushare.edge import kernel
from gpushare.edge.beside import beside
from gpushare.web.parts import Parts

DISK_POLL_S = 60.0


async def watch_disk(parts: Parts, folder: Path) -> None:
    """Looks again and again, until cancelled."""
    while True:
        parts.disk = await beside(lambda: kernel.disk(folder))
        await asyncio.sleep(DISK_POLL_S)
