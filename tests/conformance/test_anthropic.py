"""Cases 36 to 38: the Anthropic dialect."""

import json
from pathlib import Path

import pytest

from tests.conformance.tools import ask, body_of, calls, frames, know_models, last_done, only_call
from tests.harness import Gate, gateway


@pytest.mark.case(36)
async def test_messages_pass_and_are_counted_at_their_end(gate: Gate) -> None:
    """The stream is Ollama's; the counts are those of ``message_delta``, not the estimate at its start."""
    status, headers, body = await ask(gate, "/v1/messages", "#sim:tokens=5", system="Be brief.", stream=True)
    assert (status, headers["Content-Type"], headers["Cache-Control"]) == (
        200,
        "text/event-stream",
        "no-cache",
    )
    assert body == bytes(only_call(gate).answer)
    events = frames(body)
    start, delta = events[0], events[-2]
    assert (start["type"], delta["type"], events[-1]["type"]) == (
        "message_start",
        "message_delta",
        "message_stop",
    )
    assert delta["usage"] != start["message"]["usage"]
    assert last_done(gate)["tokens_out"] == delta["usage"]["output_tokens"] == 5
    assert last_done(gate)["tokens_in"] == delta["usage"]["input_tokens"]


@pytest.mark.case(37)
@pytest.mark.parametrize("name", ["X-Api-Key", "Authorization"])
async def test_the_key_comes_in_either_header_and_stays_here(gate: Gate, name: str) -> None:
    """Both SDK generations are let in, and Ollama sees neither header nor key."""
    secret = gate.keys["alice"]
    headers = {
        name: f"Bearer {secret}" if name == "Authorization" else secret,
        "anthropic-version": "2023-06-01",
    }
    status, _, _ = await gate.post("/v1/messages", body_of("/v1/messages"), who=None, headers=headers)
    assert status == 200
    entry = only_call(gate)
    assert entry.header("X-Api-Key") is entry.header("Authorization") is None
    assert secret not in repr(entry.headers)
    assert last_done(gate)["person"] == "alice"


@pytest.mark.case(38)
async def test_errors_of_our_own_have_the_anthropic_shape(tmp_path: Path) -> None:
    """400, 401, 403, 404, 413, 415 and 429 each name their type, as Anthropic's SDKs expect."""
    settings = '[server]\nmax_body = "100kB"\n[queue]\nmax_wait = "50ms"'
    path = "/v1/messages"
    async with gateway(tmp_path, settings=settings) as gate:
        await know_models(gate)
        gate.parts.slots.pause()
        answers = [
            await gate.post(path, [1]),
            await gate.post(path, body_of(path), who=None),
            await gate.post(path, body_of(path, model="x:cloud")),
            await gate.post(path, body_of(path, model="nope")),
            await gate.post(path, body_of(path, "x" * 110_000)),
            await gate.post(path, body_of(path), headers={"Content-Encoding": "br"}),
            await gate.post(path, body_of(path)),
        ]
        seen = []
        for status, headers, body in answers:
            document = json.loads(body)
            assert document["type"] == "error"
            assert document["error"]["message"]
            assert document["request_id"] == headers["X-Request-Id"]
            seen.append((status, document["error"]["type"]))
        assert seen == [
            (400, "invalid_request_error"),
            (401, "authentication_error"),
            (403, "permission_error"),
            (404, "not_found_error"),
            (413, "request_too_large"),
            (415, "invalid_request_error"),
            (503, "overloaded_error"),
        ]
        assert calls(gate) == []
        gate.parts.slots.resume()
