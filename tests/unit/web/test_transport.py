import asyncio
import logging
from collections.abc import Mapping

import pytest
from aiohttp import web

from gpushare.core.errors import BodyTooLarge, Draining, MalformedRequest, RequestTimeout
from gpushare.engine.ports import Sink
from gpushare.web import transport
from gpushare.web.protocol import BACKLOG_HIGH_BYTES, BACKLOG_LOW_BYTES, ClientConnection, connection_of
from gpushare.web.transport import ResponseSink, read_body
from tests.unit.web.wire import HANG_S, Bench, Handler, get, post, statuses

CLOSE = "Connection: close"
END = b"0\r\n\r\n"


def answering(
    *pieces: bytes, status: int = 200, headers: Mapping[str, str] | None = None, finish: bool = True
) -> Handler:
    """Returns a handler that streams ``pieces``."""

    async def handler(request: web.Request) -> web.StreamResponse:
        sink: Sink = ResponseSink(request, headers={"X-Extra": "yes"})
        sink.start(status, headers or {})
        assert sink.started
        for piece in pieces:
            sink.write(piece)
            await asyncio.sleep(0)
        if finish:
            sink.finish()
            sink.finish()
        assert isinstance(sink, ResponseSink)
        return sink.response

    return handler


# --- the shape of an answer


async def test_chunks(bench: Bench) -> None:
    """An answer without a length is sent in chunks, piece by piece, empty pieces left out."""
    bench.handler = answering(b"one\n", b"", b"two\n", headers={"Content-Type": "application/x-ndjson"})
    await bench.start()
    head, body = (await bench.ask(get("/", CLOSE))).split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"4\r\none\n\r\n4\r\ntwo\n\r\n" + END
    names = [line.split(b": ")[0] for line in head.split(b"\r\n")[1:]]
    assert sorted(names) == [
        b"Connection", b"Content-Type", b"Date", b"Server", b"Transfer-Encoding", b"X-Extra"
    ]  # fmt: skip


async def test_declared_length(bench: Bench) -> None:
    """An answer with a length is sent as it is."""
    bench.handler = answering(b"12", b"345", headers={"Content-Length": "5"})
    await bench.start()
    answer = await bench.ask(get("/", CLOSE))
    assert answer.endswith(b"\r\n\r\n12345")
    assert b"Transfer-Encoding" not in answer


async def test_before_1_1(bench: Bench) -> None:
    """An old client gets the bare body and finds its end by the close, whatever it asked for."""
    bench.handler = answering(b"one", b"two")
    await bench.start()
    answer = await bench.ask(get("/", "Connection: keep-alive", version="1.0"))
    assert answer.endswith(b"\r\n\r\nonetwo")
    assert b"Connection: close" in answer


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
@pytest.mark.parametrize("headers", [{}, {"Content-Length": "3"}])
async def test_no_body(bench: Bench, method: str, status: int, headers: dict[str, str]) -> None:
    """Answers that cannot have a body have none, and the line stays in step."""
    bench.handler = answering(b"abc", status=status, headers=headers)
    await bench.start()
    answers = await bench.ask(get("/", method=method) + get("/", CLOSE, method=method))
    assert statuses(answers) == [status, status]
    assert b"abc" not in answers
    assert b"chunked" not in answers


async def test_unknown_status(bench: Bench) -> None:
    """A status without a name is sent without one."""
    bench.handler = answering(status=299)
    await bench.start()
    assert (await bench.ask(get("/", CLOSE))).startswith(b"HTTP/1.1 299 \r\n")


@pytest.mark.item(81)
@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "a\nb", "a\rb", "a\0b"])
async def test_header_cannot_split(bench: Bench, value: str) -> None:
    """A header value with a line end is an error of ours and never sent."""
    bench.handler = answering(headers={"X-A": value})
    await bench.start()
    answer = await bench.ask(get("/", CLOSE))
    assert statuses(answer) == [500]
    assert b"X-A" not in answer


# --- the connection after it


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "3"}])
async def test_reuse(bench: Bench, headers: dict[str, str]) -> None:
    """After a streamed answer the connection serves the next request."""
    bench.handler = answering(b"abc", headers=headers)
    await bench.start()
    wire = await bench.dial()
    for target in ("/one", "/two", "/three"):
        await wire.send(post(b"{}", target=target))
        answer = await wire.until(b"abc\r\n" + END if not headers else b"abc")
        assert b"Connection" not in answer
    assert bench.seen == ["/one", "/two", "/three"]
    await wire.send(get("/", CLOSE))
    assert b"Connection: close" in await wire.rest()


async def test_no_reuse_with_unread_body(bench: Bench) -> None:
    """A streamed answer to a body that was not read closes the line: the rest of it is no request."""
    bench.handler = answering(b"abc")
    await bench.start()
    wire = await bench.dial()
    await wire.send(get("/", "Content-Length: 100", method="POST"))
    assert b"Connection: close" in await wire.until(END)
    await wire.send(get("/inner").ljust(100))
    assert await wire.rest() == b""
    assert bench.seen == ["/"]


