"""The room that is left."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from gpushare.app import disk
from gpushare.core.doctor.facts import Disk
from gpushare.web.parts import Parts


async def test_the_disk_of_the_state_directory_is_looked_at(tmp_path: Path) -> None:
    """Again and again, beside the loop, until cancelled."""
    parts = SimpleNamespace(disk=None)
    watching = asyncio.create_task(disk.watch_disk(cast("Parts", parts), tmp_path))
    while parts.disk is None:
        await asyncio.sleep(0.01)
    assert isinstance(parts.disk, Disk)
    assert 0 <= parts.disk.free <= parts.disk.total
    watching.cancel()
    await asyncio.wait([watching])
    assert watching.cancelled()
