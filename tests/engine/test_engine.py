"""Real tokens of a real engine through a queue of two slots."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from tests.harness import Gate

pytestmark = pytest.mark.needs("haproxy", "c++")

LIMIT_S = 100
"""Ends a broken test before the run is ended as a whole, which would leave the engine running."""

# The engine's own words for an answer it stopped computing, and for one it computed to its end.
STOPPED = "Disconnected from client"
COMPUTED = "total time ="


def ask(*, tokens: int, stream: bool = True) -> dict[str, Any]:
    """A request whose answer is the same every time."""
    return {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Say something."}],
        "max_tokens": tokens,
        "temperature": 0,
        "seed": 1,
        "stream": stream,
    }


def texts(body: bytes) -> list[str]:
    """Returns the pieces of text in a stream, without the ids and times that differ from call to call."""
    events = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events[:-1]]
    return [delta["content"] for delta in deltas if "content" in delta]


def counted(words: str, log: Path) -> int:
    """Returns how often the engine has said something."""
    return log.read_text().count(words)


async def test_the_tokens_of_the_engine_arrive_as_they_are(gate: Gate, engine: str) -> None:
    """The same question asked around and through the gateway gives the same pieces in the same order."""
    async with (
        asyncio.timeout(LIMIT_S),
        aiohttp.ClientSession() as session,
        session.post(engine + "/v1/chat/completions", json=ask(tokens=200)) as response,
    ):
        direct = await response.read()
        status, headers, through = await gate.post("/v1/chat/completions", ask(tokens=200))
    assert status == 200
    assert headers["Content-Type"].startswith("text/event-stream")
    assert texts(through) == texts(direct)
    assert len(texts(through)) == 200


async def test_a_single_answer_passes_with_its_usage(gate: Gate) -> None:
    """A document of the engine passes whole, and its token counts are in the call's log line."""
    async with asyncio.timeout(LIMIT_S):
        status, _, body = await gate.post("/v1/chat/completions", ask(tokens=30, stream=False))
    assert status == 200
    usage = json.loads(body)["usage"]
    await gate.rest()
    (done,) = [entry for entry in gate.logs if entry["event"] == "request.done"]
    assert usage["completion_tokens"] == 30
    assert (done["tokens_in"], done["tokens_out"]) == (usage["prompt_tokens"], usage["completion_tokens"])


async def test_the_openai_library_streams_from_the_engine(gate: Gate) -> None:
    """An unmodified SDK reads a real stream through the gateway."""
    async with (
        asyncio.timeout(LIMIT_S),
        openai.AsyncOpenAI(base_url=gate.url + "/v1", api_key=gate.keys["alice"]) as client,
    ):
        stream = await client.chat.completions.create(**ask(tokens=50))
        pieces = [chunk async for chunk in stream]
    assert pieces[-1].choices[0].finish_reason == "length"


async def test_a_third_call_waits_for_one_of_two_slots(gate: Gate) -> None:
    """With two slots busy the next person waits, and is served when one of them ends."""
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        calls = [
            group.create_task(gate.post("/v1/chat/completions", ask(tokens=400), who=who))
            for who in ("alice", "bob", "carol")
        ]
        await gate.waiting(1)
        assert len(gate.parts.slots.snapshot().running) == 2
    answers = [call.result() for call in calls]
    assert [(status, len(texts(body))) for status, _, body in answers] == [(200, 400)] * 3
    waited = sorted(float(headers["X-Gpushare-Waited"]) > 0 for _, headers, _ in answers)
    assert waited == [False, False, True]


async def test_a_client_that_leaves_stops_the_engine(gate: Gate, engine_log: Path) -> None:
    """When a reader goes away in mid-stream the engine stops computing and the slot serves the next one."""
    stopped, computed = (counted(words, engine_log) for words in (STOPPED, COMPUTED))
    async with asyncio.timeout(LIMIT_S):
        async with aiohttp.ClientSession() as session:
            response = await session.post(
                gate.url + "/v1/chat/completions", json=ask(tokens=1500), headers=gate.bearer()
            )
            await response.content.readany()
            response.close()
        await gate.until(lambda: gate.parts.slots.snapshot().held == 0)
        await gate.until(lambda: counted(STOPPED, engine_log) == stopped + 1)
    assert counted(COMPUTED, engine_log) == computed
    outcomes = [entry["outcome"] for entry in gate.logs if entry["event"] == "request.done"]
    assert outcomes == ["client_gone_running"]
    async with asyncio.timeout(LIMIT_S):
        status, _, body = await gate.post("/v1/chat/completions", ask(tokens=5))
    assert status == 200
    assert len(texts(body)) == 5


async def test_a_full_queue_refuses_and_the_sdk_comes_back(gate: Gate) -> None:
    """More than a person may have waiting is 429 with a time that, obeyed, leads to an answer."""
    async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as group:
        calls = [group.create_task(gate.post("/v1/chat/completions", ask(tokens=400))) for _ in range(4)]
        await gate.waiting(2)
        status, headers, body = await gate.post("/v1/chat/completions", ask(tokens=5))
        assert status == 429
        assert 1 <= int(headers["Retry-After"]) <= 30
        assert json.loads(body)["error"]["code"] == "person_limit"
        async with openai.AsyncOpenAI(base_url=gate.url + "/v1", api_key=gate.keys["alice"]) as client:
            answer = await client.chat.completions.create(**ask(tokens=5, stream=False))
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 5
    assert {call.result()[0] for call in calls} == {200}


@pytest.mark.parametrize("path", ["/api/chat", "/v1/messages"])
async def test_a_route_the_engine_lacks_is_its_own_404(gate: Gate, path: str) -> None:
    """An error of the engine's own passes in the engine's own words."""
    async with asyncio.timeout(LIMIT_S):
        status, _, body = await gate.post(path, {**ask(tokens=5), "stream": False})
    assert (status, json.loads(body)) == (404, {"detail": "Not Found"})
