"""A process with a ledger of its own, for what cannot be done to the process of the tests.

It reads one word a line and answers each with one line of JSON: ``add N`` appends so many calls, ``limit
BYTES`` bounds the size of files (0: no more), ``state`` only asks, ``end`` ends it.
"""

import asyncio
import json
import os
import resource
import sys
import time
from pathlib import Path

from msgspec.structs import asdict, replace

from gpushare.edge.store import Store
from tests.unit.records import CALL


async def main(path: Path, user: int) -> None:
    """Obeys until told to end."""
    if user:
        os.setgid(user)
        os.setuid(user)
    events: list[str] = []
    store = Store(path, keep_s=1e9, report=lambda event, _: events.append(event))
    await store.open()
    number = 0
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(0, "rb", buffering=0)
    )
    while line := (await lines.readline()).split():
        word, value = line[0].decode(), int(line[1]) if len(line) > 1 else 0
        match word:
            case "add":
                for _ in range(value):
                    number += 1
                    store.append(replace(CALL, request_id=f"r_{number}", ended_at=time.time()))
            case "limit":
                hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
                resource.setrlimit(resource.RLIMIT_FSIZE, (value or hard, hard))
            case "end":
                await store.close()
        answer = {**asdict(store.state), "events": events}
        print(json.dumps(answer), flush=True)  # noqa: T201 - its way of answering
        if word == "end":
            break


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
