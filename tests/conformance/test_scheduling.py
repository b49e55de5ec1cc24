"""Cases 71 to 75: models that do not fit together, and how much of Ollama is used at a time."""

import asyncio
import json
from pathlib import Path

import pytest

from gpushare.core.breaker import MODEL_FAILURES
from gpushare.sim import Fault, FaultKind, Plan, Script, State
from tests.conformance.tools import ask, calls, error_of, know_models, last_done, warm
from tests.harness import gateway
from tests.upstream import WHOLE, document, raw_ollama


@pytest.mark.case(71)
async def test_a_steady_stream_for_one_model_does_not_keep_another_out(tmp_path: Path) -> None:
    """While calls for the resident model never stop coming, the other model is loaded within its bound."""
    settings = '[queue]\nstay_on_model = "200ms"\nslots = 2'
    script = Script(slots=2, default=Plan(tokens=1, ttft_ms=20))
    async with gateway(tmp_path, script=script, settings=settings) as gate:
        await warm(gate)
        wanted = asyncio.Event()

        async def keep_coming() -> None:
            while not wanted.is_set():
                status, _, _ = await ask(gate, "/api/chat", who="alice")
                assert status == 200

        async with asyncio.TaskGroup() as tasks:
            for _ in range(6):
                tasks.create_task(keep_coming())
            await gate.waiting(4)
            status, _, _ = await ask(gate, "/api/chat", model="n", who="bob")
            assert status == 200
            wanted.set()
        order = [json.loads(entry.body)["model"] for entry in calls(gate)]
        before = order[: order.index("n")]
        assert len(before) < 60  # 200 ms of two slots at 20 ms, and a wide margin; without the bound: no end
        assert gate.sim.gpu.loads[:2] == ["m:latest", "n:latest"]
        changed = next(entry for entry in calls(gate) if entry.model == "n")
        overlapping = [
            entry
            for entry in calls(gate)
            if entry.model == "m"
            and entry.at[State.ARRIVED] < changed.at[State.LOADING]
            and entry.at.get(State.DONE, 0.0) > changed.at[State.LOADING]
        ]
        assert overlapping == []


@pytest.mark.case(73)
@pytest.mark.parametrize("slots", [1, 3])
async def test_ollama_never_has_more_than_the_slots(tmp_path: Path, slots: int) -> None:
    """Of 24 calls at once Ollama computes as many as there are slots, whatever it could take itself."""
    settings = f"[queue]\nslots = {slots}\nmax_waiting_per_person = 24"
    script = Script(slots=64, max_queue=1, default=Plan(tokens=1, ttft_ms=10))
    async with gateway(tmp_path, script=script, settings=settings) as gate:
        await warm(gate)
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(ask(gate, "/api/chat")) for _ in range(24)]
        assert {task.result()[0] for task in asked} == {200}
        assert gate.sim.gpu.most_computing == slots


@pytest.mark.case(74)
async def test_a_wedge_is_reported_and_gives_its_slot_back(tmp_path: Path) -> None:
    """A call that Ollama never answers ends in a 504 while others work, and its slot is used again."""
    settings = '[ollama]\nconnect_timeout = "500ms"\nfirst_byte_timeout = "1s"\n[queue]\nslots = 2'
    async with gateway(tmp_path, script=Script(slots=2), settings=settings) as gate:
        gate.sim.next(Plan(fault=Fault(FaultKind.DEAF)), path="/v1/chat/completions")
        async with asyncio.TaskGroup() as tasks:
            wedged = tasks.create_task(ask(gate, "/v1/chat/completions", stream=True))
            entry = await gate.sim.arrived(0, path="/v1/chat/completions")
            await entry.reached(State.STALLED)
            status, _, _ = await ask(gate, "/api/chat", who="bob")
            assert status == 200
        status, headers, body = wedged.result()
        assert (status, headers["x-should-retry"]) == (504, "false")
        assert "sent nothing for 1 s" in error_of("/v1/chat/completions", body)
        assert last_done(gate)["outcome"] == "timeout_first_byte"
        await entry.reached(State.CANCELLED)
        assert gate.parts.slots.snapshot().held == 0


@pytest.mark.case(74)
@pytest.mark.parametrize("unload", [True, False])
async def test_a_model_that_keeps_silent_is_dropped(tmp_path: Path, *, unload: bool) -> None:
    """P14: after three silences it is unloaded, if so configured, and the next call runs; else it is shut."""
    settings = f"""
        [ollama]
        connect_timeout = "500ms"
        first_byte_timeout = "600ms"
        unload_stuck = {str(unload).lower()}
    """
    async with raw_ollama() as ollama, gateway(tmp_path, engine=ollama.url, settings=settings) as gate:
        await know_models(gate)
        for _ in range(MODEL_FAILURES):
            status, _, _ = await ask(gate, "/api/chat", stream=True)
            assert status == 504
        if not unload:
            assert (await ask(gate, "/api/chat", stream=True))[0] == 503
            assert [call.target for call in ollama.calls] == [b"/api/chat"] * MODEL_FAILURES
            return
        form = await ollama.call(MODEL_FAILURES)
        assert (form.target, json.loads(form.body)) == (
            b"/api/generate",
            {"model": "m:latest", "keep_alive": 0},
        )
        await form.answer(document(b'{"model":"m","response":"","done":true,"done_reason":"unload"}'))
        await gate.until(lambda: gate.parts.monitor.view.dropped)
        async with asyncio.TaskGroup() as tasks:
            again = tasks.create_task(ask(gate, "/api/chat", stream=False))
            await (await ollama.call(MODEL_FAILURES + 1)).answer(document(WHOLE))
        assert again.result()[0] == 200
        _, _, page = await gate.request("GET", "/metrics", who=None)
        assert b"\ngpushare_dropped_models_total 1.0\n" in page
        await gate.until(lambda: not gate.parts.monitor.view.dropped)
        assert [line["model"] for line in gate.logs if line["event"] == "model.dropped"] == ["m:latest"]