async def fail_late(request: web.Request) -> web.StreamResponse:
    """Fails after the answer was started."""
    ResponseSink(request).start(200, {})
    raise ValueError


async def answer_twice(request: web.Request) -> web.StreamResponse:
    """Starts one answer and returns another."""
    ResponseSink(request).start(200, {})
    return web.Response(text="another")


@pytest.mark.parametrize(
    "handler",
    [
        fail_late,
        answer_twice,
        answering(b"abc", finish=False),
        answering(b"abc", headers={"Content-Length": "4"}),
        answering(b"abc", b"de", headers={"Content-Length": "4"}),
    ],
    ids=["failed", "another answer", "not finished", "too short", "too long"],
)
async def test_unwhole_answer_is_cut(
    bench: Bench, handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that is not whole is cut so that the client can tell, and nothing is sent behind it."""
    caplog.set_level(logging.CRITICAL, "gpushare.connections")
    bench.handler = handler
    await bench.start()
    answer = await bench.ask(get("/one") + get("/two"))
    assert len(statuses(answer)) <= 1
    assert not answer.endswith(END)
    assert b"another" not in answer
    assert b"abcd" not in answer
    await bench.gone()
    assert bench.seen == ["/one"]


async def test_unstarted_response(bench: Bench) -> None:
    """Returning an answer that was never started is a fault that the client is told of."""

    async def forget(request: web.Request) -> web.StreamResponse:
        return ResponseSink(request).response

    bench.handler = forget
    await bench.start()
    assert statuses(await bench.ask(get("/", CLOSE))) == [500]


async def test_refusal_before_start(bench: Bench) -> None:
    """A sink that was made but not started does not stand in the way of another answer."""

    async def refuse(request: web.Request) -> web.StreamResponse:
        sink = ResponseSink(request)
        sink.finish()
        assert not sink.started
        raise BodyTooLarge(1)

    bench.handler = refuse
    await bench.start()
    assert statuses(await bench.ask(get("/", CLOSE))) == [413]


async def test_abort_spares_handler(bench: Bench) -> None:
    """``abort`` cuts the client off at once and lets the handler go on with its records."""
    done = asyncio.Event()

    async def abort(request: web.Request) -> web.StreamResponse:
        sink = ResponseSink(request)
        sink.start(200, {})
        sink.write(b"abc")
        sink.abort()
        sink.abort()
        await bench.gone()
        sink.write(b"def")
        sink.finish()
        assert sink.backlog() == 0
        await sink.drained()
        done.set()
        return sink.response

    bench.handler = abort
    await bench.start()
    answer = await bench.ask(get())
    assert b"def" not in answer
    assert not answer.endswith(END)
    async with asyncio.timeout(HANG_S):
        await done.wait()
    assert bench.cancelled.empty()


# --- slow clients


async def test_flow_and_drained(bench: Bench) -> None:
    """A slow reader pauses the source at the high mark, and ``drained`` waits for the last byte."""
    events: asyncio.Queue[str] = asyncio.Queue()
    size = 1_000_000

    async def pour(request: web.Request) -> web.StreamResponse:
        sink = ResponseSink(request)
        sink.start(200, {"Content-Length": str(size)})
        sink.set_flow(
            lambda: events.put_nowait(f"pause {sink.backlog() > BACKLOG_HIGH_BYTES}"),
            None,
        )
        sink.write(b"x" * size)
        sink.set_flow(lambda: events.put_nowait("still paused"), None)
        sink.set_flow(None, lambda: events.put_nowait("resumed"))
        sink.finish()
        await sink.drained()
        events.put_nowait(f"drained {sink.backlog()}")
        return sink.response

    bench.handler = pour
    await bench.start()
    wire = await bench.dial(receive_bytes=4096)
    await wire.send(get("/", CLOSE))
    async with asyncio.timeout(HANG_S):
        assert [await events.get() for _ in range(2)] == ["pause True", "still paused"]
    answer = await wire.rest()
    assert answer.count(b"x", answer.index(b"\r\n\r\n")) == size
    async with asyncio.timeout(HANG_S):
        assert await events.get() == "drained 0"
    assert events.empty()


async def test_resume_at_low_water(bench: Bench) -> None:
    """The source is resumed when the client has taken what was held for it."""
    events: asyncio.Queue[str] = asyncio.Queue()

    async def pour(request: web.Request) -> web.StreamResponse:
        sink = ResponseSink(request)
        sink.start(200, {})
        sink.set_flow(lambda: events.put_nowait("pause"), lambda: events.put_nowait("resume"))
        sink.write(b"x" * 1_000_000)
        while await events.get() != "resume":
            pass
        assert sink.backlog() <= BACKLOG_LOW_BYTES
        sink.finish()
        return sink.response

    bench.handler = pour
    await bench.start()
    wire = await bench.dial(receive_bytes=4096)
    await wire.send(get("/", CLOSE))
    assert (await wire.rest()).endswith(b"\r\n" + END)


async def test_drained_ends_when_client_leaves(bench: Bench) -> None:
    """Waiting for a client to read ends when it leaves instead, as a cancellation and as nothing else."""
    ended: asyncio.Queue[BaseException] = asyncio.Queue()

    async def pour(request: web.Request) -> web.StreamResponse:
        sink = ResponseSink(request)
        sink.start(200, {})
        sink.write(b"x" * 8_000_000)
        sink.finish()
        try:
            await sink.drained()
        except BaseException as error:
            ended.put_nowait(error)
            raise
        return sink.response

    bench.handler = pour
    await bench.start()
    wire = await bench.dial(receive_bytes=4096)
    await wire.send(get())
    await wire.until(b"\r\n\r\n")
    wire.reset()
    async with asyncio.timeout(HANG_S):
        assert isinstance(await ended.get(), asyncio.CancelledError)
    await bench.gone()


# --- bodies


def reading(found: list[object], *, limit: int = 1000, timeout_s: float = HANG_S) -> Handler:
    """Returns a handler that notes what reading the body gives."""

    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            found.append(await read_body(request, limit=limit, timeout_s=timeout_s))
        except Exception as error:
            found.append(type(error))
            raise
        return web.Response()

    return handler


def chunked(*pieces: bytes) -> bytes:
    """Returns a request whose body comes in these chunks; an empty one ends it."""
    return get("/", "Transfer-Encoding: chunked", CLOSE, method="POST") + b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces
    )


@pytest.mark.parametrize(
    ("data", "found", "status"),
    [
        (get("/", CLOSE), b"", 200),
        (post(b"abc", CLOSE), b"abc", 200),
        (post(b"x" * 1000, CLOSE), b"x" * 1000, 200),
        (post(b"x" * 1001, CLOSE), BodyTooLarge, 413),
        (get("/", "Content-Length: 999999999999", method="POST"), BodyTooLarge, 413),
        (chunked(b"abc", b"def", b""), b"abcdef", 200),
        (chunked(b"x" * 600, b"x" * 401), BodyTooLarge, 413),
        (chunked(b"abc") + b"zz\r\n", None, 400),
    ],
)
async def test_read_body(bench: Bench, data: bytes, found: object, status: int) -> None:
    """A body is returned whole within its limit; what is above, declared or not, is refused."""
    result: list[object] = []
    bench.handler = reading(result)
    await bench.start()
    wire = await bench.dial()
    await wire.send(data)
    if status == 413:  # what follows a refused body is read away until the client is done
        assert statuses(await wire.until(b"\r\n\r\n")) == [413]
    else:
        assert statuses(await wire.rest()) == [status]
    assert result == ([] if found is None else [found])


async def test_broken_body(bench: Bench) -> None:
    """A body whose framing breaks while it is read is refused, whatever came before the break."""
    result: list[object] = []
    bench.handler = reading(result)
    await bench.start()
    wire = await bench.dial()
    await wire.send(chunked(b"abc"))
    await bench.entered.get()
    await wire.send(b"zz\r\n")
    assert statuses(await wire.rest()) == [400]
    assert result == [MalformedRequest]


async def test_late_body(bench: Bench) -> None:
    """A body that is not whole at its deadline is a 408, however much of it trickles in."""
    result: list[object] = []
    bench.handler = reading(result, timeout_s=0.1)
    await bench.start()
    wire = await bench.dial()
    await wire.send(get("/", "Content-Length: 500", method="POST"))

    async def trickle() -> None:
        while True:
            await wire.send(b"x")
            await asyncio.sleep(0.02)

    task = asyncio.create_task(trickle())
    assert statuses(await wire.until(b"\r\n\r\n")) == [408]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert result == [RequestTimeout]


async def test_gap_in_body(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that stops coming is a 408 long before the deadline of the whole."""
    monkeypatch.setattr(transport, "BODY_IDLE_S", 0.05)
    result: list[object] = []
    bench.handler = reading(result)
    await bench.start()
    wire = await bench.dial()
    await wire.send(post(b"x" * 500)[:-1])
    assert statuses(await wire.until(b"\r\n\r\n")) == [408]
    assert result == [RequestTimeout]


@pytest.mark.parametrize("moment", ["between", "late", "piece"])
async def test_a_body_nobody_waits_for_any_more(
    bench: Bench, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client is told why, at once, also if its deadline or its next piece comes at the same moment."""
    monkeypatch.setattr(transport, "BODY_IDLE_S", 2 * HANG_S)
    result: list[object] = []
    connections: list[ClientConnection] = []
    read = reading(result, timeout_s=2 * HANG_S)

    async def handler(request: web.Request) -> web.StreamResponse:
        connections.append(connection_of(request))
        return await read(request)

    bench.handler = handler
    await bench.start()
    wire = await bench.dial()
    await wire.send(post(b"x" * 500)[:-9])
    async with asyncio.timeout(HANG_S):
        while not connections or connections[0].reading is None:
            await asyncio.sleep(0)
    (connection,) = connections
    if moment == "late":
        assert connection.reading is not None
        connection.reading.reschedule(asyncio.get_running_loop().time() - 1)
        await asyncio.sleep(0)
    elif moment == "piece":
        connection.data_received(b"x")
    connection.refuse_body(Draining(1.0))
    assert statuses(await wire.until(b"\r\n\r\n")) == [503]
    assert result == [Draining]
