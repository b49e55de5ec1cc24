import asyncio
import logging
import re
from collections.abc import Callable

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.web_protocol import RequestHandler

from gpushare.core.errors import GpushareError
from gpushare.web.connections import DOOR_PLACES, ConnectionLimits
from gpushare.web.protocol import BACKLOG_HIGH_BYTES, BEHIND_BYTES
from gpushare.web.transport import ResponseSink, key_accepted, read_body
from tests.unit.web.wire import HANG_S, Bench, Handler, Wire, echo, get, post, statuses

CANARY = "gs_0a1b2c_canary"
PIPELINED_BODY = post(b"x" * 2_000_000, target="/behind")
PIPELINED_CALLS = get("/behind") * 1000


async def never(_request: web.Request) -> web.StreamResponse:
    """Waits like a queued request."""
    await asyncio.Event().wait()
    raise AssertionError


async def stream_on(request: web.Request) -> web.StreamResponse:
    """Starts an answer and then waits like a model that thinks."""
    sink = ResponseSink(request)
    sink.start(200, {})
    sink.write(b"first")
    return await never(request)


async def stream_lots(request: web.Request) -> web.StreamResponse:
    """Writes more than any client's buffers take, and then waits."""
    sink = ResponseSink(request)
    sink.start(200, {})
    sink.write(b"x" * 8_000_000)
    return await never(request)


async def body_and_wait(request: web.Request) -> web.StreamResponse:
    """Reads the body, then waits like a queued request."""
    await read_body(request, limit=4_000_000, timeout_s=HANG_S)
    return await never(request)


# --- a client that leaves


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset, Wire.half_close])
@pytest.mark.parametrize("behind", [b"", get("/behind")[:20], PIPELINED_CALLS, PIPELINED_BODY])
@pytest.mark.parametrize("handler", [never, stream_on, body_and_wait])
async def test_leaving_cancels(
    bench: Bench,
    leave: Callable[[Wire], None],
    behind: bytes,
    handler: Handler,
) -> None:
    """A client that leaves cancels its request at once, whatever it left unread behind it."""
    bench.handler = handler
    await bench.start()
    wire = await bench.dial()
    await wire.send(post(b"{}", target="/first"))
    assert await bench.entered.get() == "/first"
    wire.send_what_fits(behind)
    leave(wire)
    async with asyncio.timeout(HANG_S):
        assert await bench.cancelled.get() == "/first"
    await bench.gone()
    assert bench.seen == ["/first"]


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset, Wire.half_close])
async def test_leaving_while_slow(bench: Bench, leave: Callable[[Wire], None]) -> None:
    """A client that leaves with answer bytes still unsent is noticed too."""
    bench.handler = stream_lots
    await bench.start()
    wire = await bench.dial(receive_bytes=4096)
    await wire.send(get())
    await wire.until(b"\r\n\r\n")
    leave(wire)
    async with asyncio.timeout(HANG_S):
        await bench.cancelled.get()
    await bench.gone()


@pytest.mark.parametrize("leave", [Wire.close, Wire.reset, Wire.half_close])
async def test_leaving_behind_upgrade(bench: Bench, leave: Callable[[Wire], None]) -> None:
    """An upgrade that is not taken does not hide the disconnect."""
    bench.handler = never
    await bench.start()
    wire = await bench.dial()
    await wire.send(get("/", "Connection: upgrade", "Upgrade: websocket"))
    await bench.entered.get()
    wire.send_what_fits(b"x" * 2_000_000)
    leave(wire)
    async with asyncio.timeout(HANG_S):
        await bench.cancelled.get()


