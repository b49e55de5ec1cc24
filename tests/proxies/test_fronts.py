"""What the examples for front proxies promise, shown by the real programs in front of a whole gateway."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from gpushare.sim import State
from tests.conformance.tools import busy, only_call
from tests.harness import CANARY, Gate, chat, gateway
from tests.proxies.front import Front, front
from tests.upstream import CHUNKED, LAST_CHUNK, Connection, chunk, raw_ollama


def record(word: str, *, done: bool = False) -> bytes:
    """Returns one record of an answer."""
    message = {"role": "assistant", "content": word}
    return json.dumps({"model": "m", "message": message, "done": done}).encode() + b"\n"


async def test_tokens_arrive_one_by_one(tmp_path: Path, folder: Path, name: str) -> None:
    """Ollama makes each record only when the client has the one before it."""
    async with (
        raw_ollama() as ollama,
        gateway(tmp_path, engine=ollama.url) as gate,
        front(name, folder, f"127.0.0.1:{gate.port}") as proxy,
    ):
        await gate.until(lambda: gate.parts.monitor.view.models)

        async def begin() -> Connection:
            connection = await ollama.call()
            await connection.send(CHUNKED, chunk(record("first")))
            return connection

        beginning = asyncio.create_task(begin())
        async with proxy.open("POST", "/api/chat", gate.keys["alice"], json=chat()) as response:
            connection, pieces = await beginning, response.aiter_raw()
            assert await anext(pieces) == record("first")
            for number in range(8):
                await connection.send(chunk(record(f"word {number}")))
                assert await anext(pieces) == record(f"word {number}")
            last = record("", done=True)
            await connection.answer(chunk(last), LAST_CHUNK)
            assert await anext(pieces) == last


async def test_who_leaves_frees_the_gpu(proxy: Front, gate: Gate) -> None:
    """In the middle of an answer."""
    body = chat("#sim:fault=stall@1")
    async with proxy.open("POST", "/api/chat", gate.keys["alice"], json=body) as response:
        await anext(response.aiter_lines())
    await only_call(gate).reached(State.CANCELLED)


async def test_who_leaves_before_the_first_byte_frees_the_gpu(proxy: Front, gate: Gate) -> None:
    """And whoever leaves the queue is never sent to Ollama."""
    key = gate.keys["alice"]
    running = asyncio.create_task(proxy.ask("POST", "/api/chat", key, json=chat("#sim:fault=stall")))
    entry = await gate.sim.arrived(0, path="/api/chat")
    await entry.reached(State.STALLED)
    waiting = asyncio.create_task(proxy.ask("POST", "/api/chat", key, json=chat()))
    await gate.waiting(1)
    waiting.cancel()
    await gate.waiting(0)
    running.cancel()
    await entry.reached(State.CANCELLED)
    assert only_call(gate) is entry
    await asyncio.wait([running, waiting])


async def test_a_refusal_passes_whole(tmp_path: Path, folder: Path, name: str) -> None:
    """Status, sentence and when to come back are the gateway's own."""
    settings = "[queue]\nmax_waiting = 1\nmax_waiting_per_person = 1\n"
    async with (
        gateway(tmp_path, settings=settings) as gate,
        front(name, folder, f"127.0.0.1:{gate.port}") as proxy,
        busy(gate),
    ):
        key = gate.keys["alice"]
        waiting = asyncio.create_task(proxy.ask("POST", "/api/chat", key, json=chat()))
        await gate.waiting(1)
        refused = await proxy.ask("POST", "/v1/chat/completions", key, json=chat())
        waiting.cancel()
        await asyncio.wait([waiting])
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 30
    assert int(refused.headers["retry-after-ms"])
    assert refused.json()["error"]["code"] == "person_limit"


async def test_the_largest_body_passes_and_is_kept_nowhere(proxy: Front, gate: Gate) -> None:
    """The gateway's limit is the only one, and no file holds a prompt while it is answered."""
    room = gate.parts.config.server.max_body - 200
    text = "#sim:fault=stall " + CANARY
    body = json.dumps(chat(text + (room - len(text)) * "x", stream=False)).encode()
    assert room < len(body) <= room + 200
    asking = asyncio.create_task(proxy.ask("POST", "/api/chat", gate.keys["alice"], content=body))
    entry = await gate.sim.arrived(0, path="/api/chat")
    await entry.reached(State.STALLED)
    assert entry.body == body
    assert CANARY not in proxy.written()
    entry.resume()
    assert (await asking).status_code == 200


async def test_the_gateway_knows_who_asks_and_where(proxy: Front, gate: Gate) -> None:
    """What a client says of its own address is not believed; the page shows the address people typed."""
    forged = {"X-Forwarded-For": "192.0.2.9", "X-Forwarded-Proto": "http"}
    facts = await proxy.ask("GET", "/gpushare/v1/connecting", gate.keys["alice"], headers=forged)
    assert proxy.url in facts.text
    statuses = {
        (await proxy.ask("GET", "/api/tags", "gs_000000_wrong", headers=forged)).status_code
        for _ in range(25)
    }
    assert statuses == {401, 429}
    status, _, _ = await gate.request("GET", "/api/tags", who=None, headers={"api-key": "gs_000000_wrong"})
    assert status == 429  # what was counted is this address, not the one the client claimed


async def test_the_page_is_live(proxy: Front, gate: Gate) -> None:
    """Events come as they happen, although nothing ends."""
    async with proxy.open("GET", "/events", gate.keys["alice"]) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        lines = response.aiter_lines()
        while not (await anext(lines)).startswith("event: "):
            pass
        async with busy(gate):
            while "carol" not in await anext(lines):
                pass


def spellings(key: str) -> dict[str, str]:
    """Returns targets with a key or a link in them, and what of each may be logged."""
    return {
        f"/k/{key}/api/tags": "/api/tags",
        f"//k/{key}/api/version": "/api/version",
        f"/%6b/{key}/api/ps": "/api/ps",
        f"/k/../k/{key}/api/show": "/api/show",
        f"/v1/models?key={key}": "/v1/models",
        "/welcome/secret-token": "...",
    }


async def test_no_key_is_in_any_log(proxy: Front, gate: Gate) -> None:
    """Not in a path, not in a header, and no one-time link, whether the request is good or fails."""
    key = gate.keys["alice"]
    headers = {"x-api-key": key, "Referer": f"https://localhost/k/{key}/"}
    good = [(await proxy.ask("GET", path, headers=headers)).status_code for path in spellings(key)]
    assert good[0] == 200
    await gate.running.runner.cleanup()
    failing = [(await proxy.ask("GET", path, headers=headers)).status_code for path in spellings(key)]
    assert set(failing) == {502}
    written = proxy.written()
    assert [path for path in spellings(key).values() if path not in written] == []
    assert key not in written
    assert "secret-token" not in written


WITHOUT: dict[str, Mapping[str, str]] = {
    "nginx": {"proxy_read_timeout 20m": "proxy_read_timeout 1s"},
    "caddy": {"response_header_timeout 20m": "response_header_timeout 1s"},
}


async def test_the_limit_is_the_one_of_the_file(gate: Gate, folder: Path, name: str) -> None:
    """A call that is silent for longer than the file allows is ended; nothing else ends it."""
    async with front(name, folder, f"127.0.0.1:{gate.port}", WITHOUT[name]) as proxy:
        body = chat("#sim:fault=stall", stream=False)
        answer = await proxy.ask("POST", "/api/chat", gate.keys["alice"], json=body)
        assert answer.status_code in {502, 504}
        await only_call(gate).reached(State.CANCELLED)
