"""Running streams with and without something beside them, in turn, so that all else falls on both."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp

from gpushare.sim import Script, SimOllama
from tests.conformance.tools import Server, served
from tests.harness import chat
from tests.measures.common import at

STREAMS = 4
PACE_MS = 20
RECORDS = 200
PEOPLE: dict[str, dict[str, Any]] = {
    **{f"reader{number}": {} for number in range(STREAMS)},
    "prober": {},
    "other": {},
}
SETTINGS = f"""
[queue]
slots = {STREAMS + 4}
[gpu]
backend = "none"
"""


@dataclass(slots=True)
class Felt:
    """What well-behaved callers felt, in ms: between tokens, and from asking to the first one."""

    gaps: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    processor_s: float = 0.0
    seconds: float = 0.0


@dataclass(slots=True)
class Pair:
    """The same callers alone and beside something."""

    alone: Felt = field(default_factory=Felt)
    beside: Felt = field(default_factory=Felt)

    def row(self) -> tuple[str, ...]:
        """Returns the 99th percentiles side by side, and what was added."""
        cells = []
        for kind in ("gaps", "firsts"):
            one, other = (at(0.99, getattr(felt, kind)) for felt in (self.alone, self.beside))
            cells += [f"{one:.1f}", f"{other:.1f}", f"{other - one:+.1f}"]
        return tuple(cells)


HEAD = ("gap alone", "beside", "added", "first token alone", "beside", "added")
"""Of ``Pair.row``; all are 99th percentiles in ms."""


@dataclass(slots=True)
class Ruler:
    """A gateway in a process of its own, and well-behaved callers of it."""

    server: Server
    sim: SimOllama
    session: aiohttp.ClientSession

    async def pair(
        self,
        beside: Callable[[], AbstractAsyncContextManager[object]],
        *,
        rounds: int,
        records: int = RECORDS,
    ) -> Pair:
        """Returns what callers felt in so many rounds of each kind."""
        found = Pair()
        for _ in range(rounds):
            await self._round(found.alone, records)
            async with beside():
                await self._round(found.beside, records)
        return found

    async def ask(self, body: dict[str, Any], who: str) -> tuple[int, bytes]:
        """Sends one call; returns status and body."""
        url, headers = f"{self.server.url}/api/chat", self.server.bearer(who)
        async with self.session.post(url, json=body, headers=headers) as answer:
            return answer.status, await answer.read()

    async def until_waiting(self, count: int) -> None:
        """Waits until so many calls are in the queue."""
        while len((await self._status())["waiting"]) != count:
            await asyncio.sleep(0.01)

    async def _status(self) -> dict[str, Any]:
        url, headers = f"{self.server.url}/gpushare/v1/status", self.server.bearer("prober")
        async with self.session.get(url, headers=headers) as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def _round(self, felt: Felt, records: int) -> None:
        before, begun = self.server.processor_s(), time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            streams = [tasks.create_task(self._stream(felt, f"reader{n}", records)) for n in range(STREAMS)]
            while not all(stream.done() for stream in streams):
                await self._probe(felt)
                await asyncio.sleep(0.03)
        felt.processor_s += self.server.processor_s() - before
        felt.seconds += time.perf_counter() - begun

    async def _stream(self, felt: Felt, who: str, records: int) -> None:
        body = chat(f"#sim:tokens={records},delay_ms={PACE_MS}")
        async with self._post(body, who) as answer:
            times = [time.perf_counter() async for _ in answer.content]
        assert len(times) > records, "a stream ended early"
        felt.gaps += [1000 * (late - early) for early, late in pairwise(times[:-1])]

    async def _probe(self, felt: Felt) -> None:
        begun = time.perf_counter()
        async with self._post(chat("#sim:tokens=2"), "prober") as answer:
            await answer.content.readline()
            felt.firsts.append(1000 * (time.perf_counter() - begun))
            await answer.read()

    @asynccontextmanager
    async def _post(self, body: dict[str, Any], who: str) -> AsyncIterator[aiohttp.ClientResponse]:
        url, headers = f"{self.server.url}/api/chat", self.server.bearer(who)
        async with self.session.post(url, json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.read()
            yield answer


@asynccontextmanager
async def ruler(settings: str = "", people: dict[str, dict[str, Any]] | None = None) -> AsyncIterator[Ruler]:
    """Starts it all; further settings may follow those of the queue."""
    sim = SimOllama(Script(slots=STREAMS + 4, memory=60_000_000_000))
    address = await sim.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with (
                served(
                    Path(folder), address, people=PEOPLE | (people or {}), settings=SETTINGS + settings
                ) as server,
                aiohttp.ClientSession() as session,
            ):
                yield Ruler(server, sim, session)
    finally:
        await sim.stop()
