"""What 200 live pages cost those whose answers pass meanwhile, and how much memory one that never reads.

Run it where nothing else runs: ``.venv/bin/python -m tests.viewers``.  A stream with a record every 20 ms
passes the gateway while ten people keep the queue moving, in turn without and with 200 open pages, so that
what else the machine does falls on both.  The gateway and the pages are a process each.
"""

import asyncio
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import aiohttp

from gpushare.sim import Script, SimOllama
from tests.conformance.tools import Server, served
from tests.harness import chat
from tests.measures.common import at, tell

VIEWERS = 200
ROUNDS = 5
RECORDS = 400
PACE_MS = 20
PEOPLE = tuple(f"person {letter}" for letter in "bcdefghijk")
SETTINGS = f"""
[queue]
slots = 2
[server]
max_connections = 2000
max_connections_per_address = 2000
[status]
max_viewers = {VIEWERS + 1}
max_viewers_per_address = {VIEWERS + 1}
[gpu]
backend = "fake"
"""
WATCH = "GET /events?view=status HTTP/1.1\r\nHost: 127.0.0.1\r\n"


async def watch(port: int, keys: list[str]) -> None:
    """Keeps 200 pages open, a third of them without a key, and reads all they are told."""
    began: list[int] = []

    async def page(number: int) -> None:
        key = f"Authorization: Bearer {keys[number % len(keys)]}\r\n" if number % 3 else ""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{WATCH}{key}\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in answer, answer
        await reader.readuntil(b"event: meta")
        began.append(number)
        if len(began) == VIEWERS:
            tell("watching")
        while await reader.read(65536):
            pass

    async with asyncio.TaskGroup() as pages:
        for number in range(VIEWERS):
            pages.create_task(page(number))


@asynccontextmanager
async def watched(server: Server) -> AsyncIterator[None]:
    """Has 200 pages open for the block."""
    command = (sys.executable, "-m", "tests.viewers", str(server.port), *server.keys.values())
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"watching\n"
    try:
        yield
    finally:
        process.kill()
        await process.communicate()


async def gaps(session: aiohttp.ClientSession, server: Server) -> list[float]:
    """Returns the milliseconds between the records of one paced stream."""
    body = chat(f"#sim:tokens={RECORDS},delay_ms={PACE_MS}")
    async with session.post(f"{server.url}/api/chat", json=body, headers=server.bearer("alice")) as answer:
        times = [time.perf_counter() async for _ in answer.content]
    assert len(times) > RECORDS, "the stream ended early"
    return [1000 * (late - early) for early, late in pairwise(times[:-1])]


async def churn(session: aiohttp.ClientSession, server: Server, who: str) -> None:
    """Asks for short answers, one after the other, for ever."""
    while True:
        body = chat("#sim:tokens=10,delay_ms=10")
        async with session.post(f"{server.url}/api/chat", json=body, headers=server.bearer(who)) as answer:
            await answer.read()


async def compare(session: aiohttp.ClientSession, server: Server) -> None:
    """Tells the gaps of both kinds of rounds, and their 99th percentiles side by side."""
    alone: list[float] = []
    among: list[float] = []
    for number in range(1, ROUNDS + 1):
        alone += await gaps(session, server)
        async with watched(server):
            among += await gaps(session, server)
        tell(f"round {number}: p99 {at(0.99, alone):.2f} ms alone, {at(0.99, among):.2f} ms watched")
    for share in (0.5, 0.99):
        one, other = at(share, alone), at(share, among)
        tell(f"p{100 * share:.0f}: {one:.2f} ms alone, {other:.2f} ms watched: {other / one:.3f} times")


async def never_reads(session: aiohttp.ClientSession, server: Server) -> None:
    """Tells how the gateway's memory grows among pages that read, then with one that takes nothing."""

    async def grow(words: str) -> None:
        before = server.memory_bytes()
        for _ in range(3):
            await gaps(session, server)
        tell(f"memory: {before / 1e6:.1f} MB, later {server.memory_bytes() / 1e6:.1f} MB {words}")

    async with watched(server):
        await grow(f"among {VIEWERS} pages")
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", server.port))
            deaf.sendall(f"{WATCH}\r\n".encode())
            await grow("with one more that never reads")
        await grow("without it again")


async def main() -> None:
    """Runs all."""
    sim = SimOllama(Script(slots=2))
    with tempfile.TemporaryDirectory() as folder:
        address = await sim.start()
        everybody: dict[str, dict[str, object]] = {name: {} for name in PEOPLE}
        everybody["alice"] = {"weight": 100}  # or each stream would wait until the others have used as much
        async with (
            served(Path(folder), address, people=everybody, settings=SETTINGS) as server,
            aiohttp.ClientSession() as session,
            asyncio.TaskGroup() as tasks,
        ):
            people = [tasks.create_task(churn(session, server, who)) for who in PEOPLE]
            await compare(session, server)
            await never_reads(session, server)
            for one in people:
                one.cancel()
        await sim.stop()


if __name__ == "__main__":
    asyncio.run(watch(int(sys.argv[1]), sys.argv[2:]) if sys.argv[1:] else main())
