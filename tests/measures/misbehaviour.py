"""What others feel of clients that misbehave.

``python -m tests.measures.misbehaviour KIND PORT KEY`` is one kind, in a process that goes on until its end.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

from tests.conformance.tools import ROOT, dial, environment, head
from tests.harness import chat
from tests.measures.common import table, tell
from tests.measures.paired import HEAD, RECORDS, STREAMS, Pair, Ruler, ruler

ROUNDS = 5
SLOW = 100
"""Clients of each slow kind; a kind without a key has fewer places."""
LARGE_BYTES = 31_000_000
MANY = 400


# --- what one process does ---------------------------------------------------------------------------------


def call(key: str, data: bytes) -> bytes:
    """Returns a call with this body."""
    return head("POST", "/api/chat", f"Authorization: Bearer {key}", f"Content-Length: {len(data)}") + data


async def reads_slowly(port: int, key: str) -> None:
    """Asks for a long answer and takes a hundred bytes of it in a tenth of a second."""
    body = json.dumps(chat("#sim:tokens=20000,gather=200")).encode()
    async with dial(port, receive_bytes=4096) as wire:
        await wire.send(call(key, body))
        while await wire.take(100):
            await asyncio.sleep(0.1)


async def sends_slowly(port: int, key: str) -> None:
    """Sends a call in pieces of ten bytes, ten a second."""
    data = call(key, json.dumps(chat("x" * 10_000)).encode())
    async with dial(port) as wire:
        for place in range(0, len(data), 10):
            await wire.send(data[place : place + 10])
            await asyncio.sleep(0.1)


async def sends(body: bytes, port: int, key: str) -> None:
    """Sends a large body and reads the answer."""
    async with dial(port) as wire:
        await wire.send(call(key, body))
        await wire.until(b"\r\n\r\n")


async def comes_and_goes(port: int, key: str) -> None:
    """Connects, says nothing, and goes after a second."""
    async with dial(port):
        await asyncio.sleep(1)


def filled(unit: bytes) -> bytes:
    """Returns a large body whose list of messages is full of something."""
    before, after = b'{"model":"none","messages":[', b"0]}"
    return before + unit * ((LARGE_BYTES - len(before) - len(after)) // len(unit)) + after


Deed = Callable[[int, str], Awaitable[None]]
KINDS: dict[str, tuple[int, Callable[[], Deed]]] = {
    f"slow readers, {SLOW}": (SLOW, lambda: reads_slowly),
    f"slow senders, {SLOW}": (SLOW, lambda: sends_slowly),
    "bodies of 31 MB, one text": (1, lambda: partial(sends, filled(b'"' + b"x" * 1_000_000 + b'",'))),
    "bodies of 31 MB, full of lists": (1, lambda: partial(sends, filled(b"[],"))),
    "bodies of 31 MB, full of numbers": (1, lambda: partial(sends, filled(b"1,"))),
    f"connections, {MANY} a second": (MANY, lambda: comes_and_goes),
}
"""How many clients do what at a time, each again and again."""


async def misbehave(kind: str, port: int, key: str) -> None:
    """Does it for ever."""
    clients, make = KINDS[kind]
    deed = make()

    async def client(number: int) -> None:
        await asyncio.sleep(number / clients)
        while True:
            with suppress(OSError, AssertionError, TimeoutError):
                await deed(port, key)
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as tasks:
        for number in range(clients):
            tasks.create_task(client(number))
        tell("begun")


# --- what others feel of it --------------------------------------------------------------------------------


@asynccontextmanager
async def misbehaving(meter: Ruler, kind: str) -> AsyncIterator[None]:
    """Has one kind of misbehaviour for the block."""
    command = (sys.executable, "-m", "tests.measures.misbehaviour")
    child = await asyncio.create_subprocess_exec(
        *(*command, kind, str(meter.server.port), meter.server.keys["other"]),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"begun\n"
    await asyncio.sleep(1)  # all of its clients are there by now
    try:
        yield
    finally:
        child.kill()
        await child.communicate()


async def measure(*, rounds: int = ROUNDS, records: int = RECORDS) -> dict[str, Pair]:
    """Tells what others feel of each kind, and returns it."""
    async with ruler(people={"other": {"max_running": 2}}) as meter:
        found = {
            kind: await meter.pair(partial(misbehaving, meter, kind), rounds=rounds, records=records)
            for kind in KINDS
        }
    tell(f"What {STREAMS} streams and short calls of others feel of it; in ms at p99:")
    table(("beside them", *HEAD), ((kind, *pair.row()) for kind, pair in found.items()))
    return found


if __name__ == "__main__":
    asyncio.run(misbehave(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
