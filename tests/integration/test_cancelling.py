"""Calls that somebody cancels: the tool is told in its own format, Ollama stops, and nothing stays behind."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from gpushare.core.model import Phase
from gpushare.edge.store import Store
from gpushare.sim import State
from tests.conformance.tools import DIALECTS, body_of, busy, calls, error_of, frames, know_models, last_done
from tests.harness import Gate, chat, gateway
from tests.unit.web.browser import browser

LONG = "#sim:tokens=3000,delay_ms=2"


async def cancel(gate: Gate, request_id: str, *, who: str | None = "alice") -> tuple[int, bytes]:
    """Cancels a call and returns status and body of the answer."""
    status, _, body = await gate.request("DELETE", f"/gpushare/v1/queue/{request_id}", who=who)
    return status, body


def live_id(gate: Gate, person: str = "alice") -> str:
    """Returns the id of a person's one call."""
    (found,) = [key for key, live in gate.parts.gateway.live.items() if live.who.name == person]
    return found


@pytest.mark.parametrize("path", DIALECTS)
@pytest.mark.parametrize("who", ["alice", "root"])
async def test_a_waiting_call_is_cancelled(gate: Gate, path: str, who: str) -> None:
    """P3: it leaves the queue at once with 410 in its dialect, and Ollama never hears of it."""
    await know_models(gate)
    async with busy(gate) as holder, asyncio.TaskGroup() as tasks:
        call = tasks.create_task(gate.post(path, body_of(path, "waits")))
        await gate.waiting(1)
        request_id = live_id(gate)
        assert await cancel(gate, request_id, who=who) == (
            200,
            json.dumps({"schema": "gpushare.cancelled/1", "id": request_id}, separators=(",", ":")).encode(),
        )
        status, headers, body = await call
        assert gate.parts.slots.snapshot().waiting == ()
        assert calls(gate) == [holder]
    assert (status, headers["x-should-retry"]) == (410, "false")
    assert error_of(path, body) == (
        "This request was cancelled, on the status page or from a terminal."
        if who == "alice"
        else "An admin of this server cancelled this request."
    )
    await gate.until(lambda: len(gate.logs) and last_done(gate)["outcome"] == "ok")
    assert {line["outcome"]: line["phase"] for line in gate.logs if line["event"] == "request.done"} == {
        "cancelled": "queue",
        "ok": "data",
    }


@pytest.mark.parametrize("path", DIALECTS)
async def test_a_running_stream_is_cancelled(gate: Gate, path: str) -> None:
    """P4: its last record is the error, the slot is free and Ollama's connection closed."""
    await know_models(gate)
    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(gate.post(path, body_of(path, LONG, stream=True)))
        entry = await gate.sim.arrived(0, path=path)
        await entry.reached(State.STREAMING)
        await gate.until(
            lambda: any(live.relay and live.relay.records for live in gate.parts.gateway.live.values())
        )
        assert (await cancel(gate, live_id(gate)))[0] == 200
        await entry.reached(State.CANCELLED)
        status, _, body = await call
    assert status == 200
    last = json.loads(body.splitlines()[-1]) if path == "/api/chat" else frames(body)[-1]
    assert "cancelled" in json.dumps(last["error"])
    await gate.until(lambda: not gate.parts.gateway.live)
    assert (last_done(gate)["outcome"], last_done(gate)["status"]) == ("cancelled", 200)
    assert gate.parts.slots.snapshot().held == 0


