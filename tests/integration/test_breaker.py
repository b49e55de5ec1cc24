"""An Ollama that goes away, comes back, is busy, or has one bad model."""

import asyncio
from pathlib import Path

import pytest

from gpushare.core.breaker import DIALS_TO_OPEN, MODEL_FAILURES, Door
from gpushare.core.model import Phase
from tests.conformance.tools import DIALECTS, ask, body_of, error_of, last_done
from tests.harness import Gate, chat, gateway
from tests.integration.scenes import State, scene
from tests.upstream import PIECE, WHOLE, document, raw_ollama

ALERT = '[ollama]\nhealth_interval = "100ms"\n'
"""Probes often enough for a test not to wait for them."""
BUSY = document(
    b'{"error":"server busy, please try again.  maximum pending requests exceeded"}',
    status=b"503 Service Unavailable",
)


def door(gate: Gate) -> Door:
    """Returns the state of the breaker, as the page sees it."""
    return gate.parts.monitor.view.breaker


async def ready(gate: Gate) -> None:
    """Waits until Ollama's models are known."""
    await gate.until(lambda: gate.parts.monitor.view.models)


@pytest.mark.parametrize("path", DIALECTS)
async def test_an_ollama_that_is_away_is_answered_at_once(gate: Gate, path: str) -> None:
    """P9: first 502 for each failed dial, then 503 without a dial, in the caller's dialect."""
    await ready(gate)
    gate.sim.refuse()
    for _ in range(DIALS_TO_OPEN):
        assert (await gate.post(path, body_of(path)))[0] == 502
    assert door(gate) is Door.OPEN
    granted = gate.parts.slots.snapshot().granted_total
    for who in ("alice", "bob"):
        status, headers, body = await gate.post(path, body_of(path), who=who)
        assert status == 503
        assert "cannot be reached" in error_of(path, body)
        assert 1 <= int(headers["Retry-After"]) <= 30
    assert gate.parts.slots.snapshot().granted_total == granted
    assert (await gate.request("GET", "/readyz"))[2] == b"ollama-down"
    assert (await gate.request("GET", "/api/tags"))[0] == 503


async def test_an_ollama_that_is_busy_is_not_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P9: probes that hang open nothing while a stream comes from it, and do when that has stopped, too."""
    monkeypatch.setattr("gpushare.edge.ollama.PROBE_TIMEOUT_S", 0.2)
    settings = {"ollama.health_interval": "100ms", "queue.breaker_queue_grace": "100s"}
    async with scene(tmp_path, State.STREAMING, settings=settings) as stand:
        gate, ollama = stand.gate, stand.ollama
        ollama.polls = False

        async def stream() -> None:
            while True:
                await stand.said(PIECE)
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as tasks:
            streaming = tasks.create_task(stream())
            waiting = tasks.create_task(gate.post("/api/chat", chat(stream=False), who="bob"))
            await gate.waiting(1)
            for number in range(1, 2 * DIALS_TO_OPEN):
                hanging = await ollama.call(number)
                assert hanging.target == b"/api/version"
                await hanging.gone()
            assert door(gate) is Door.CLOSED
            assert (await gate.request("GET", "/readyz"))[2] == b"ok"
            streaming.cancel()
            await gate.until(lambda: door(gate) is Door.OPEN)
            assert (await gate.request("GET", "/readyz"))[2] == b"ollama-down"
            ollama.polls = True
            await gate.until(lambda: door(gate) is Door.HALF_OPEN)
            await stand.finish()
            assert PIECE in await stand.read_stream()
            await gate.until(lambda: ollama.calls[-1].target == b"/api/chat")
            await ollama.calls[-1].answer(document(WHOLE))
        assert waiting.result()[0] == 200


async def test_an_ollama_that_is_back_is_found(tmp_path: Path) -> None:
    """P10: nobody's call is sent to try it; after the probe the next calls run, and the breaker closes."""
    async with gateway(tmp_path, settings=ALERT) as gate:
        await ready(gate)
        gate.sim.refuse()
        await gate.until(lambda: door(gate) is Door.OPEN)
        assert not [entry for entry in gate.sim.log if entry.path == "/api/chat"]
        await gate.sim.accept()
        await gate.until(lambda: door(gate) is Door.HALF_OPEN)
        for _ in range(2):
            assert (await gate.post("/api/chat", chat()))[0] == 200
        assert door(gate) is Door.CLOSED
        assert (await gate.request("GET", "/readyz"))[0] == 200


async def test_a_short_restart_is_absorbed(tmp_path: Path) -> None:
    """P11, P12: calls that waited when Ollama went complete; none sees an error, and each is sent once."""
    async with gateway(tmp_path, settings=ALERT) as gate:
        await ready(gate)
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(gate.post("/api/chat", chat("#sim:tokens=3,delay_ms=600000")))
            running = await gate.sim.arrived(0, path="/api/chat")
            waiting = [
                tasks.create_task(gate.post("/api/chat", chat(), who=who)) for who in ("bob", "carol", "bob")
            ]
            await gate.waiting(3)
            gate.sim.crash()
            await gate.until(lambda: door(gate) is Door.OPEN)
            await gate.waiting(3)
            await gate.sim.accept()
        assert running.ended
        assert b"error" in first.result()[2]
        assert [call.result()[0] for call in waiting] == [200, 200, 200]
        assert len([entry for entry in gate.sim.log if entry.path == "/api/chat"]) == 4


