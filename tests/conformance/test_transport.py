"""Cases 76 to 90: headers, framing, connections, memory and the end of the process."""

import asyncio
import base64
import gzip
import io
import itertools
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from gpushare.sim import Fault, FaultKind, Plan, Script, SimOllama, State
from tests.conformance.tools import (
    ask,
    body_of,
    calls,
    dial,
    done,
    error_of,
    exchange,
    head,
    nothing_ran,
    only_call,
    post,
    served,
    unchunk,
)
from tests.harness import Gate, chat, gateway
from tests.unit.web.wire import statuses

MIB = 1024 * 1024
SITE = "https://chat.example.com"
ALLOWED = f'[server]\nallowed_origins = ["{SITE}"]'
FOREIGN = ("Origin", "Referer", "Sec-Fetch-Site", "Cookie", "X-Forwarded-For", "X-OpenWebUI-User-Name")


@pytest.mark.case(76)
async def test_ollama_sees_its_own_host(gate: Gate) -> None:
    """Whatever name the client used, Ollama receives its own."""
    status, _, _ = await gate.post("/api/chat", chat(), headers={"Host": "gpu.example.com"})
    assert status == 200
    assert only_call(gate).header("Host") == gate.sim.url.removeprefix("http://")


@pytest.mark.item(28)
@pytest.mark.case(76)
async def test_a_foreign_page_is_refused(gate: Gate) -> None:
    """A page that is not listed cannot act, even with a key, and Ollama hears nothing."""
    status, headers, body = await gate.post("/api/chat", chat(), headers={"Origin": "https://evil.example"})
    assert status == 403
    assert "allowed_origins" in error_of("/api/chat", body)
    assert "Access-Control-Allow-Origin" not in headers
    assert calls(gate) == []


@pytest.mark.case(76)
async def test_a_listed_page_is_served_and_stays_unknown_to_ollama(tmp_path: Path) -> None:
    """The browser gets its permission from us; what it says of its page goes no further."""
    async with gateway(tmp_path, settings=ALLOWED) as gate:
        sent = {**dict.fromkeys(FOREIGN, "x"), "Origin": SITE}
        status, headers, _ = await gate.post("/api/chat", chat(), headers=sent)
        assert (status, headers["Access-Control-Allow-Origin"]) == (200, SITE)
        assert [only_call(gate).header(name) for name in FOREIGN] == [None] * len(FOREIGN)


@pytest.mark.item(29)
@pytest.mark.case(77)
@pytest.mark.parametrize("origin", [SITE, "vscode-webview://x"])
async def test_a_listed_page_may_send_its_headers(tmp_path: Path, origin: str) -> None:
    """The preflight allows what the page asks for, without a key."""
    async with gateway(tmp_path, settings=ALLOWED) as gate:
        sent = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-api-key, anthropic-version, content-type",
        }
        status, headers, body = await gate.request("OPTIONS", "/v1/messages", who=None, headers=sent)
        assert (status, body) == (204, b"")
        assert headers["Access-Control-Allow-Origin"] == origin
        assert "POST" in headers["Access-Control-Allow-Methods"]
        allowed = {name.strip() for name in headers["Access-Control-Allow-Headers"].split(",")}
        assert {"x-api-key", "anthropic-version"} <= allowed
        status, headers, _ = await gate.request(
            "OPTIONS", "/v1/messages", who=None, headers={**sent, "Origin": "https://evil.example"}
        )
        assert status == 403
        assert "Access-Control-Allow-Origin" not in headers
        assert calls(gate) == []


@pytest.mark.item(44)
@pytest.mark.case(78)
async def test_the_headers_of_the_connection_stay_here(gate: Gate) -> None:
    """Neither hop-by-hop headers nor those ``Connection`` names reach Ollama."""
    sent = ["Connection: close, X-Foo", "X-Foo: 1", "Keep-Alive: 5", "TE: trailers", "Proxy-Connection: x"]
    answer = await exchange(gate, post(gate, "/api/chat", chat(), *sent))
    assert statuses(answer) == [200]
    entry = only_call(gate)
    assert {name.lower() for name, _ in entry.headers} == {
        *("host", "user-agent", "accept-encoding", "connection", "content-type", "content-length")
    }
    assert entry.header("Connection") == "close"


