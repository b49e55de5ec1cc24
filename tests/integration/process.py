"""A gateway in a process of its own, and calls to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from gpushare.sim import Entry, Script, SimOllama, State
from tests.conformance.tools import Server, body_of, served

PEOPLE: dict[str, dict[str, object]] = {"alice": {}, "bob": {}}


@asynccontextmanager
async def process(folder: Path, settings: str = "") -> AsyncIterator[tuple[Server, SimOllama]]:
    """Runs ``gpushare serve`` in front of a simulated Ollama."""
    sim = SimOllama(Script(slots=4))
    await sim.start()
    try:
        async with served(folder, sim.url, people=PEOPLE, settings=settings) as server:
            yield server, sim
    finally:
        await sim.stop()


class Client:
    """Calls to a gateway in another process; each answer is a task's result."""

    def __init__(self, server: Server, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session

    async def ask(self, path: str, body: object, who: str) -> tuple[int, dict[str, str], bytes]:
        """Sends one call; the body of an answer that is cut is what came of it."""
        url = self._server.url + path
        async with self._session.post(url, json=body, headers=self._server.bearer(who)) as response:
            return response.status, dict(response.headers), await response.read()

    async def settled(self, *, waiting: int) -> None:
        """Waits until so many calls wait."""
        async with asyncio.timeout(30):
            while True:
                async with self._session.get(
                    self._server.url + "/gpushare/v1/status", headers=self._server.bearer("alice")
                ) as response:
                    if len((await response.json())["waiting"]) == waiting:
                        return


@asynccontextmanager
async def streaming(
    folder: Path, settings: str = "", path: str = "/api/chat"
) -> AsyncIterator[tuple[Server, Client, Entry, asyncio.Task[tuple[int, dict[str, str], bytes]]]]:
    """Runs a process in which one answer of alice's has begun and stalls."""
    async with (
        process(folder, settings) as (server, sim),
        aiohttp.ClientSession() as session,
        asyncio.TaskGroup() as tasks,
    ):
        client = Client(server, session)
        body = body_of(path, "#sim:tokens=4,fault=stall@2", stream=True)
        running = tasks.create_task(client.ask(path, body, "alice"))
        entry = await sim.arrived(0, path=path)
        await entry.reached(State.STALLED)
        yield server, client, entry, running