@pytest.mark.parametrize("path", DIALECTS)
async def test_a_call_without_a_byte_yet_is_cancelled(gate: Gate, path: str) -> None:
    """While Ollama evaluates the prompt nothing is out, so the answer is still a 410."""
    await know_models(gate)
    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(gate.post(path, body_of(path, "#sim:ttft_ms=60000")))
        entry = await gate.sim.arrived(0, path=path)
        await entry.reached(State.PROMPT)
        assert (await cancel(gate, live_id(gate)))[0] == 200
        await entry.reached(State.CANCELLED)
        status, headers, body = await call
    assert (status, headers["x-should-retry"]) == (410, "false")
    assert "cancelled" in error_of(path, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What ends a call whose connection to Ollama is still being dialled, and what its tool is told."""

    act: Callable[[Gate], Awaitable[object]]
    status: int
    outcome: str
    settings: str = ""


async def revoke(gate: Gate) -> None:
    """Ends alice's key."""
    ids = [record.id for record in gate.parts.ring.records if record.name == "alice"]
    gate.key_file.edit(lambda ring: ring.changed(ids, revoked=datetime.now(UTC)))


CAUSES = {
    "owner": Cause(act=lambda gate: cancel(gate, live_id(gate)), status=410, outcome="cancelled"),
    "admin": Cause(act=lambda gate: cancel(gate, live_id(gate), who="root"), status=410, outcome="cancelled"),
    "key": Cause(act=revoke, status=401, outcome="revoked", settings='[auth]\nrevoke_running = "cut"'),
    "total": Cause(
        act=lambda _: asyncio.sleep(0),
        status=504,
        outcome="timeout_total",
        settings='first_byte_timeout = "0s"\nidle_timeout = "500ms"\ntotal_timeout = "1s"',
    ),
}


@pytest.mark.parametrize("cause", CAUSES)
async def test_a_call_that_is_dialling_is_ended_at_once(tmp_path: Path, cause: str) -> None:
    """P1, P19: its tool is told and its slot is free while the dial would go on hanging."""
    end = CAUSES[cause]
    async with gateway(tmp_path, settings=f'[ollama]\nconnect_timeout = "5m"\n{end.settings}') as gate:
        await know_models(gate)
        gate.sim.hang()
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(gate.post("/api/chat", chat()))
            await gate.until(
                lambda: [live.phase for live in gate.parts.gateway.live.values()] == [Phase.CONNECT]
            )
            await end.act(gate)
            status, _, body = await call
        assert gate.parts.slots.snapshot().held == 0
        assert (status, last_done(gate)["outcome"]) == (end.status, end.outcome)
        assert error_of("/api/chat", body)
        assert last_done(gate)["slot_s"] == 0
        await gate.sim.accept()
    assert calls(gate) == []


async def test_the_next_one_gets_the_slot(gate: Gate) -> None:
    """Whoever waits behind a cancelled call starts at once."""
    await know_models(gate)
    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(gate.post("/api/chat", chat("#sim:ttft_ms=60000")))
        entry = await gate.sim.arrived(0, path="/api/chat")
        await entry.reached(State.PROMPT)
        after = tasks.create_task(gate.post("/api/chat", chat("next"), who="bob"))
        await gate.waiting(1)
        assert (await cancel(gate, live_id(gate)))[0] == 200
        assert (await call)[0] == 410
        assert (await after)[0] == 200


async def test_another_s_call_is_as_unknown_as_none(gate: Gate) -> None:
    """S24: a foreign id, an unknown one and a malformed one get the same bytes, and the call goes on."""
    await know_models(gate)
    async with busy(gate, who="carol"):
        foreign = live_id(gate, "carol")
        answers = set()
        for request_id in (foreign, "r_" + "0" * (len(foreign) - 2), "nonsense"):
            status, headers, body = await gate.request("DELETE", f"/gpushare/v1/queue/{request_id}")
            own = headers["X-Gpushare-Request"].encode()
            answers.add((status, body.replace(own, b"")))
        ((status, body),) = answers
        assert status == 404
        assert json.loads(body)["error"]["code"] == "request_unknown"
        assert (await cancel(gate, foreign, who=None))[0] == 401
        assert foreign in gate.parts.gateway.live


async def test_only_calls_of_the_queue_are_cancelled(gate: Gate) -> None:
    """An ended call is unknown; the address takes DELETE alone."""
    _, headers, _ = await gate.post("/api/chat", chat("#sim:tokens=1"))
    assert (await cancel(gate, headers["X-Gpushare-Request"]))[0] == 404
    status, headers, _ = await gate.request("GET", "/gpushare/v1/queue/r_1")
    assert (status, headers["Allow"]) == (405, "DELETE")


async def test_the_page_cancels_what_waits_and_what_runs(gate: Gate) -> None:
    """A browser without scripts: sign in, see both calls, end both by their buttons."""
    await know_models(gate)
    async with browser(gate.url) as person, asyncio.TaskGroup() as tasks:
        await person.sign_in(gate.keys["alice"])
        running = tasks.create_task(gate.post("/api/chat", chat(LONG)))
        entry = await gate.sim.arrived(0, path="/api/chat")
        await entry.reached(State.STREAMING)
        waiting = tasks.create_task(gate.post("/v1/chat/completions", chat("waits")))
        await gate.waiting(1)
        first, second = buttons((await person.get("/me")).text)
        shown = await person.post("/me/cancel", {"id": second})
        assert (shown.status, shown.location) == (303, "/status?cancelled=yes")
        assert (await waiting)[0] == 410
        assert "The request is cancelled." in (await person.get(shown.location)).text
        assert (await person.post("/me/cancel", {"id": first})).location == "/status?cancelled=yes"
        await entry.reached(State.CANCELLED)
        assert b"cancelled" in (await running)[2].splitlines()[-1]
        await cast("Store", gate.parts.ledger).flush()
        page = (await person.get("/me")).text
        assert buttons(page) == []
        assert page.count(">cancelled</td>") == 2, "the list of the last 24 hours has both"
        assert (await person.post("/me/cancel", {"id": first})).location == "/status?cancelled=no"
    assert calls(gate) == [entry]


async def test_the_page_cancels_nobody_else_s_call(gate: Gate) -> None:
    """A foreign id, a form from elsewhere and a revoked key end nothing; an admin may end any call."""
    await know_models(gate)
    async with browser(gate.url) as person, browser(gate.url) as admin, asyncio.TaskGroup() as tasks:
        await person.sign_in(gate.keys["alice"])
        await admin.sign_in(gate.keys["root"])
        call = tasks.create_task(gate.post("/api/chat", chat("#sim:ttft_ms=60000"), who="bob"))
        await (await gate.sim.arrived(0, path="/api/chat")).reached(State.PROMPT)
        fields = {"id": live_id(gate, "bob")}
        assert (await person.post("/me/cancel", fields)).location == "/status?cancelled=no"
        assert (await admin.post("/me/cancel", fields, Origin="https://evil.example")).status == 403
        assert not call.done()
        assert (await admin.post("/me/cancel", fields)).location == "/status?cancelled=yes"
        assert (await call)[0] == 410


def buttons(page: str) -> list[str]:
    """Returns the ids of the calls that a page can end."""
    return re.findall(r'name="id" value="(\w+)"', page)
