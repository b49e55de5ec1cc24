"""Cases 17 to 28: Ollama's own routes, whose answers pass byte for byte."""

import asyncio
import json

import aiohttp
import pytest

from gpushare.sim import Plan, State
from tests.conformance.tools import (
    STREAMING,
    ask,
    body_of,
    busy,
    calls,
    done,
    error_of,
    know_models,
    last_done,
    only_call,
    warm,
)
from tests.harness import Gate, chat


@pytest.mark.case(17)
@pytest.mark.parametrize("records", [1, 3])
async def test_each_record_passes_before_the_next(gate: Gate, records: int) -> None:
    """Every record Ollama wrote is with the client while Ollama still holds the next one back."""
    body = chat(f"#sim:tokens=5,fault=stall@{records}")
    del body["stream"]
    async with (
        asyncio.timeout(30),  # only ends a broken test
        aiohttp.ClientSession() as session,
        session.post(gate.url + "/api/chat", json=body, headers=gate.bearer()) as response,
    ):
        assert response.headers["Content-Type"] == "application/x-ndjson"
        received = b"".join([await response.content.readline() for _ in range(records)])
        entry = only_call(gate)
        assert entry.state is State.STALLED
        assert received == bytes(entry.answer)
        entry.resume()
        received += await response.read()
    assert received == bytes(entry.answer)
    assert len(received.splitlines()) == 6


@pytest.mark.case(18)
async def test_a_single_answer_passes_unchanged(gate: Gate) -> None:
    """``"stream": false`` gives the one document Ollama wrote, in Ollama's content type."""
    status, headers, body = await ask(gate, "/api/chat")
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert body == bytes(only_call(gate).answer)
    assert json.loads(body)["done"] is True


@pytest.mark.case(19)
async def test_the_metrics_behind_a_huge_context_are_read(gate: Gate) -> None:
    """A last record of more than half a megabyte passes unchanged and is still counted."""
    status, _, body = await ask(gate, "/api/generate", "#sim:tokens=7,context=110000", stream=True)
    assert status == 200
    assert body == bytes(only_call(gate).answer)
    final = body.splitlines()[-1]
    assert len(final) > 600_000
    assert last_done(gate)["tokens_out"] == json.loads(final)["eval_count"] == 7
    assert last_done(gate)["tokens_in"] == json.loads(final)["prompt_eval_count"]


@pytest.mark.case(20)
@pytest.mark.parametrize("path", STREAMING)
async def test_splits_anywhere_change_nothing(gate: Gate, path: str) -> None:
    """Seven bytes at a time, also inside characters: the answer is the same."""
    gate.sim.next(Plan(split=7, pieces=("größe ", "😀😀😀 ", "日本語 ")), path=path)
    status, _, body = await ask(gate, path, stream=True)
    assert status == 200
    assert body == bytes(only_call(gate).answer)
    assert "日本語".encode() in body
    assert last_done(gate)["outcome"] == "ok"


@pytest.mark.case(21)
@pytest.mark.parametrize("stream", [True, False])
async def test_escapes_stay_as_they_are(gate: Gate, stream: bool) -> None:  # noqa: FBT001 - a parameter
    """What Go escapes stays escaped, because some clients split lines at U+2028."""
    gate.sim.next(Plan(pieces=("\u2028", "<b>&", "😀 ", '"\\')), path="/api/chat")
    _, _, body = await ask(gate, "/api/chat", stream=stream)
    assert body == bytes(only_call(gate).answer)
    for escape in (rb"\u2028", rb"\u003cb\u003e\u0026", "😀".encode()):
        assert escape in body


@pytest.mark.case(22)
@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"stream": False}, {"prompt": ""}])
async def test_the_load_form_is_queued_and_passes(gate: Gate, fields: dict[str, object]) -> None:
    """A load waits its turn and is answered with one document without a newline."""
    async with busy(gate) as running:
        waiting = gate.post("/api/generate", {"model": "m", **fields})
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(waiting)
            await gate.waiting(1)
            assert calls(gate) == [running]
            running.resume()
    status, headers, body = asked.result()
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert body == bytes(calls(gate)[-1].answer)
    assert json.loads(body)["done_reason"] == "load"
    assert not body.endswith(b"\n")