@pytest.mark.case(79)
@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_chunked_request_arrives_equal(gate: Gate, size: int) -> None:
    """However the body is cut into chunks, Ollama receives the same bytes."""
    body = json.dumps(chat("größe 😀 " * 200)).encode()
    request = post(gate, "/api/chat", b"", "Transfer-Encoding: chunked", "Connection: close")
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    answer = await exchange(gate, request.replace(b"Content-Length: 0\r\n", b"") + framed)
    assert statuses(answer) == [200]
    assert only_call(gate).body == body


@pytest.mark.case(80)
async def test_the_body_is_asked_for_once_the_key_is_known(gate: Gate) -> None:
    """``Expect: 100-continue`` gets its 100, then the normal answer."""
    request = post(gate, "/api/chat", chat(), "Expect: 100-continue", "Connection: close")
    start, _, body = request.partition(b"\r\n\r\n")
    async with dial(gate.port) as wire:
        await wire.send(start + b"\r\n\r\n")
        assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send(body)
        answer = await wire.rest()
    assert statuses(answer) == [200]
    assert unchunk(answer.partition(b"\r\n\r\n")[2]) == bytes(only_call(gate).answer)


@pytest.mark.case(80)
@pytest.mark.parametrize(("who", "length", "status"), [("nobody", 1_000_000, 401), ("alice", 10**9, 413)])
async def test_an_unwelcome_body_is_never_asked_for(gate: Gate, who: str, length: int, status: int) -> None:
    """With a bad key or too large a size the final status comes first, and no 100."""
    gate.keys["nobody"] = "gs_abcdef_" + "x" * 32
    sent = [f"Authorization: Bearer {gate.keys[who]}", f"Content-Length: {length}", "Expect: 100-continue"]
    answer = await exchange(gate, head("POST", "/api/chat", *sent))
    assert statuses(answer) == [status]
    assert calls(gate) == []


