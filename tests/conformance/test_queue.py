"""Cases 56 to 70: waiting, leaving, slow readers, limits and turns."""

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from gpushare.sim import Fault, FaultKind, Plan, Script, State
from tests.conformance.tools import (
    DIALECTS,
    STREAMING,
    ask,
    body_of,
    busy,
    calls,
    dial,
    done,
    error_of,
    last_done,
    post,
    unchunk,
    warm,
)
from tests.harness import Gate, chat, gateway
from tests.unit.web.wire import Wire

SPREAD = Plan(tokens=1, ttft_ms=60)  # long enough that turns are counted in calls
LEAVE = [Wire.close, Wire.half_close, Wire.reset]


@pytest.mark.case(56)
@pytest.mark.parametrize("path", STREAMING)
async def test_nothing_is_written_to_a_waiting_client(gate: Gate, path: str) -> None:
    """A call waits for the one slot without a byte; its answer then has its own status and headers."""
    async with dial(gate.port) as wire, busy(gate) as running:
        await wire.send(post(gate, path, body_of(path, stream=True), "Connection: close", who="bob"))
        await gate.waiting(1)
        await gate.request("GET", "/api/tags")
        with pytest.raises(BlockingIOError):
            wire._sock.recv(1, socket.MSG_DONTWAIT)  # noqa: SLF001 - a bare look at the socket
        running.resume()
        answer = await wire.rest()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert unchunk(answer.partition(b"\r\n\r\n")[2]) == bytes(calls(gate)[-1].answer)


@pytest.mark.case(62)
@pytest.mark.parametrize("leave", LEAVE)
async def test_leaving_while_queued_costs_nothing(gate: Gate, leave: Callable[[Wire], None]) -> None:
    """The place is given up while the slot is still taken, and Ollama is never contacted."""
    async with busy(gate) as running, dial(gate.port) as wire:
        await wire.send(post(gate, "/api/chat", chat(), who="bob"))
        await gate.waiting(1)
        leave(wire)
        await gate.waiting(0)
        assert not running.ended
        await gate.until(lambda: done(gate))
        assert last_done(gate)["outcome"] == "client_gone_queued"
        assert last_done(gate)["slot_s"] == 0
    assert calls(gate) == [running]


async def leave_running(
    gate: Gate, path: str, fields: dict[str, Any], plan: Plan, leave: Callable[[Wire], None]
) -> None:
    """Leaves in the middle of a call and checks that Ollama stops and the time so far is charged."""
    await warm(gate, "embed" if path == "/api/embed" else "m")
    gate.sim.next(plan, path=path)
    async with dial(gate.port) as wire:
        await wire.send(post(gate, path, body_of(path, **fields)))
        entry = await gate.sim.arrived(0, path=path)
        await entry.reached(State.STALLED)
        await asyncio.sleep(0.05)  # what it costs
        leave(wire)
        await entry.reached(State.CANCELLED)
        await gate.until(lambda: done(gate))
    assert gate.parts.slots.snapshot().held == 0
    assert last_done(gate)["outcome"] == "client_gone_running"
    assert last_done(gate)["slot_s"] >= 0.04
    status, _, _ = await ask(gate, "/api/chat")
    assert status == 200


@pytest.mark.case(63)
@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("path", DIALECTS)
async def test_leaving_in_a_stream_stops_ollama(gate: Gate, path: str, leave: Callable[[Wire], None]) -> None:
    """After the first records the connection to Ollama is closed and the time so far is charged."""
    plan = Plan(fault=Fault(FaultKind.STALL, 2))
    await leave_running(gate, path, {"stream": True}, plan, leave)


@pytest.mark.case(64)
@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("path", DIALECTS)
async def test_leaving_in_a_silence_stops_ollama(
    gate: Gate, path: str, leave: Callable[[Wire], None]
) -> None:
    """The same before the first byte."""
    plan = Plan(fault=Fault(FaultKind.STALL))
    await leave_running(gate, path, {"stream": True}, plan, leave)


@pytest.mark.case(65)
@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("path", ["/api/chat", "/api/embed"])
async def test_leaving_a_single_answer_stops_ollama(
    gate: Gate, path: str, leave: Callable[[Wire], None]
) -> None:
    """The same where one document is awaited."""
    fields: dict[str, Any] = {"model": "embed"} if path == "/api/embed" else {"stream": False}
    await leave_running(gate, path, fields, Plan(fault=Fault(FaultKind.STALL)), leave)


@pytest.mark.case(66)
async def test_a_slow_reader_is_bounded_and_harms_nobody(tmp_path: Path) -> None:
    """Ollama is read up to the bound and then held back, others are served, and no byte is lost."""
    script = Script(slots=2)
    async with gateway(tmp_path, script=script, settings="[queue]\nslots = 2") as gate:
        gate.sim.next(Plan(pieces=("x" * 100_000,) * 80), path="/api/generate")
        async with dial(gate.port, receive_bytes=65536) as wire:
            body = body_of("/api/generate", stream=True)
            await wire.send(post(gate, "/api/generate", body, "Connection: close"))
            entry = await gate.sim.arrived(0, path="/api/generate")
            await gate.until(lambda: backlog(gate) > 256 * 1024)
            for _ in range(3):
                status, _, _ = await ask(gate, "/api/chat", who="bob")
                assert status == 200
            assert backlog(gate) < 1024 * 1024
            assert entry.records < 80
            answer = await wire.rest()
        assert unchunk(answer.partition(b"\r\n\r\n")[2]) == bytes(entry.answer)
        assert last_done(gate)["outcome"] == "ok"