UNLOADS = ("0", "0.0", '"0"', '"0s"', '"0m"')


@pytest.mark.case(23)
@pytest.mark.parametrize("keep_alive", UNLOADS)
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
async def test_unloading_is_for_admins(gate: Gate, path: str, keep_alive: str) -> None:
    """Every spelling of "at once" is seen as an unload: refused to persons, passed for admins."""
    body = f'{{"model":"m","keep_alive":{keep_alive}}}'.encode()
    await warm(gate)
    status, _, answer = await gate.request("POST", path, data=body)
    assert status == 403
    assert "Unloading m" in error_of(path, answer)
    assert calls(gate) == []
    assert list(gate.sim.gpu.resident) == ["m:latest"]
    status, _, answer = await gate.request("POST", path, who="root", data=body)
    assert status == 200
    assert answer == bytes(only_call(gate).answer)
    assert only_call(gate).body == body
    assert json.loads(answer)["done_reason"] == "unload"
    assert list(gate.sim.gpu.resident) == []


@pytest.mark.case(24)
@pytest.mark.parametrize("keep_alive", [-1, "-1s", "-1m"])
async def test_for_ever_is_no_unload(gate: Gate, keep_alive: float | str) -> None:
    """A negative ``keep_alive`` passes, with a prompt and in the form that only loads."""
    for prompt in ("hello", ""):
        status, _, _ = await ask(gate, "/api/generate", prompt, keep_alive=keep_alive)
        assert status == 200
        assert json.loads(calls(gate)[-1].body)["keep_alive"] == keep_alive
    assert list(gate.sim.gpu.resident) == ["m:latest"]


@pytest.mark.case(25)
async def test_embeddings_are_charged_by_time_and_counted(gate: Gate) -> None:
    """A batch of 500 inputs passes unchanged; its time and its tokens are on the account."""
    await warm(gate, "embed")
    gate.sim.next(Plan(ttft_ms=50), path="/api/embed")
    inputs = [f"input {number}" for number in range(500)]
    status, _, body = await ask(gate, "/api/embed", model="embed", input=inputs)
    assert status == 200
    assert body == bytes(only_call(gate).answer)
    answer = json.loads(body)
    assert len(answer["embeddings"]) == 500
    assert last_done(gate)["tokens_in"] == answer["prompt_eval_count"]
    assert last_done(gate)["slot_s"] >= 0.04


@pytest.mark.case(26)
async def test_old_embeddings_are_charged_by_time(gate: Gate) -> None:
    """The old route has no metrics; its time is on the account all the same."""
    await warm(gate, "embed")
    gate.sim.next(Plan(ttft_ms=50), path="/api/embeddings")
    status, _, body = await ask(gate, "/api/embeddings", model="embed")
    assert status == 200
    assert body == bytes(only_call(gate).answer)
    assert list(json.loads(body)) == ["embedding"]
    assert last_done(gate)["slot_s"] >= 0.04
    assert "tokens_in" not in last_done(gate)


@pytest.mark.case(27)
@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", ""])
async def test_the_content_type_of_a_request_does_not_matter(gate: Gate, content_type: str) -> None:
    """``curl -d`` works, which calls JSON a form."""
    data = json.dumps(body_of("/api/chat")).encode()
    headers = {"Content-Type": content_type} if content_type else {}
    async with (
        aiohttp.ClientSession(skip_auto_headers=["Content-Type"], headers=gate.bearer()) as session,
        session.post(gate.url + "/api/chat", data=data, headers=headers) as response,
    ):
        assert response.status == 200
        assert await response.read() == bytes(only_call(gate).answer)
    assert only_call(gate).body == data


@pytest.mark.case(28)
@pytest.mark.parametrize("path", STREAMING)
async def test_an_unknown_model_is_refused_before_the_queue(gate: Gate, path: str) -> None:
    """While the GPU is taken a typing error is answered at once, in Ollama's words."""
    await know_models(gate)
    async with busy(gate) as running:
        status, _, body = await ask(gate, path, model="Nope:7b")
        assert not running.ended
    assert status == 404
    assert error_of(path, body) == "model 'Nope:7b' not found"
    assert calls(gate) == [running]
    assert len(done(gate)) == 1
