"""The live page of a real gateway: what happens in the queue is on the page within a second."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from gpushare.core.notices import LATE_S
from gpushare.engine.lag import STEP_S
from gpushare.sim import Script, SimModel
from tests.harness import CANARY, PATIENCE, Gate, chat, gateway


def slow(tokens: int) -> Script:
    """Returns an Ollama that says so many tokens, twenty in a second."""
    return Script(models=(SimModel(name="m:latest", tokens_per_s=20.0),), tokens=tokens)


@asynccontextmanager
async def watching(gate: Gate, who: str | None = None, query: str = "") -> AsyncIterator["Told"]:
    """Watches the status page for the block."""
    headers = gate.bearer(who) if who else {}
    async with (
        aiohttp.ClientSession(timeout=PATIENCE) as session,
        session.get(f"{gate.url}/events{query}", headers=headers) as answer,
    ):
        assert answer.status == 200
        yield Told(answer)


class Told:
    """What a viewer was told, event by event."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.everything = ""

    async def until(self, words: str) -> float:
        """Reads until the words were told; returns when that was, on the loop's clock."""
        async with asyncio.timeout(30):
            while True:
                line = (await self._answer.content.readline()).decode()
                assert line, f"the stream ended before {words!r}"
                self.everything += line
                if words in line:
                    return asyncio.get_running_loop().time()

    async def end(self) -> None:
        """Reads to the end."""
        async with asyncio.timeout(30):
            self.everything += (await self._answer.content.read()).decode()


async def test_what_happens_is_told(tmp_path: Path) -> None:
    """P38: a call that comes, starts, waits and is cancelled is seen by everybody, as each may see it."""
    async with (
        gateway(tmp_path, script=slow(5000)) as gate,
        asyncio.TaskGroup() as tasks,
        watching(gate) as stranger,
        watching(gate, "bob") as bob,
        watching(gate, "root") as root,
    ):
        for viewer in (stranger, bob, root):
            await viewer.until("Free: a request starts at once")
        running = tasks.create_task(gate.post("/api/chat", chat(CANARY), who="alice"))
        waiting = tasks.create_task(gate.post("/api/chat", chat(CANARY), who="bob"))
        for viewer in (stranger, bob, root):
            await viewer.until("Busy: 1 running, 1 waiting")
        await bob.until("1. bob (you)")
        await root.until("tokens")
        view = gate.parts.slots.snapshot()
        for who, request_id in (("bob", view.waiting[0].id), ("alice", view.running[0].id)):
            await gate.request("DELETE", f"/gpushare/v1/queue/{request_id}", who=who)
        for viewer in (stranger, bob, root):
            await viewer.until("Free: a request starts at once")
        assert (await waiting)[0] == 410
        await running
        for name in ("alice", "bob"):
            assert name not in stranger.everything
            assert name in bob.everything
        assert CANARY not in stranger.everything + bob.everything + root.everything


async def test_a_loop_that_is_late_is_told(gate: Gate) -> None:
    """P38: whoever looks learns that what they see may be late."""
    async with watching(gate) as page:
        await page.until("event: meta")
        time.sleep(LATE_S + 2 * STEP_S)  # noqa: ASYNC251 - that is the fault
        await page.until("The server itself has more to do than it can")


async def test_a_withdrawn_key_ends_its_stream(gate: Gate) -> None:
    """What the key file says holds for streams too, without anybody asking."""
    async with watching(gate, "bob") as bob, watching(gate, "alice") as alice:
        await bob.until("event: meta")
        await alice.until("event: meta")
        record = next(record for record in gate.key_file.load().records if record.name == "bob")
        gate.key_file.edit(lambda ring: ring.changed([record.id], revoked=datetime.now(UTC)))
        await bob.until("event: bye")
        await bob.until('"why":"signed-out"')
        await bob.end()
        assert "event: bye" not in alice.everything
        status, _, body = await gate.request("GET", "/events", who="bob")
        assert (status, json.loads(body)["error"]["code"]) == (401, "key_expired")


async def test_viewers_leave_before_the_running_calls_are_waited_for(tmp_path: Path) -> None:
    """P22: at the beginning of the end viewers hear when to come back; what runs is not touched."""
    async with (
        gateway(tmp_path, script=slow(20)) as gate,
        watching(gate) as viewer,
    ):
        await viewer.until("Free")
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(gate.post("/api/chat", chat()))
            await viewer.until("Busy: 1 running")
            end = tasks.create_task(gate.running.drain(30.0))
            await viewer.until('"why":"restart"')
            await viewer.end()
            status, headers, _ = await gate.request("GET", "/events", who=None)
            assert (status, 1 <= int(headers["Retry-After"]) <= 30) == (503, True)
            assert not end.done()
            assert gate.parts.gateway.live
        status, _, body = call.result()
        assert status == 200
        assert body.count(b"\n") == 21