def backlog(gate: Gate) -> int:
    """Returns the bytes held for the slow reader."""
    relays = [live.relay for live in gate.parts.gateway.live.values() if live.relay is not None]
    return max((relay._sink.backlog() for relay in relays), default=0)  # noqa: SLF001 - nobody else knows


@pytest.mark.case(66)
async def test_an_answer_nobody_reads_frees_its_slot(gate: Gate) -> None:
    """What fits into the bound is taken from Ollama at once; the slot does not wait for the reader."""
    gate.sim.next(Plan(pieces=("x" * 10_000,) * 20), path="/api/generate")
    async with dial(gate.port, receive_bytes=4096) as wire:
        body = body_of("/api/generate", stream=True)
        await wire.send(post(gate, "/api/generate", body, "Connection: close"))
        entry = await gate.sim.arrived(0, path="/api/generate")
        await entry.reached(State.DONE)
        status, _, _ = await ask(gate, "/api/chat", who="bob")
        assert status == 200
        assert len(gate.parts.gateway.live) == 1
        answer = await wire.rest()
    assert unchunk(answer.partition(b"\r\n\r\n")[2]) == bytes(entry.answer)


@pytest.mark.case(67)
async def test_a_retry_never_runs_beside_its_predecessor(tmp_path: Path) -> None:
    """An SDK that times out and tries again: Ollama is rid of the first copy before it sees the second."""
    async with gateway(tmp_path, script=Script(slots=2), settings="[queue]\nslots = 2") as gate:
        gate.sim.next(Plan(fault=Fault(FaultKind.STALL)), path="/v1/chat/completions")
        url, key = gate.url + "/v1", gate.keys["alice"]
        async with openai.AsyncOpenAI(base_url=url, api_key=key, timeout=1.0, max_retries=1) as client:
            answer = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "x"}]
            )
        assert answer.choices
        first, second = calls(gate)
        assert first.state is State.CANCELLED
        assert first.at[State.CANCELLED] <= second.at[State.ARRIVED]
        assert second.header("x-stainless-retry-count") is None


@pytest.mark.case(68)
@pytest.mark.parametrize("path", DIALECTS)
async def test_a_full_queue_is_429(tmp_path: Path, path: str) -> None:
    """One person's limit and the limit of all: each with its time to come back, in the dialect's form."""
    settings = "[queue]\nmax_waiting = 3\nmax_waiting_per_person = 2"
    async with gateway(tmp_path, settings=settings) as gate, asyncio.TaskGroup() as tasks, busy(gate):
        for count, who in enumerate(("alice", "alice", "bob"), 1):
            tasks.create_task(ask(gate, path, who=who))
            await gate.waiting(count)
        for who, sentence in (("alice", "one person may have 2"), ("bob", "The queue is full (3 waiting)")):
            status, headers, body = await ask(gate, path, who=who)
            assert status == 429
            assert 1 <= int(headers["Retry-After"]) <= 30
            assert int(headers["retry-after-ms"]) == 1000 * int(headers["Retry-After"])
            assert sentence in error_of(path, body)
        await gate.waiting(3)


@pytest.mark.case(69)
async def test_lists_do_not_wait_in_a_full_queue(tmp_path: Path) -> None:
    """Everything that needs no GPU is answered while the slot is taken and the queue is full."""
    async with (
        gateway(tmp_path, settings="[queue]\nmax_waiting_per_person = 2") as gate,
        asyncio.TaskGroup() as tasks,
        busy(gate) as running,
    ):
        for count in (1, 2):
            tasks.create_task(ask(gate, "/api/chat"))
            await gate.waiting(count)
        for path in (
            "/",
            "/api/version",
            "/api/tags",
            "/api/ps",
            "/v1/models",
            "/gpushare/v1/status",
            "/healthz",
        ):
            status, _, _ = await gate.request("GET", path)
            assert status == 200
        status, _, _ = await gate.post("/api/show", {"model": "m"})
        assert status == 200
        assert not running.ended
        await gate.waiting(2)


@pytest.mark.case(70)
async def test_one_call_does_not_wait_behind_twenty(tmp_path: Path) -> None:
    """With twenty of one person's calls ahead, the other one's call is at most second.

    A turn is shorter than any call, so that none leaves credit for another, however noisy the machine is.
    """
    settings = '[queue]\nmax_waiting_per_person = 20\nquantum = "1ms"'
    async with gateway(tmp_path, script=Script(default=SPREAD), settings=settings) as gate:
        await warm(gate)
        async with asyncio.TaskGroup() as tasks, busy(gate):
            for count in range(20):
                tasks.create_task(ask(gate, "/api/chat", who="alice"))
                await gate.waiting(count + 1)
            tasks.create_task(ask(gate, "/api/chat", "from bob", who="bob"))
            await gate.waiting(21)
        served = [json.loads(entry.body)["messages"][0]["content"] for entry in calls(gate)[1:]]
        assert len(served) == 21
        assert served.index("from bob") <= 1
