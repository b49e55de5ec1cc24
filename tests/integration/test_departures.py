"""Clients that leave: in every state, in every way, and behind whatever else they have sent."""

import asyncio
import json
from pathlib import Path

import pytest

from gpushare.sim import State
from tests.conformance.tools import calls, dial, know_models, last_done, post
from tests.harness import Gate, chat, gateway
from tests.integration.leaving import RUNNING_STATES, STATES, WAYS
from tests.measures.departures import one_departure

FEW = 3


def pipelined(gate: Gate, size: int) -> bytes:
    """Returns whole requests for a route that nothing else asks for."""
    one = post(gate, "/v1/completions", {"model": "m", "prompt": "behind"})
    return one * (size // len(one))


async def given_back(gate: Gate) -> None:
    """Waits until no call is left, and checks that it left its slot or its place."""
    await gate.until(lambda: not gate.parts.gateway.live)
    view = gate.parts.slots.snapshot()
    assert (view.held, view.waiting) == (0, ())
    assert view.granted_total == view.released_total


@pytest.mark.parametrize("behind", [0, 40_000, 2_000_000], ids=["", "pipelined", "flood"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", RUNNING_STATES)
async def test_leaving_ends_the_work(gate: Gate, state: str, way: str, behind: int) -> None:
    """P1, P4: the slot is free and Ollama's connection closed, in every state and whatever lies unread."""
    situation = STATES[state]
    async with situation.reach(gate) as stand:
        stand.wire.send_what_fits(pipelined(gate, behind))
        WAYS[way](stand.wire)
        await given_back(gate)
        if stand.entry is not None:
            await stand.entry.reached(State.CANCELLED)
    await gate.until(lambda: not gate.sim.gpu.computing)
    assert len(calls(gate)) == (stand.entry is not None), "a request behind the first one was executed"
    if state != "show":
        assert last_done(gate)["outcome"] == situation.outcome
        assert last_done(gate)["phase"] == situation.phase
    assert sum(gate.parts.stats.requests.values()) == 1


@pytest.mark.parametrize("behind", [0, 40_000, 2_000_000], ids=["", "pipelined", "flood"])
@pytest.mark.parametrize("way", WAYS)
async def test_leaving_the_queue(gate: Gate, way: str, behind: int) -> None:
    """P3: a client that leaves while its call waits gives its place up, and Ollama never hears of it."""
    async with STATES["queued"].reach(gate) as stand:
        stand.wire.send_what_fits(pipelined(gate, behind))
        WAYS[way](stand.wire)
        await gate.waiting(0)
        await gate.until(lambda: len(gate.parts.gateway.live) == 1)
        assert last_done(gate)["outcome"] == "client_gone_queued"
        assert last_done(gate)["slot_s"] == 0
    await given_back(gate)
    (entry,) = calls(gate)
    assert entry.state is State.DONE


@pytest.mark.parametrize("way", WAYS)
async def test_leaving_in_the_middle_of_a_body(gate: Gate, way: str) -> None:
    """P1: who leaves before the body is whole has no place, no slot and no memory reserved."""
    await know_models(gate)
    whole = post(gate, "/api/chat", chat("x" * 50_000))
    async with dial(gate.port) as wire:
        await wire.send(whole[:20_000])
        await gate.until(lambda: gate.parts.body_budget.held_bytes)
        WAYS[way](wire)
        await gate.until(lambda: not gate.parts.body_budget.held_bytes)
    assert calls(gate) == []
    assert not gate.parts.gateway.live


@pytest.mark.parametrize("way", WAYS)
async def test_leaving_a_whole_answer_unread(gate: Gate, way: str) -> None:
    """P5: the slot is free as soon as Ollama is done; who leaves then spoils only the delivery."""
    await know_models(gate)
    async with dial(gate.port, receive_bytes=4096) as wire:
        await wire.send(post(gate, "/api/chat", chat("#sim:tokens=2000,gather=50")))
        entry = await gate.sim.arrived(0, path="/api/chat")
        await entry.reached(State.DONE)
        await gate.until(lambda: gate.parts.slots.snapshot().held == 0)
        assert len(gate.parts.gateway.live) == 1, "the client has not read its answer yet"
        WAYS[way](wire)
        await given_back(gate)
    assert last_done(gate)["outcome"] == "ok"
    assert last_done(gate)["delivered"] is False
    assert gate.parts.stats.undelivered == 1


async def test_an_answer_read_before_the_client_closes_its_side_is_whole(gate: Gate) -> None:
    """P13: a client that half-closes only after the end mark has lost nothing."""
    async with dial(gate.port) as wire:
        await wire.send(post(gate, "/api/chat", chat("#sim:tokens=5")))
        answer = await wire.until(b"0\r\n\r\n")
        wire.half_close()
        assert await wire.rest() == b""
    assert b'"done":true' in answer
    await given_back(gate)
    assert last_done(gate)["outcome"] == "ok"


async def test_a_grant_that_meets_a_departure_goes_on_to_the_next(tmp_path: Path) -> None:
    """P2: when the slot's holder and the first waiter leave in one pass, the second waiter gets the slot."""
    async with gateway(tmp_path) as gate, dial(gate.port) as first, dial(gate.port) as second:
        await know_models(gate)
        await first.send(post(gate, "/api/chat", chat("#sim:ttft_ms=60000")))
        await (await gate.sim.arrived(0, path="/api/chat")).reached(State.PROMPT)
        await second.send(post(gate, "/api/chat", chat("leaves"), who="bob"))
        await gate.waiting(1)
        async with asyncio.TaskGroup() as tasks:
            third = tasks.create_task(gate.post("/api/chat", chat("stays"), who="carol"))
            await gate.waiting(2)
            first.close()
            second.close()
        assert third.result()[0] == 200
        assert gate.parts.slots.snapshot().granted_total in (
            2,
            3,
        )  # the second may have been granted, and given on
        said = [json.loads(entry.body)["messages"][0]["content"] for entry in calls(gate)]
        assert said[0].startswith("#sim")
        assert said[-1] == "stays"


async def test_resets_at_once_after_the_request(gate: Gate) -> None:
    """P1: request and reset in one go, again and again, leave nothing behind and stay out of the log."""
    await know_models(gate)
    request = post(gate, "/api/chat", chat("#sim:tokens=2"))
    for _ in range(200):
        async with dial(gate.port) as wire:
            await wire.send(request)
            wire.reset()
    await given_back(gate)
    status, _, _ = await gate.post("/api/chat", chat("#sim:tokens=2"))
    assert status == 200
    assert not [line for line in gate.logs if line["log_level"] in ("warning", "error")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", STATES)
async def test_leaving_again_and_again(gate: Gate, state: str, way: str) -> None:
    """P3, P4: each of several departures gives everything back; ``tests.measures`` tells how soon."""
    for _ in range(FEW):
        await one_departure(gate, STATES[state], WAYS[way])
    assert gate.parts.stats.requests.total() >= FEW
