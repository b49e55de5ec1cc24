"""Cases 39 to 49: Ollama's failures and the client's mistakes, each in the form of its dialect."""

import itertools
import json
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest

from gpushare.sim import Fault, FaultKind, Plan
from tests.conformance.tools import (
    BUSY,
    DIALECTS,
    INFERENCE,
    STREAMING,
    ask,
    body_of,
    calls,
    error_of,
    exchange,
    frames,
    last_done,
    nothing_ran,
    only_call,
    post,
    unchunk,
)
from tests.harness import Gate, gateway

MESSAGES: Any = [{"role": "user", "content": "#sim:tokens=6,fault=reset@2"}]


@pytest.mark.case(39)
@pytest.mark.parametrize("path", STREAMING)
async def test_ollamas_refusals_pass_unchanged(gate: Gate, path: str) -> None:
    """Status and body are Ollama's, streaming or not, and the slot is free at once."""
    for refused, stream in itertools.product((400, 404, 500, 503), (True, False)):
        gate.sim.next(Plan(status=refused, message="because <so>"), path=path)
        status, headers, body = await ask(gate, path, stream=stream)
        assert gate.parts.slots.snapshot().held == 0
        assert status == refused
        assert body == bytes(calls(gate)[-1].answer)
        assert error_of_ollama(path, body) == "because <so>"
        assert headers["Content-Type"].startswith("application/json")
        assert last_done(gate)["outcome"] == "upstream_error"
        status, _, _ = await ask(gate, path, stream=stream)
        assert status == 200


def error_of_ollama(path: str, body: bytes) -> object:
    """Returns the text inside one of Ollama's own errors."""
    error = json.loads(body)["error"]
    return error["message"] if path.startswith("/v1/") else error


@pytest.mark.case(40)
@pytest.mark.parametrize("path", STREAMING)
async def test_a_busy_ollama_is_told_to_the_client(gate: Gate, path: str) -> None:
    """Ollama's 503 becomes ours, with the time to come back, once a second attempt met it too."""
    for _ in range(2):
        gate.sim.next(Plan(status=503, message=BUSY), path=path)
    status, headers, body = await ask(gate, path)
    assert status == 503
    assert 1 <= int(headers["Retry-After"]) <= 30
    assert "did not come through this queue" in error_of(path, body)
    assert len(calls(gate)) == 2
    assert last_done(gate)["outcome"] == "upstream_busy"


@pytest.mark.case(41)
@pytest.mark.parametrize("path", DIALECTS)
async def test_a_dead_ollama_is_a_502_until_it_is_back(gate: Gate, path: str) -> None:
    """P9, P10: a refused dial is answered at once; when Ollama is back the next call goes through."""
    gate.sim.refuse()
    status, _, body = await ask(gate, path)
    assert status == 502
    assert "connection refused" in error_of(path, body)
    assert last_done(gate)["outcome"] == "upstream_refused"
    await gate.sim.accept()
    status, _, body = await ask(gate, path)
    assert status == 200
    assert body == bytes(only_call(gate).answer)


async def broken_stream(gate: Gate, path: str, fault: FaultKind) -> tuple[bytes, bytes]:
    """Returns what Ollama sent before it failed, and the error record; the message must end properly."""
    gate.sim.next(Plan(tokens=6, fault=Fault(fault, 2)), path=path)
    answer = await exchange(gate, post(gate, path, body_of(path, stream=True), "Connection: close"))
    head, _, chunks = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    body = unchunk(chunks)
    sent = bytes(only_call(gate).answer)
    assert body.startswith(sent)
    assert gate.parts.slots.snapshot().held == 0
    return sent, body[len(sent) :]


async def read_into(received: list[Any], stream: Any) -> None:
    """Collects what a library gives, up to the error it raises."""
    async for part in stream:
        received.append(part)  # noqa: PERF401 - a comprehension would lose all of it with the error


