"""Cases 29 to 35: the OpenAI dialect."""

import asyncio
import base64
import io
import json
import struct
from pathlib import Path

import pytest

from gpushare.core.config import Config
from gpushare.sim import Fault, FaultKind, Plan, State
from tests.conformance.tools import (
    FORM,
    ask,
    busy,
    calls,
    error_of,
    form_of,
    frames,
    last_done,
    nothing_ran,
    only_call,
    warm,
)
from tests.harness import Gate, gateway

MIB = 1024 * 1024


@pytest.mark.case(29)
async def test_chat_completions_answer_once_or_stream(gate: Gate) -> None:
    """Without ``stream`` one document comes, with it events up to ``[DONE]``; both are Ollama's bytes."""
    path = "/v1/chat/completions"
    status, headers, body = await ask(gate, path)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert body == bytes(only_call(gate).answer)
    assert json.loads(body)["object"] == "chat.completion"
    status, headers, body = await ask(gate, path, stream=True)
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    assert body == bytes(calls(gate)[-1].answer)
    assert frames(body)[-1] == "[DONE]"


@pytest.mark.case(30)
async def test_usage_is_recorded_where_asked_for(gate: Gate) -> None:
    """The usage event passes unchanged and its counts are on the record."""
    text = "#sim:tokens=9"
    _, _, body = await ask(
        gate, "/v1/chat/completions", text, stream=True, stream_options={"include_usage": True}
    )
    assert body == bytes(only_call(gate).answer)
    usage = frames(body)[-2]["usage"]
    assert usage["completion_tokens"] == 9
    assert last_done(gate)["tokens_out"] == usage["completion_tokens"]
    assert last_done(gate)["tokens_in"] == usage["prompt_tokens"]


@pytest.mark.case(30)
async def test_no_usage_is_added(gate: Gate) -> None:
    """Who did not ask for usage gets none; the call is charged by its time."""
    await warm(gate)
    _, _, body = await ask(gate, "/v1/chat/completions", "#sim:tokens=9,ttft_ms=50", stream=True)
    assert body == bytes(only_call(gate).answer)
    assert "stream_options" not in json.loads(only_call(gate).body)
    assert b'"usage"' not in body
    assert "tokens_out" not in last_done(gate)
    assert last_done(gate)["slot_s"] >= 0.04


@pytest.mark.case(31)
async def test_the_last_usage_of_a_completion_counts(gate: Gate) -> None:
    """Every chunk of ``/v1/completions`` carries zeros; the true counts come last."""
    options = {"include_usage": True}
    _, _, body = await ask(gate, "/v1/completions", "#sim:tokens=6", stream=True, stream_options=options)
    assert body == bytes(only_call(gate).answer)
    counts = [one["usage"]["completion_tokens"] for one in frames(body)[:-1]]
    assert set(counts[:-1]) == {0}
    assert counts[-1] == last_done(gate)["tokens_out"] == 6


@pytest.mark.case(32)
async def test_packed_embeddings_pass(gate: Gate) -> None:
    """``base64`` vectors come as Ollama packed them."""
    status, _, body = await ask(gate, "/v1/embeddings", model="embed", encoding_format="base64")
    assert status == 200
    assert body == bytes(only_call(gate).answer)
    packed = base64.b64decode(json.loads(body)["data"][0]["embedding"])
    assert len(struct.unpack(f"<{len(packed) // 4}f", packed)) == gate.sim.script.dimensions


@pytest.mark.case(32)
async def test_token_arrays_get_ollamas_refusal(gate: Gate) -> None:
    """What Ollama does not take is refused by Ollama, and its words pass."""
    status, _, body = await ask(gate, "/v1/embeddings", model="embed", input=[[1, 2, 3]])
    assert status == 400
    assert body == bytes(only_call(gate).answer)
    assert error_of("/v1/embeddings", body) == "invalid input type"


@pytest.mark.case(33)
async def test_responses_pass_and_are_counted(gate: Gate) -> None:
    """The stream is Ollama's; the counts come from ``response.completed``."""
    status, headers, body = await ask(gate, "/v1/responses", "#sim:tokens=5", stream=True)
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    assert body == bytes(only_call(gate).answer)
    final = frames(body)[-1]
    assert final["type"] == "response.completed"
    usage = final["response"]["usage"]
    assert last_done(gate)["tokens_out"] == usage["output_tokens"] == 5
    assert last_done(gate)["tokens_in"] == usage["input_tokens"]


@pytest.mark.case(33)
async def test_a_compressed_request_is_refused_with_the_way_out(gate: Gate) -> None:
    """A zstd body is 415 with the setting that turns compression off, and nothing is booked."""
    data = b"\x28\xb5\x2f\xfd" + b"\0" * 20
    headers = {"Content-Encoding": "zstd", "Content-Type": "application/json"}
    status, _, body = await gate.request("POST", "/v1/responses", data=data, headers=headers)
    assert status == 415
    assert "enable_request_compression = false" in error_of("/v1/responses", body)
    assert nothing_ran(gate)


@pytest.mark.case(34)
async def test_a_recording_of_20_mb_is_queued_by_its_model(gate: Gate) -> None:
    """The form passes byte for byte, after its turn, and its model is known to the queue."""
    data = form_of(audio=bytes(range(256)) * (20 * 4096))
    headers = {"Content-Type": FORM}
    async with asyncio.TaskGroup() as tasks, busy(gate) as running:
        path = "/v1/audio/transcriptions"
        asked = tasks.create_task(gate.request("POST", path, data=io.BytesIO(data), headers=headers))
        await gate.waiting(1)
        (waiting,) = gate.parts.slots.snapshot().waiting
        assert waiting.model == "m:latest"
        assert calls(gate) == [running]
    status, _, body = asked.result()
    assert status == 200
    entry = calls(gate)[-1]
    assert entry.body == data
    assert body == bytes(entry.answer)
    assert json.loads(body) == {"text": "simulated words"}


@pytest.mark.case(35)
def test_five_silent_minutes_are_within_the_limit() -> None:
    """The longest silence inside an answer is limited to more than the five minutes tools need."""
    assert Config().ollama.idle_timeout > 300


@pytest.mark.case(35)
async def test_only_the_idle_limit_ends_a_silence(tmp_path: Path) -> None:
    """A silence many times longer than every other limit does not end a tool call."""
    settings = """
    [server]
    header_timeout = "100ms"
    body_timeout = "100ms"
    keepalive_timeout = "100ms"
    write_stall = "100ms"
    finish_timeout = "100ms"
    [ollama]
    connect_timeout = "100ms"
    send_timeout = "100ms"
    health_interval = "100ms"
    first_byte_timeout = "900ms"
    [queue]
    max_wait = "100ms"
    """
    async with gateway(tmp_path, settings=settings) as gate:
        gate.sim.next(
            Plan(thinking=2, tool="look", fault=Fault(FaultKind.STALL, 2)), path="/v1/chat/completions"
        )
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(ask(gate, "/v1/chat/completions", stream=True))
            entry = await gate.sim.arrived(0, path="/v1/chat/completions")
            await entry.reached(State.STALLED)
            await asyncio.sleep(1.2)  # the silence itself
            assert not asked.done()
            entry.resume()
        status, _, body = asked.result()
        assert status == 200
        assert body == bytes(entry.answer)
        assert frames(body)[-1] == "[DONE]"
        assert last_done(gate)["outcome"] == "ok"