@pytest.mark.parametrize(
    "behind",
    [
        post(b"x" * 20 * BEHIND_BYTES),
        get() * 100,
        get("/", "X-A: " + "x" * 8000) * 20,
    ],
    ids=["one body", "many requests", "much header"],
)
async def test_flood_is_cut(bench: Bench, behind: bytes) -> None:
    """Who fills the line behind a waiting request is cut off, whatever with."""
    bench.handler = never
    await bench.start()
    wire = await bench.dial()
    await wire.send(get("/first"))
    await bench.entered.get()
    wire.send_what_fits(behind)
    async with asyncio.timeout(HANG_S):
        assert await bench.cancelled.get() == "/first"
    assert bench.connections.events["flood"] == 1


async def test_steady_pipelining_is_no_flood(bench: Bench) -> None:
    """What is sent behind one request does not count against the next."""

    async def one_by_one(request: web.Request) -> web.StreamResponse:
        body = await read_body(request, limit=4_000_000, timeout_s=HANG_S)
        await asyncio.sleep(0.02)
        return web.Response(body=body[:1])

    bench.handler = one_by_one
    await bench.start()
    wire = await bench.dial()
    for _ in range(10):
        await wire.send(post(b"x" * (BEHIND_BYTES // 3)))
        await bench.entered.get()
    for _ in range(10):
        await wire.until(b"\r\n\r\nx")


async def test_leaving_mid_body(bench: Bench) -> None:
    """A client that leaves while its body arrives cancels the reading of it."""
    await bench.start()
    wire = await bench.dial()
    await wire.send(post(b"x" * 1000)[:-1])
    await bench.entered.get()
    wire.close()
    async with asyncio.timeout(HANG_S):
        await bench.cancelled.get()


@pytest.mark.item(71)
async def test_many_resets(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Requests followed by a reset leave no connection, no task and no log line behind."""
    bench.handler = never
    await bench.start()
    for _ in range(100):
        wire = await bench.dial()
        await wire.send(get())
        wire.reset()
    await bench.gone()
    assert not caplog.records


# --- pipelining and reuse


async def test_pipelined_answers_in_order(bench: Bench) -> None:
    """Requests sent in one go are answered one after another, however many they are."""
    await bench.start()
    targets = [f"/{number}" for number in range(100)]
    wire = await bench.dial()
    await wire.send(b"".join(get(target) for target in targets[:-1]) + get(targets[-1], "Connection: close"))
    answers = await wire.rest()
    assert bench.seen == targets
    assert re.findall(r"GET (/\d+) ", answers.decode()) == targets


async def test_pipelined_body(bench: Bench) -> None:
    """A big second request sent behind a quick first one is served."""
    await bench.start()
    answers = await bench.ask(get() + post(b"x" * 1_000_000, "Connection: close"))
    assert statuses(answers) == [200, 200]


async def test_big_body_right_after_answer(bench: Bench) -> None:
    """A next request is no flood, even if it comes before the last handler has returned."""

    async def linger(request: web.Request) -> web.StreamResponse:
        body = await read_body(request, limit=4_000_000, timeout_s=HANG_S)
        sink = ResponseSink(request)
        sink.start(200, {"Content-Length": "2"})
        sink.write(b"ok")
        sink.finish()
        if not body:
            await sent.wait()
        return sink.response

    sent = asyncio.Event()
    bench.handler = linger
    await bench.start()
    wire = await bench.dial()
    await wire.send(get())
    await wire.until(b"ok")
    await wire.send(PIPELINED_BODY[: 3 * BEHIND_BYTES])
    for _ in range(20):  # the server's turns to read it
        await asyncio.sleep(0)
    sent.set()
    await wire.send(PIPELINED_BODY[3 * BEHIND_BYTES :])
    assert b"200 OK" in await wire.until(b"ok")


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
@pytest.mark.parametrize("behind", [b"", get("/behind"), b"\0garbage"])
async def test_upgrade_ignored(bench: Bench, upgrade: str, behind: bytes) -> None:
    """An upgrade is ignored: normal answer, and nothing that came behind it runs."""
    await bench.start()
    answer = await bench.ask(get("/one", "Connection: upgrade", f"Upgrade: {upgrade}") + behind)
    assert statuses(answer) == [200]
    assert b"Connection: close" in answer
    assert bench.seen == ["/one"]


# --- hostile framing


BAD = {
    "length and chunks": post(b"0\r\n\r\n", "Transfer-Encoding: chunked"),
    "chunks and length": get("/", "Transfer-Encoding: chunked", "Content-Length: 5", method="POST")
    + b"0\r\n\r\n",
    "two lengths": post(b"abc", "Content-Length: 4"),
    "two equal lengths": post(b"abc", "Content-Length: 3"),
    "list of lengths": get("/", "Content-Length: 1, 1", method="POST") + b"a",
    **{
        f"length {value!r}": get("/", f"Content-Length: {value}", method="POST") + b"a"
        for value in ("+1", "-1", "0x1", "1_0", "9" * 30, "")
    },
    **{
        f"coding {value!r}": get("/", f"Transfer-Encoding: {value}", method="POST") + b"0\r\n\r\n"
        for value in ("xchunked", "chunked, identity", "\x0bchunked", "gzip, chunked", "identity", "gzip", "")
    },
    "two codings": get("/", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", method="POST")
    + b"0\r\n\r\n",
    "space before colon": get("/", "Transfer-Encoding : chunked", method="POST") + b"0\r\n\r\n",
    "folded coding": get("/", "Transfer-Encoding:\r\n chunked", method="POST") + b"0\r\n\r\n",
    "chunks before 1.1": get("/", "Transfer-Encoding: chunked", method="POST", version="1.0") + b"0\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: bench\n\n",
    "bare return in value": get("/", "X-A: a\rb"),
    "NUL in value": get("/", "X-A: a\0b"),
    "folded header": get("/", "X-A: a\r\n b"),
    "space in name": get("/", "X A: a"),
    "control in name": get("/", "X\x01A: a"),
    "non-ASCII name": get("/", "Xé: a"),
    "version 1.2": get(version="1.2"),
    "version 0.9": get("/", "Content-Length: 1", version="0.9", method="POST"),
    "version 2.0": get("/", "Content-Length: 1", version="2.0", method="POST"),
    "version 3.0": get(version="3.0"),
    "version x": get(version="x"),
    "long line": get("/" + "a" * 9000),
    "long header": get("/", "X-A: " + "a" * 9000),
    "many headers": get("/", *(f"X-{number}: a" for number in range(1000))),
    "absolute form": get("http://other.host/api/chat"),
    "absolute form, https": get("https://other.host/api/chat"),
    "absolute form, user": get("http://user:pw@bench/"),
    "asterisk": get("*"),
    "asterisk, options": get("*", method="OPTIONS"),
    "no slash": get("api/chat"),
    "no target": b"GET  HTTP/1.1\r\nHost: bench\r\n\r\n",
    "raw non-ASCII": get("/é"),
    "DEL": get("/\x7f"),
    "connect": get("bench:80", method="CONNECT"),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": get("/", "Host: other"),
    "lower-case method": get(method="get"),
    "unknown method": get(method="FOO"),
    "long method": get(method="A" * 100),
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 200,
    "SSH banner": b"SSH-2.0-OpenSSH_9.2\r\n",
    "garbage": b"\0\xff\0\xff" * 10 + b"\r\n\r\n",
    "key in a bad line": get("/", f"Authorization : Bearer {CANARY}"),
    "control after key": get("/", f"Authorization: Bearer {CANARY}\x01"),
    "unknown expectation": get("/", "Expect: something-else"),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
async def test_refused(bench: Bench, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """What can be read in two ways gets one refusal that quotes nothing; then the line closes."""
    caplog.set_level(logging.DEBUG)
    await bench.start()
    wire = await bench.dial()
    await wire.send(data)
    wire.send_what_fits(get("/smuggled"))
    answer = await wire.rest()
    assert [status for status in statuses(answer) if status in (400, 417, 431, 501, 505)] == statuses(answer)
    assert len(statuses(answer)) == 1
    assert not bench.seen
    written = answer.decode() + caplog.text
    assert CANARY not in written
    assert "aiohttp/" not in written
    assert "Traceback" not in written


CHUNKED = get("/", "transfer-encoding: chunked", method="POST")


@pytest.mark.parametrize(
    "chunk",
    [
        b"0x1\r\na\r\n",
        b"1 \r\na\r\n",
        b"-1\r\na\r\n",
        b"1" * 17 + b"\r\n",
        b"1;\n\r\na\r\n",
        b"g\r\n",
        b"1\r\nab\r\n",
    ],
)
@pytest.mark.parametrize("apart", [True, False])
async def test_bad_chunk(bench: Bench, chunk: bytes, *, apart: bool) -> None:
    """A body with a broken chunk is refused, also if its handler is reading it already."""
    await bench.start()
    wire = await bench.dial()
    await wire.send(CHUNKED + b"" if apart else CHUNKED + chunk)
    if apart:
        await bench.entered.get()
        await wire.send(chunk)
    answer = await wire.rest()
    assert statuses(answer) == [400]


@pytest.mark.parametrize("name", ["Content-Length: 50", "Authorization: Bearer x", "Host: evil"])
async def test_trailers_unused(bench: Bench, name: str) -> None:
    """A trailer is refused or ignored, never taken for a header of this or of the next request."""

    async def tell(request: web.Request) -> web.StreamResponse:
        await read_body(request, limit=100, timeout_s=HANG_S)
        return web.json_response([*request.headers.keys()], headers={"Connection": "close"})

    bench.handler = tell
    await bench.start()
    wire = await bench.dial()
    await wire.send(CHUNKED + f"1\r\na\r\n0\r\n{name}\r\n\r\n".encode() + get("/next", "Connection: close"))
    answer = await wire.rest()
    assert statuses(answer) in ([200], [400])
    assert b"Authorization" not in answer


async def test_inner_request_stays_body(bench: Bench) -> None:
    """A request inside the body of a GET is body."""
    await bench.start()
    inner = get("/inner")
    answer = await bench.ask(get("/outer", f"Content-Length: {len(inner)}", "Connection: close") + inner)
    assert statuses(answer) == [200]
    assert bench.seen == ["/outer"]


async def test_garbage_behind(bench: Bench) -> None:
    """Garbage behind a valid request ends the line; nothing runs twice."""
    await bench.start()
    wire = await bench.dial()
    await wire.send(get("/one"))
    await wire.until(b"GET /one")
    await wire.send(b"\0garbage\r\n\r\n")
    assert statuses(await wire.rest()) == [400]
    assert bench.seen == ["/one"]


# --- deadlines of headers


async def test_half_header_is_late(bench: Bench) -> None:
    """A header block that dribbles in gets a 408 at an absolute deadline."""
    bench.limits = ConnectionLimits(header_timeout_s=0.2)
    await bench.start()
    wire = await bench.dial()

    async def dribble() -> None:
        for byte in (get("/", "X: " + "a" * 4000))[:-4]:
            await wire.send(bytes([byte]))
            await asyncio.sleep(0.01)

    task = asyncio.create_task(dribble())
    answer = await wire.rest()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert statuses(answer) == [408]
    assert bench.connections.events["header_timeout"] == 1


async def test_silent_connection_is_closed(bench: Bench) -> None:
    """A connection that sends nothing is closed at the header deadline without an answer."""
    bench.limits = ConnectionLimits(header_timeout_s=0.1)
    await bench.start()
    wire = await bench.dial()
    assert await wire.rest() == b""


async def test_late_second_header(bench: Bench) -> None:
    """The deadline holds for later requests of a connection too."""
    bench.limits = ConnectionLimits(header_timeout_s=0.1)
    await bench.start()
    wire = await bench.dial()
    await wire.send(get("/one"))
    await wire.until(b"GET /one")
    await wire.send(get("/two")[:-4])
    assert statuses(await wire.rest()) == [408]


async def test_deadline_spares_running(bench: Bench) -> None:
    """Half a header block behind a running request does not end that request."""
    bench.limits = ConnectionLimits(header_timeout_s=0.05)

    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        return await echo(request)

    bench.handler = slow
    await bench.start()
    wire = await bench.dial()
    await wire.send(get("/one"))
    await bench.entered.get()
    await wire.send(b"GET /tw")
    await wire.until(b"GET /one")
    assert statuses(await wire.rest()) == [408]


async def test_idle_connection_is_closed(bench: Bench) -> None:
    """A kept connection is closed when nothing more comes."""
    bench.limits = ConnectionLimits(keepalive_timeout_s=0.1)
    await bench.start()
    wire = await bench.dial()
    await wire.send(get())
    assert statuses(await wire.rest()) == [200]


async def test_header_deadline_spares_idle(bench: Bench) -> None:
    """A connection that is idle between requests is not measured by the header deadline."""
    bench.limits = ConnectionLimits(header_timeout_s=0.1)
    await bench.start()
    wire = await bench.dial()
    await wire.send(get("/one"))
    await wire.until(b"GET /one")
    await asyncio.sleep(0.3)
    await wire.send(get("/two"))
    await wire.until(b"GET /two")


# --- limits


@pytest.mark.parametrize(
    ("limits", "event"),
    [
        (ConnectionLimits(total=2), "total"),
        (ConnectionLimits(per_address=2), "per_address"),
        (ConnectionLimits(anonymous=2), "anonymous"),
    ],
)
async def test_limit_is_503(bench: Bench, limits: ConnectionLimits, event: str) -> None:
    """A connection above a limit is told so and closed; places come back when others leave."""
    bench.limits = limits
    await bench.start()
    kept = [await bench.dial() for _ in range(2)]
    for wire in kept:
        await wire.send(get())
        await wire.until(b"GET /")
    refused = await (await bench.dial()).rest()
    assert statuses(refused) == [503]
    assert b"Retry-After: " in refused
    assert bench.connections.events[event] == 1
    for wire in kept:
        wire.close()
    await bench.gone()
    assert statuses(await bench.ask(get("/", "Connection: close"))) == [200]


@pytest.mark.parametrize(
    ("target", "shape"), [("/api/chat", rb'{"error":"[^{]'), ("/v1/models", rb'{"error":{"message":"')]
)
async def test_who_is_refused_gets_to_read_it(bench: Bench, target: str, shape: bytes) -> None:
    """P17: a client that sends its whole request first is answered all the same, in its own dialect."""
    bench.limits = ConnectionLimits(total=1)
    await bench.start()
    kept = await bench.dial()
    wire = await bench.dial()
    await wire.send(post(b"x" * 2_000_000, target=target))
    answer = await wire.rest()
    assert statuses(answer) == [503]
    assert re.search(shape, answer)
    assert not bench.seen
    kept.close()
    await bench.gone()
    assert bench.connections.at_door == 0


async def test_an_address_is_told_of_its_own_limit(bench: Bench) -> None:
    """Nobody is told that the server is full when it is the address that has too many connections."""
    bench.limits = ConnectionLimits(per_address=1)
    await bench.start()
    await bench.dial()
    assert b"Your address has 1 connections open, and may have no more." in await bench.ask(get())


async def test_few_wait_at_the_door(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: refused connections are told at once where many of them have not asked yet."""
    monkeypatch.setattr("gpushare.web.protocol.DOOR_S", 10 * HANG_S)
    bench.limits = ConnectionLimits(total=1)
    await bench.start()
    await bench.dial()
    silent = [await bench.dial() for _ in range(DOOR_PLACES)]
    assert statuses(await (await bench.dial()).rest()) == [503]
    assert bench.connections.at_door == DOOR_PLACES
    await silent[0].send(get())
    assert statuses(await silent[0].rest()) == [503]


async def test_key_frees_anonymous_place(bench: Bench) -> None:
    """A connection on which a key was accepted leaves room for those without."""
    bench.limits = ConnectionLimits(anonymous=1)

    async def accept(request: web.Request) -> web.StreamResponse:
        key_accepted(request)
        key_accepted(request)
        return await echo(request)

    bench.handler = accept
    await bench.start()
    wire = await bench.dial()
    await wire.send(get())
    await wire.until(b"GET /")
    assert (bench.connections.open, bench.connections.anonymous) == (1, 0)
    assert statuses(await bench.ask(get("/", "Connection: close"))) == [200]
    await wire.send(get())
    await wire.until(b"GET /")
    wire.close()
    await bench.gone()
    assert bench.connections.anonymous == 0


# --- Expect


async def test_continue_after_checks(bench: Bench) -> None:
    """The 100 is sent when the body is asked for, not before."""

    async def check_first(request: web.Request) -> web.StreamResponse:
        await checked.wait()
        return await echo(request)

    checked = asyncio.Event()
    bench.handler = check_first
    await bench.start()
    wire = await bench.dial()
    await wire.send(get("/", "Expect: 100-continue", "Content-Length: 4", "Connection: close", method="POST"))
    await bench.entered.get()
    checked.set()
    assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await wire.send(b"body")
    assert (await wire.rest()).endswith(b"POST / body")


@pytest.mark.parametrize("refuse", [GpushareError("no"), None])
async def test_no_continue_when_refused(bench: Bench, refuse: GpushareError | None) -> None:
    """A refusal, or an answer without the body, comes with no 100 in front and closes the line at once."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        if refuse is not None:
            raise refuse
        return web.Response()

    bench.handler = answer
    await bench.start()
    request = get("/", "Expect: 100-continue", "Content-Length: 4", method="POST")
    answers = await bench.ask(request)
    assert statuses(answers) == [500 if refuse else 200]
    assert b"Connection: close" in answers


async def test_expect_before_1_1(bench: Bench) -> None:
    """An old client cannot be sent a 100."""
    await bench.start()
    request = get("/", "Expect: 100-continue", "Content-Length: 4", method="POST", version="1.0")
    assert statuses(await bench.ask(request + b"body")) == [200]


# --- answers of aiohttp's own


async def test_names_no_versions(bench: Bench) -> None:
    """No answer tells which versions run here, not even that of an expecting request."""
    await bench.start()
    for headers in ((), ("Expect: 100-continue",)):
        answer = await bench.ask(get("/", "Connection: close", *headers))
        assert b"Server: gpushare\r\n" in answer
        assert b"aiohttp" not in answer


async def test_failed_handler(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """An exception that escapes is a 500 without detail; the log says where, not what."""

    async def fail(_request: web.Request) -> web.StreamResponse:
        raise ValueError(CANARY)

    bench.handler = fail
    await bench.start()
    answer = await bench.ask(get())
    assert statuses(answer) == [500]
    assert "ValueError" in caplog.text
    assert "in fail" in caplog.text
    assert CANARY not in caplog.text + answer.decode()


async def test_failed_page_stream_is_cut(bench: Bench) -> None:
    """An answer streamed through aiohttp whose handler fails is cut, not continued with a second one."""

    async def fail(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"part")
        raise GpushareError("late")

    bench.handler = fail
    await bench.start()
    answer = await bench.ask(get())
    assert statuses(answer) == [200]
    assert not answer.endswith(b"0\r\n\r\n")


async def test_page_stream_before_1_1(bench: Bench) -> None:
    """An old client finds the end of a streamed page by the close."""

    async def page(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"part")
        return response

    bench.handler = page
    await bench.start()
    assert (await bench.ask(get("/", "Connection: keep-alive", version="1.0"))).endswith(b"\r\n\r\npart")


async def page(request: web.Request) -> web.StreamResponse:
    """Answers with as many bytes as the target says."""
    return web.Response(body=b"x" * int(request.raw_path[1:]))


async def undrained(request: web.Request) -> web.StreamResponse:
    """Streams as many bytes as the target says, and does not wait for them to go out."""
    sink = ResponseSink(request)
    sink.start(200, {})
    sink.write(b"x" * int(request.raw_path[1:]))
    sink.finish()
    return sink.response


@pytest.mark.parametrize("handler", [page, undrained])
@pytest.mark.parametrize("size", [BACKLOG_HIGH_BYTES, 20_000_000])
@pytest.mark.parametrize("end", ["close", "keep-alive"])
async def test_stalled_client_is_dropped(bench: Bench, handler: Handler, size: int, end: str) -> None:
    """A client that does not take its answer does not keep its connection, be the answer big or small."""
    bench.limits = ConnectionLimits(write_stall_s=0.1, keepalive_timeout_s=0.1)
    bench.handler = handler
    await bench.start()
    wire = await bench.dial(receive_bytes=4096)
    await wire.send(get(f"/{size}", f"Connection: {end}"))
    await bench.entered.get()
    await bench.gone()
    assert bench.connections.events["stalled"] == 1


async def test_unread_body_is_read_away(bench: Bench) -> None:
    """A client in the middle of sending a refused body gets to read the refusal."""

    async def refuse(_request: web.Request) -> web.StreamResponse:
        raise GpushareError("no")

    bench.handler = refuse
    await bench.start()
    assert statuses(await bench.ask(post(b"x" * 3_000_000))) == [500]


async def test_cleanup_closes_idle(bench: Bench) -> None:
    """Stopping the server closes connections that are only kept alive."""
    await bench.start()
    wire = await bench.dial()
    await wire.send(get())
    await wire.until(b"GET / ")
    await bench.stop_serving()
    assert await wire.rest() == b""


# --- aiohttp's internals


INTERNALS = """
_messages _request_count _current_request _task_handler _waiter _close _force_close _reading_paused
_buffer_paused _lingering_time _drain_helper _pause_transport_reading resume_reading connection_made
connection_lost data_received eof_received pause_writing resume_writing start finish_response handle_error
log_exception force_close writing_paused _upgraded
"""


@pytest.mark.parametrize("name", INTERNALS.split())
def test_internals(name: str) -> None:
    """The library still has every internal the connection relies on."""
    assert hasattr(RequestHandler, name)


def test_calls_between_internals() -> None:
    """The library still reaches its transport through the methods that are overridden."""
    assert names_in(BaseProtocol, "pause_reading") >= {"_pause_transport_reading"}
    assert names_in(BaseProtocol, "pause_reading") >= {"_reading_paused"}
    assert names_in(BaseProtocol, "_pause_reading_for_buffer") >= {"_pause_transport_reading"}
    handles = names_in(RequestHandler, "_handle_request")
    assert handles >= {"finish_response", "handle_error", "_current_request"}
    assert names_in(RequestHandler, "connection_lost") >= {"_task_handler", "handler_cancellation"}
    assert names_in(RequestHandler, "start") >= {"_lingering_time", "_waiter", "_keepalive"}
    assert names_in(RequestHandler, "data_received") >= {"_request_count", "_messages", "_ErrInfo"}


def names_in(owner: type, method: str) -> set[str]:
    """Returns the names a method uses."""
    return set(getattr(owner, method).__code__.co_names)


def test_a_request_knows_its_connection() -> None:
    """The library keeps the connection in the attribute that is read."""
    assert "_protocol" in web.BaseRequest.protocol.fget.__code__.co_names  # type: ignore[attr-defined]


def test_a_request_knows_its_application_by_its_match() -> None:
    """The library finds the application, and prepares answers, through the attribute that is set."""
    assert "_match_info" in web.Request.ATTRS
    assert "_match_info" in web.Request.app.fget.__code__.co_names  # type: ignore[attr-defined]
    assert names_in(web.Request, "_prepare_hook") >= {"_match_info"}