@pytest.mark.case(42)
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize("fault", [FaultKind.RESET, FaultKind.CLOSE])
async def test_a_native_stream_that_breaks_ends_with_an_error_line(
    gate: Gate, path: str, fault: FaultKind
) -> None:
    """After the last whole record comes one ``{"error": …}`` line and a proper end."""
    sent, rest = await broken_stream(gate, path, fault)
    assert len(sent.splitlines()) == 2
    assert rest.endswith(b"\n")
    assert list(json.loads(rest)) == ["error"]


@pytest.mark.case(42)
async def test_ollama_python_raises_on_a_broken_stream(gate: Gate) -> None:
    """The library gives the records that came and then raises."""
    received: list[Any] = []
    client: Any = ollama.AsyncClient(host=gate.url, headers=gate.bearer())
    stream = await client.chat(model="m", messages=MESSAGES, stream=True)
    with pytest.raises(ollama.ResponseError, match="Ollama"):
        await read_into(received, stream)
    await client.close()
    assert len(received) == 2


@pytest.mark.case(43)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("fault", [FaultKind.RESET, FaultKind.CLOSE])
async def test_an_openai_stream_that_breaks_ends_with_an_error(
    gate: Gate, path: str, fault: FaultKind
) -> None:
    """After the last whole event comes one with an ``error`` object, a proper end, and no ``[DONE]``."""
    _, rest = await broken_stream(gate, path, fault)
    (error,) = frames(rest)
    assert rest.startswith(b"data: ")
    assert set(error["error"]) == {"message", "type", "param", "code"}


@pytest.mark.case(43)
@pytest.mark.parametrize("fault", [FaultKind.RESET, FaultKind.CLOSE])
async def test_a_responses_stream_that_breaks_ends_with_a_failed_response(
    gate: Gate, fault: FaultKind
) -> None:
    """After the last whole event comes ``response.failed`` for agents, with the libraries' object in it."""
    _, rest = await broken_stream(gate, "/v1/responses", fault)
    assert rest.startswith(b"event: response.failed\ndata: ")
    (event,) = frames(rest)
    assert set(event["error"]) == {"message", "type", "param", "code"}
    assert event["response"]["error"] == {"code": "server_error", "message": event["error"]["message"]}


@pytest.mark.case(43)
async def test_openai_python_raises_on_a_broken_response(gate: Gate) -> None:
    """The library gives the events that came and then raises."""
    received: list[Any] = []
    async with openai.AsyncOpenAI(base_url=gate.url + "/v1", api_key=gate.keys["alice"]) as client:
        asked = "#sim:tokens=4,fault=reset@2"
        stream = await client.responses.create(model="m", input=asked, stream=True)
        with pytest.raises(openai.APIError, match="Ollama"):
            await read_into(received, stream)
    assert received[-1].type == "response.output_text.delta"
    assert len(calls(gate)) == 1


@pytest.mark.case(43)
async def test_openai_python_raises_on_a_broken_stream(gate: Gate) -> None:
    """The library gives the chunks that came and then raises."""
    received: list[Any] = []
    async with openai.AsyncOpenAI(base_url=gate.url + "/v1", api_key=gate.keys["alice"]) as client:
        stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="Ollama"):
            await read_into(received, stream)
    assert len(received) == 2
    assert len(calls(gate)) == 1


@pytest.mark.case(44)
@pytest.mark.parametrize("fault", [FaultKind.RESET, FaultKind.CLOSE])
async def test_a_messages_stream_that_breaks_ends_with_an_error_event(gate: Gate, fault: FaultKind) -> None:
    """After the last whole event comes ``event: error`` and a proper end."""
    _, rest = await broken_stream(gate, "/v1/messages", fault)
    assert rest.startswith(b"event: error\ndata: ")
    (error,) = frames(rest)
    assert (error["type"], set(error["error"])) == ("error", {"type", "message"})


@pytest.mark.case(44)
async def test_anthropic_python_raises_on_a_broken_stream(gate: Gate) -> None:
    """The library gives the events that came and then raises."""
    received: list[Any] = []
    async with anthropic.AsyncAnthropic(base_url=gate.url, api_key=gate.keys["alice"]) as client:
        stream = await client.messages.create(model="m", max_tokens=99, messages=MESSAGES, stream=True)
        with pytest.raises(anthropic.APIStatusError, match="Ollama"):
            await read_into(received, stream)
    assert [event.type for event in received].count("content_block_delta") == 2
    assert len(calls(gate)) == 1