@pytest.mark.case(81)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/responses", "/v1/messages"])
async def test_a_compressed_request_is_refused(gate: Gate, path: str) -> None:
    """A gzip body is 415; it is neither unpacked nor passed on."""
    data = gzip.compress(json.dumps(body_of(path)).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    status, _, body = await gate.request("POST", path, data=data, headers=headers)
    assert status == 415
    assert "without Content-Encoding" in error_of(path, body)
    assert calls(gate) == []


@pytest.mark.case(82)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
async def test_answers_are_never_compressed(gate: Gate, path: str) -> None:
    """Whatever the client accepts, Ollama is asked for plain bytes and they pass as they are."""
    body = body_of(path, stream=True)
    status, headers, answer = await gate.post(path, body, headers={"Accept-Encoding": "gzip, zstd, br"})
    assert status == 200
    assert "Content-Encoding" not in headers
    assert only_call(gate).header("Accept-Encoding") == "identity"
    assert answer == bytes(only_call(gate).answer)


@pytest.mark.case(83)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_old_client_is_served(gate: Gate, stream: bool) -> None:  # noqa: FBT001 - a parameter
    """HTTP/1.0 gets an answer without chunks that ends with the connection, keep-alive asked for or not."""
    request = post(gate, "/api/chat", chat(stream=stream), "Connection: keep-alive", version="1.0")
    answer = await exchange(gate, request)
    start, _, body = answer.partition(b"\r\n\r\n")
    assert statuses(answer) == [200]
    assert b"transfer-encoding" not in start.lower()
    assert b"Connection: close" in start
    assert body == bytes(only_call(gate).answer)


@pytest.mark.case(84)
async def test_a_connection_is_used_again(gate: Gate) -> None:
    """After a streamed answer the next requests work on the same connection, one by one and all at once."""
    async with dial(gate.port) as wire:
        for number in range(2):
            await wire.send(post(gate, "/api/chat", chat()))
            answer = await wire.until(b"0\r\n\r\n")
            assert statuses(answer) == [200]
            assert unchunk(answer.partition(b"\r\n\r\n")[2]) == bytes(calls(gate)[number].answer)
        last = post(gate, "/api/chat", chat("last"), "Connection: close")
        await wire.send(post(gate, "/v1/completions", body_of("/v1/completions", stream=True)) + last)
        answer = await wire.rest()
    assert statuses(answer) == [200, 200]
    assert [entry.path for entry in calls(gate)] == ["/api/chat", "/api/chat", "/v1/completions", "/api/chat"]


TARGETS = """
    http://127.0.0.1/api/chat
    http://evil.example/api/pull
    /api/../api/pull
    /api/./pull
    /api/%70ull
    /api%2fpull
    /api//pull
    ///api/pull
    /api/pull;x
    /api/pull%00
    /api/pull\\
    /API/pull
    /v1/../api/pull
    /k/../api/pull
    /api/blobs/../pull
    *
    evil.example:80
""".split()


@pytest.mark.case(85)
async def test_no_disguised_target_gets_through(gate: Gate) -> None:
    """Absolute, dotted, escaped and doubled paths are refused for everybody and never forwarded."""
    for target, who in itertools.product(TARGETS, ("alice", "root")):
        request = post(gate, target, {"model": "m"}, "Connection: close", who=who)
        (status,) = statuses(await exchange(gate, request))
        assert status in (400, 403, 404), target
    assert nothing_ran(gate)


@pytest.mark.case(86)
async def test_our_headers_come_beside_ollamas(gate: Gate) -> None:
    """Answers carry one request id under two names and the time waited; Ollama's own headers stay."""
    status, headers, _ = await ask(gate, "/v1/messages", stream=True)
    assert status == 200
    assert headers["X-Request-Id"] == headers["X-Gpushare-Request"] == done(gate)[0]["request"]
    assert headers["X-Gpushare-Waited"] == "0.0"
    assert (headers["Content-Type"], headers["Cache-Control"]) == ("text/event-stream", "no-cache")
    status, headers, _ = await gate.post("/nope", {})
    assert (status, headers["X-Request-Id"]) == (404, headers["X-Gpushare-Request"])


QUEUE_OF_200 = (
    '[queue]\nmax_waiting = 400\nmax_waiting_per_person = 400\nmax_wait = "10h"\n[gpu]\nbackend = "none"'
)


@pytest.mark.case(87)
async def test_200_waiting_connections_are_cheap_and_leave_nothing(tmp_path: Path) -> None:
    """The process stays small, and has as few descriptors as before once the clients have left."""
    sim = SimOllama()
    await sim.start()
    sim.next(Plan(fault=Fault(FaultKind.STALL, 1)), path="/api/chat")
    people: dict[str, dict[str, object]] = {"alice": {}}
    async with AsyncExitStack() as stack:
        stack.push_async_callback(sim.stop)
        server = await stack.enter_async_context(
            served(tmp_path, sim.url, people=people, settings=QUEUE_OF_200)
        )
        session = await stack.enter_async_context(
            aiohttp.ClientSession(server.url, headers=server.bearer("alice"))
        )
        await numbers_of(session, running=0, waiting=0)
        descriptors = server.descriptors()
        body = json.dumps(chat()).encode()
        bearer = f"Authorization: Bearer {server.keys['alice']}"
        request = head("POST", "/api/chat", bearer, f"Content-Length: {len(body)}") + body
        async with AsyncExitStack() as wires:
            for _ in range(201):
                wire = await wires.enter_async_context(dial(server.port))
                await wire.send(request)
            await numbers_of(session, running=1, waiting=200)
            assert server.memory_bytes("VmHWM") < 100 * MIB
            assert server.descriptors() >= descriptors + 201
        await numbers_of(session, running=0, waiting=0)
        async with asyncio.timeout(30):
            while server.descriptors() > descriptors:
                await asyncio.sleep(0.01)


async def numbers_of(session: aiohttp.ClientSession, *, running: int, waiting: int) -> None:
    """Waits until the status document shows so many calls."""
    async with asyncio.timeout(30):
        while True:
            async with session.get("/gpushare/v1/status") as response:
                status = await response.json()
            if (len(status["running"]), len(status["waiting"])) == (running, waiting):
                return
            await asyncio.sleep(0.01)


@pytest.mark.case(88)
async def test_a_restart_ends_streams_properly_and_is_soon_back(tmp_path: Path) -> None:
    """Running streams end with their error record, a waiting call is refused, and the next process serves."""
    sim = SimOllama(Script(slots=2))
    await sim.start()
    people: dict[str, dict[str, object]] = {"alice": {}, "bob": {}, "carol": {}}
    settings = '[server]\nshutdown_grace = "100ms"\n[queue]\nslots = 2'
    beginnings = {"/api/chat": b'{"error":', "/v1/messages": b"event: error\ndata: "}
    async with AsyncExitStack() as stack:
        stack.push_async_callback(sim.stop)
        async with served(tmp_path, sim.url, people=people, settings=settings) as server:
            wires = [await stack.enter_async_context(dial(server.port)) for _ in people]
            for wire, path, who in zip(wires, (*beginnings, "/api/chat"), people, strict=True):
                sim.next(Plan(fault=Fault(FaultKind.STALL, 2)), path=path)
                body = json.dumps(body_of(path, stream=True)).encode()
                bearer = f"Authorization: Bearer {server.keys[who]}"
                await wire.send(head("POST", path, bearer, f"Content-Length: {len(body)}") + body)
                if who != "carol":
                    await (await sim.arrived(0, path=path)).reached(State.STALLED)
            async with aiohttp.ClientSession(server.url, headers=server.bearer("alice")) as session:
                await numbers_of(session, running=2, waiting=1)
            server.terminate()
            *running, waiting = [await wire.rest() for wire in wires]
            assert await server.process.wait() == 0
        assert statuses(waiting) == [503]
        assert b"Retry-After" in waiting
        for answer, (path, beginning) in zip(running, beginnings.items(), strict=True):
            body = unchunk(answer.partition(b"\r\n\r\n")[2])
            sent = bytes((await sim.arrived(0, path=path)).answer)
            assert body.startswith(sent)
            assert body[len(sent) :].startswith(beginning)
            assert b"restarting" in body[len(sent) :]
        again = await stack.enter_async_context(
            served(tmp_path / "state", sim.url, people={"dave": {}}, port=server.port)
        )
        async with (
            aiohttp.ClientSession(again.url, headers=again.bearer("dave")) as session,
            session.post("/api/generate", json=body_of("/api/generate")) as response,
        ):
            assert response.status == 200


@pytest.mark.case(89)
async def test_a_large_picture_passes(gate: Gate) -> None:
    """25 MB of base64 arrive at Ollama as they were sent."""
    picture = base64.b64encode(bytes(range(256)) * (25_000_000 * 3 // 4 // 256)).decode()
    message = {"role": "user", "content": "what is this?", "images": [picture]}
    data = json.dumps({"model": "m", "messages": [message]}).encode()
    assert len(data) > 24_900_000
    status, _, _ = await gate.request("POST", "/api/chat", data=io.BytesIO(data))
    assert status == 200
    assert only_call(gate).body == data


@pytest.mark.case(90)
async def test_a_record_costs_little(tmp_path: Path) -> None:
    """Eight streams of 100 records a second: the gateway's processor time per record is far below 1 ms."""
    sim = SimOllama(Script(slots=8, default=Plan(tokens=150, delay_ms=10)))
    await sim.start()
    people: dict[str, dict[str, object]] = {"alice": {}}
    settings = "[queue]\nslots = 8"
    async with AsyncExitStack() as stack:
        stack.push_async_callback(sim.stop)
        server = await stack.enter_async_context(served(tmp_path, sim.url, people=people, settings=settings))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(server.url, headers=server.bearer("alice"))
        )

        async def stream() -> int:
            async with session.post("/api/chat", json=chat()) as response:
                return len((await response.read()).splitlines())

        before, begun = server.processor_s(), time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            streams = [tasks.create_task(stream()) for _ in range(8)]
        records = sum(task.result() for task in streams)
        assert records == 8 * 151
        assert time.monotonic() - begun >= 1.5, "the records did not come one by one"
        assert (server.processor_s() - before) / records < 0.001