async def test_a_long_absence_sends_the_waiting_away(tmp_path: Path) -> None:
    """P9, P11: when the grace is over they get the 503 of everybody else, with a time to come back."""
    settings = f'{ALERT}[queue]\nbreaker_queue_grace = "100ms"\n'
    async with gateway(tmp_path, settings=settings) as gate:
        await ready(gate)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(gate.post("/api/chat", chat("#sim:tokens=3,delay_ms=600000")))
            await gate.sim.arrived(0, path="/api/chat")
            waiting = tasks.create_task(gate.post("/api/chat", chat(), who="bob"))
            await gate.waiting(1)
            gate.sim.crash()
        status, headers, _ = waiting.result()
        assert status == 503
        assert "Retry-After" in headers
        assert {entry["outcome"] for entry in gate.logs if entry["event"] == "request.done"} == {
            "upstream_reset",
            "breaker_open",
        }


async def test_a_busy_ollama_is_asked_once_more(tmp_path: Path) -> None:
    """F14: nothing was computed, so the call goes back to the head of its queue, once."""
    async with raw_ollama() as ollama, gateway(tmp_path, engine=ollama.url) as gate:
        await ready(gate)
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(ask(gate, "/api/chat", stream=False))
            await (await ollama.call(0)).answer(BUSY)
            await (await ollama.call(1)).answer(document(WHOLE))
        assert call.result()[0] == 200
        assert last_done(gate)["outcome"] == "ok"
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(ask(gate, "/api/chat", stream=False))
            for number in (2, 3):
                await (await ollama.call(number)).answer(BUSY)
        assert call.result()[0] == 503
        assert last_done(gate)["outcome"] == "upstream_busy"
        assert door(gate) is Door.CLOSED


async def test_one_bad_model_is_shut_and_the_others_run(gate: Gate) -> None:
    """P14: after three errors of Ollama's own on loading a model its calls are refused, and no others."""
    await ready(gate)
    bad = chat("#sim:status=500", model="m")
    for _ in range(MODEL_FAILURES):
        assert (await gate.post("/api/chat", bad))[0] == 500
    status, headers, body = await gate.post("/api/chat", chat(model="m"))
    assert status == 503
    assert b"keeps failing with the model" in body
    assert "Retry-After" in headers
    assert gate.parts.monitor.view.failing == ("m:latest",)
    assert (await gate.post("/api/embed", body_of("/api/embed", model="embed")))[0] == 200
    assert (await gate.request("GET", "/readyz"))[0] == 200


async def test_a_call_that_fails_in_a_loaded_model_shuts_nobody_out(gate: Gate) -> None:
    """P14: a picture or a schema that Ollama cannot use is a 500, too, and libraries try three times."""
    await ready(gate)
    assert (await gate.post("/api/chat", chat(model="m")))[0] == 200
    for _ in range(2 * MODEL_FAILURES):
        assert (await gate.post("/api/chat", chat("#sim:status=500", model="m")))[0] == 500
    assert (await gate.post("/api/chat", chat(model="m"), who="bob"))[0] == 200
    assert gate.parts.monitor.view.failing == ()


async def test_a_client_that_leaves_a_trial_ends_it(tmp_path: Path) -> None:
    """P1, P10: half-open, a call whose client leaves gives its turn to the next one."""
    async with gateway(tmp_path, settings=ALERT) as gate:
        await ready(gate)
        gate.sim.refuse()
        await gate.until(lambda: door(gate) is Door.OPEN)
        await gate.sim.accept()
        await gate.until(lambda: door(gate) is Door.HALF_OPEN)
        trial = asyncio.ensure_future(gate.post("/api/chat", chat("#sim:tokens=3,delay_ms=600000")))
        await gate.sim.arrived(0, path="/api/chat")
        trial.cancel()
        await asyncio.wait([trial])
        for _ in range(2):
            assert (await gate.post("/api/chat", chat(), who="bob"))[0] == 200
        assert door(gate) is Door.CLOSED


async def test_who_dials_while_the_grace_ends_is_sent_away(tmp_path: Path) -> None:
    """P9: the dial fails when all others have been told; waiting on would last as long as a wait may."""
    settings = {"ollama.connect_timeout": "500ms", "queue.breaker_queue_grace": "50ms"}
    async with scene(tmp_path, State.QUEUED, settings=settings) as stand:
        gate = stand.gate
        await stand.ollama.hang()
        await stand.go_on()
        await gate.until(lambda: [live.phase for live in stand.living()] == [Phase.CONNECT])
        for _ in range(DIALS_TO_OPEN):
            gate.parts.health.probed(up=False)
        status, headers, _ = await stand.read_error()
        assert status == 503
        assert b"\r\nRetry-After: " in headers
        assert [line["outcome"] for line in stand.lines()] == ["breaker_open"]
