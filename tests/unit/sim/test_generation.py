"""A generation from its request to its records."""

import asyncio

import pytest

from gpushare.sim import Plan, Script, SimOllama, State
from gpushare.sim.asks import Ask as Request
from gpushare.sim.generation import pieces_of

from .conftest import Ask, chat, request_bytes


@pytest.fixture
def script() -> Script:
    """Three tokens unless the request says otherwise."""
    return Script(tokens=3)


@pytest.mark.parametrize(
    ("limit", "plan", "texts"),
    [
        (0, Plan(), ["This ", "is ", "the "]),
        (2, Plan(), ["This ", "is "]),
        (0, Plan(pieces=("a", "b")), ["a", "b"]),
        (0, Plan(thinking=1), ["", "This ", "is ", "the "]),
        (0, Plan(tool="f"), [""]),
    ],
)
def test_what_is_said(limit: int, plan: Plan, texts: list[str]) -> None:
    """The plan's own text, or words up to the request's limit; a tool call replaces them."""
    request = Request(path="/api/chat", model="m", limit=limit)
    assert [piece.text for piece in pieces_of(request, plan, 3)] == texts


def test_thinking_can_be_turned_off() -> None:
    """think=false leaves the thoughts out."""
    request = Request(path="/api/chat", model="m", think=False)
    assert not any(piece.thinking for piece in pieces_of(request, Plan(thinking=2), 3))


async def test_the_counts_agree_with_the_text(ask: Ask) -> None:
    """eval_count is the number of records before the final one; a cut answer says so."""
    body = chat("12345678", options={"num_predict": 2})
    *said, final = (await ask("POST", "/api/chat", body)).lines
    assert len(said) == final["eval_count"] == 2
    assert (final["prompt_eval_count"], final["done_reason"]) == (2, "length")
    assert all(isinstance(final[name], int) for name in ("total_duration", "load_duration", "eval_duration"))


async def test_a_request_without_prompt_only_loads(ask: Ask, sim: SimOllama) -> None:
    """The load form answers one object, without newline even for a stream."""
    reply = await ask("POST", "/api/generate", {"model": "m"})
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    assert reply.body.endswith(b'"response":"","done":true,"done_reason":"load"}')
    assert list(sim.gpu.resident) == ["m:latest"]


@pytest.mark.parametrize("keep_alive", [0, 0.0, "0", "0s", "0m"])
async def test_the_unload_form(ask: Ask, sim: SimOllama, keep_alive: object) -> None:
    """Every spelling of zero unloads an idle model at once."""
    await ask("POST", "/api/generate", {"model": "m"})
    reply = await ask("POST", "/api/chat", {"model": "m", "keep_alive": keep_alive})
    assert reply.json["done_reason"] == "unload"
    assert not sim.gpu.resident


async def test_a_client_that_leaves_stops_the_computing(sim: SimOllama) -> None:
    """Cancelled in the prompt: the entry says so, the slot is free, nothing was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sim.url.rpartition(":")[2]))
    writer.write(request_bytes("POST", "/api/chat", chat("#sim:ttft_ms=60000")))
    entry = await sim.arrived(0)
    await entry.reached(State.PROMPT)
    assert sim.gpu.computing == 1
    writer.close()
    await entry.reached(State.CANCELLED)
    assert (entry.records, entry.closed_at is not None, sim.gpu.computing) == (0, True, 0)
    assert await reader.read() == b""