@pytest.mark.case(45)
async def test_ollamas_own_error_line_passes_once(gate: Gate) -> None:
    """An error Ollama wrote into its stream is the last the client sees."""
    gate.sim.next(Plan(tokens=6, message="boom", fault=Fault(FaultKind.ERROR, 2)), path="/api/chat")
    status, _, body = await ask(gate, "/api/chat", stream=True)
    assert status == 200
    assert body == bytes(only_call(gate).answer)
    assert body.endswith(b'\n{"error":"boom"}\n')
    assert body.count(b'"error"') == 1
    assert last_done(gate)["outcome"] == "upstream_error"


@pytest.mark.case(46)
@pytest.mark.parametrize("path", STREAMING)
async def test_a_stream_without_its_end_mark_is_incomplete(gate: Gate, path: str) -> None:
    """A clean but early end passes unchanged, is recorded as cut short and charged by its time."""
    gate.sim.next(Plan(tokens=6, ttft_ms=50, fault=Fault(FaultKind.EOF, 3)), path=path)
    gate.parts.slots.set_resident(("ollama",), frozenset({"m:latest"}))
    status, _, body = await ask(gate, path, stream=True)
    assert status == 200
    assert body == bytes(only_call(gate).answer)
    assert last_done(gate)["outcome"] == "upstream_truncated"
    assert last_done(gate)["slot_s"] >= 0.04


@pytest.mark.item(45)
@pytest.mark.case(47)
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("path", INFERENCE)
async def test_a_body_above_the_limit_is_413(tmp_path: Path, path: str, declared: bool) -> None:  # noqa: FBT001
    """With and without a declared length: refused in the dialect's form, closed cleanly, not forwarded."""
    async with gateway(tmp_path, settings='[server]\nmax_body = "100kB"') as gate:
        if declared:
            request = post(gate, path, b"x" * 100_001)
        else:
            chunk = b"%x\r\n" % 100_001 + b"x" * 100_001 + b"\r\n0\r\n\r\n"
            request = post(gate, path, b"", "Transfer-Encoding: chunked")
            request = request.replace(b"Content-Length: 0\r\n", b"") + chunk
        answer = await exchange(gate, request)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413 ")
        assert f"Content-Length: {len(body)}".encode() in head
        assert "the limit here is 100 kB" in error_of(path, body)
        assert nothing_ran(gate)


@pytest.mark.case(48)
@pytest.mark.parametrize(
    "body", [b'{"model":', b"", b"[]", b"null", b'{"model":"m"} {}', b'{"model":"\xff"}']
)
async def test_what_is_not_one_json_object_is_400(gate: Gate, body: bytes) -> None:
    """Refused in the dialect's form before the queue; an empty body in Ollama's own words."""
    for path in INFERENCE:
        if path.endswith("transcriptions"):
            continue
        status, _, answer = await gate.request("POST", path, data=body)
        assert status == 400
        message = error_of(path, answer)
        assert body or not path.startswith("/api/") or message == "missing request body"
    assert nothing_ran(gate)


@pytest.mark.case(49)
@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","MODEL":"n"}',
        b'{"model":"m","model":"n"}',
        b'{"Model":"m"}',
        b'{"model":"m","Stream":true}',
        b'{"model":"m","keep_alive":1,"Keep_Alive":0}',
        b'{"model":"m","mode\\u006c":"n"}',
        b'{"model":"m","options":{"num_ctx":1,"NUM_CTX":2}}',
    ],
)
async def test_what_two_readers_read_differently_is_400(gate: Gate, body: bytes) -> None:
    """Go takes the last of two keys that differ only in case, so no such body is forwarded."""
    status, _, answer = await gate.request("POST", "/api/generate", data=body)
    assert status == 400
    assert error_of("/api/generate", answer)
    assert nothing_ran(gate)
