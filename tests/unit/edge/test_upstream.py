"""``edge.upstream``: one request and one answer over a real socket, against a scripted Ollama."""

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from gpushare.core.errors import Fault
from gpushare.core.model import Outcome, UpstreamRequest
from gpushare.edge.beside import NAME as BESIDE
from gpushare.edge.upstream import HEAD_MAX_BYTES, LOOK_UPS, HttpExchange, HttpUpstream
from tests.ports import free_port

PATIENCE_S = 10.0
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ANSWER = HEAD + b"Content-Length: 5\r\n\r\nhello"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Taker:
    """A consumer that keeps what it is told."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.pieces: list[bytes] = []
        self.ended: str | Fault | None = None
        self.over = asyncio.Event()
        self.more = asyncio.Event()

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Keeps the head."""
        assert not self.status
        self.status, self.headers = status, headers

    def body(self, data: bytes) -> None:
        """Keeps the body."""
        assert self.status
        assert self.ended is None
        self.pieces.append(data)
        self.more.set()

    def end(self, *, framed: bool) -> None:
        """Keeps how it ended."""
        assert self.ended is None
        self.ended = "framed" if framed else "closed"
        self.over.set()

    def failed(self, fault: Fault) -> None:
        """Keeps why it failed."""
        assert self.ended is None
        self.ended = fault
        self.over.set()

    async def result(self) -> tuple[bytes, str]:
        """Returns the body and the last word, once it came."""
        await asyncio.wait_for(self.over.wait(), PATIENCE_S)
        assert self.ended is not None
        last = self.ended if isinstance(self.ended, str) else str(self.ended.outcome)
        return b"".join(self.pieces), last


class Ollama:
    """Accepts connections, keeps the requests and runs the script on each."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.left = asyncio.Event()  # a client's end of a connection was seen
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Runs the script and waits until the client has closed."""
        try:
            await self.script(reader, writer)
            await writer.drain()
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass
        finally:
            self.left.set()
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        """Reads and keeps one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        body = await reader.readexactly(int(length or b"0"))
        self.requests.append(head + body)
        return body


@asynccontextmanager
async def ollama(script: Script | None = None) -> AsyncIterator[Ollama]:
    """Serves on a free port for the length of a block."""

    async def nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        """Says nothing."""

    fake = Ollama(script or nothing)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield fake


def answering(*pieces: bytes, close: bool = False, reset: bool = False) -> Script:
    """Returns a script that reads the request and sends the pieces, each alone on the wire."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers, then closes or resets if asked to."""
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        elif close:
            writer.close()

    return script


def post(body: bytes = b"", method: str = "POST") -> UpstreamRequest:
    """Returns a request."""
    return UpstreamRequest(method=method, target="/api/chat", body=body, content_type="application/json")


def upstream(url: str, *, connect_s: float = PATIENCE_S, send_s: float = PATIENCE_S) -> HttpUpstream:
    """Returns the upstream under test."""
    return HttpUpstream(url, connect_timeout=connect_s, send_timeout=send_s)


async def ask(script: Script, request: UpstreamRequest | None = None) -> Taker:
    """Returns what a consumer was told by one whole exchange."""
    taker = Taker()
    async with ollama(script) as fake:
        exchange = await upstream(fake.url).open(request or post(), taker)
        await asyncio.wait_for(taker.over.wait(), PATIENCE_S)
        await asyncio.wait_for(fake.left.wait(), PATIENCE_S)
        exchange.abort()
    return taker


# --- the request -----------------------------------------------------------------------------------------


async def test_the_request_holds_constants_and_the_body_only() -> None:
    """Ollama sees our headers, a fresh length and the body as it is."""
    async with ollama() as fake:

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Keeps the request and answers."""
            await fake.request(reader)
            writer.write(ANSWER)

        fake.script = script
        taker = Taker()
        await upstream(fake.url).open(post(b'{"a":1}'), taker)
        await taker.result()
    host = fake.url.removeprefix("http://")
    assert fake.requests[0].decode().split("\r\n") == [
        "POST /api/chat HTTP/1.1",
        f"Host: {host}",
        "User-Agent: gpushare",
        "Accept-Encoding: identity",
        "Connection: close",
        "Content-Type: application/json",
        "Content-Length: 7",
        "",
        '{"a":1}',
    ]


async def test_a_large_body_arrives_whole() -> None:
    """A body far beyond the socket's buffers is sent to its last byte."""
    sent = bytes(range(256)) * 40_000
    async with ollama() as fake:
        got: list[bytes] = []

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Keeps the body and answers."""
            got.append(await fake.request(reader))
            writer.write(ANSWER)

        fake.script = script
        taker = Taker()
        await upstream(fake.url).open(post(sent), taker)
        assert await taker.result() == (b"hello", "framed")
    assert got == [sent]


async def test_a_request_that_is_not_taken_in_time_fails() -> None:
    """An Ollama that accepts and never reads is given up."""
    taker = Taker()
    async with ollama() as fake:

        async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Reads nothing until the request was given up."""
            transport = writer.transport
            assert isinstance(transport, asyncio.ReadTransport)
            transport.pause_reading()
            await taker.over.wait()
            transport.resume_reading()

        fake.script = script
        await upstream(fake.url, send_s=0.05).open(post(bytes(20_000_000)), taker)
        assert await taker.result() == (b"", Outcome.UPSTREAM_RESET)


# --- the dial --------------------------------------------------------------------------------------------


async def test_a_refused_dial_is_a_fault_that_sent_nothing() -> None:
    """Only then may the request be tried again."""
    with pytest.raises(Fault) as caught:
        await upstream(f"http://127.0.0.1:{free_port()}").open(post(), Taker())
    assert caught.value.outcome is Outcome.UPSTREAM_REFUSED
    assert not caught.value.sent


async def test_a_dial_that_hangs_ends_in_time() -> None:
    """A full accept queue shows as silence; the dial's own limit ends it."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            with pytest.raises(Fault) as caught:
                await upstream(f"http://127.0.0.1:{address[1]}", connect_s=0.05).open(post(), Taker())
        finally:
            for filler in fillers:
                filler.close()
    assert not caught.value.sent


async def test_a_name_is_looked_up_for_every_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its addresses are tried one after the other; if none takes the connection, the last one tells why."""
    async with ollama(answering(ANSWER)) as fake:
        port = urlsplit(fake.url).port

        def look_up(host: str, _port: int, **_: object) -> list[object]:
            assert host == "ollama.test"
            return [(0, 0, 0, "", (address, port)) for address in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        way, taker = upstream(f"http://ollama.test:{port}"), Taker()
        addresses = ["127.0.0.2", "127.0.0.1"]
        await way.open(post(), taker)
        assert await taker.result() == (b"hello", "framed")
        addresses = ["127.0.0.2"]
        with pytest.raises(Fault, match="connection refused"):
            await way.open(post(), Taker())


async def test_a_name_server_that_keeps_silent_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the dial, nor the end of the process; and it takes a few threads at the most."""
    answers = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_: (answers.wait(), [])[1])
    way = upstream("http://ollama.test", connect_s=0.01)
    for _ in range(2 * LOOK_UPS):
        with pytest.raises(Fault, match="no connection in time"):
            await way.open(post(), Taker())
    waiting = [thread for thread in threading.enumerate() if thread.name == BESIDE]
    assert 1 <= len(waiting) <= LOOK_UPS
    answers.set()


async def test_a_dial_can_be_cancelled() -> None:
    """The caller's client may leave while the dial hangs; the cancellation gets through."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            dial = asyncio.create_task(upstream(f"http://127.0.0.1:{address[1]}").open(post(), Taker()))
            await asyncio.sleep(0)
            dial.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dial
        finally:
            for filler in fillers:
                filler.close()


# --- the answer ------------------------------------------------------------------------------------------


async def test_head_body_and_end_arrive_in_order() -> None:
    """A chunked answer is unwrapped and ends by its own framing."""
    taker = await ask(answering(CHUNKED, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"))
    assert taker.status == 200
    assert taker.headers["content-type"] == "application/x-ndjson"
    assert await taker.result() == (b"abcde", "framed")


async def test_pieces_of_one_read_are_joined() -> None:
    """Sixteen chunks in one read are one call for the consumer."""
    taker = await ask(answering(CHUNKED + b"3\r\nabc\r\n" * 16 + b"0\r\n\r\n"))
    assert taker.pieces == [b"abc" * 16]


@pytest.mark.parametrize("answer", [CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", ANSWER])
async def test_the_cuts_do_not_matter(answer: bytes) -> None:
    """Byte by byte, the same answer arrives."""
    taker = await ask(answering(*(answer[i : i + 1] for i in range(len(answer)))))
    assert taker.status == 200
    assert await taker.result() == (b"hello", "framed")


async def test_interim_answers_are_skipped() -> None:
    """Only the final answer counts, and only its headers."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    taker = await ask(answering(interim, interim + ANSWER))
    assert taker.status == 200
    assert "link" not in taker.headers
    assert await taker.result() == (b"hello", "framed")


async def test_repeated_headers_are_joined() -> None:
    """Two values of one header never look like one of them."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: a\r\nContent-Type: b\r\nContent-Length: 0\r\n\r\n"
    assert (await ask(answering(head))).headers["content-type"] == "a, b"


async def test_trailers_are_no_headers() -> None:
    """What follows the body changes nothing that was said before it."""
    taker = await ask(answering(CHUNKED + b"5\r\nhello\r\n0\r\nContent-Type: x\r\nX-A: 1\r\n\r\n"))
    assert taker.headers["content-type"] == "application/x-ndjson"
    assert "x-a" not in taker.headers


async def test_an_answer_to_head_has_no_body() -> None:
    """The length in such an answer announces nothing."""
    taker = await ask(answering(HEAD + b"Content-Length: 5\r\n\r\n"), post(method="HEAD"))
    assert taker.status == 200
    assert await taker.result() == (b"", "framed")


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (ANSWER + ANSWER, b"hello"),
        (ANSWER + b"garbage", b"hello"),
        (ANSWER + b"HTTP/0.1", b"hello"),
        (CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + b"7\r\nsurplus\r\n0\r\n\r\n", b"ok"),
        (HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nok" + ANSWER, b"ok"),
    ],
)
async def test_nothing_behind_the_answer_is_taken(answer: bytes, body: bytes) -> None:
    """Bytes after the end of the first answer are dropped and counted."""
    taker = Taker()
    async with ollama(answering(answer)) as fake:
        way = upstream(fake.url)
        await way.open(post(), taker)
        assert await taker.result() == (body, "framed")
        await asyncio.wait_for(fake.left.wait(), PATIENCE_S)
    assert way.strays == 1


async def test_every_sign_of_life_is_counted() -> None:
    """Half a status line is one: whoever sends it is there."""
    taker = Taker()
    async with ollama(answering(ANSWER[:5])) as fake:
        way = upstream(fake.url)
        exchange = await way.open(post(), taker)
        async with asyncio.timeout(PATIENCE_S):
            while way.reads != 1:
                await asyncio.sleep(0.001)
        assert not taker.status
        exchange.abort()


async def test_the_end_of_the_message_closes_the_connection() -> None:
    """The connection carries one request; Ollama sees it close although it would keep it."""
    await ask(answering(ANSWER))


async def test_an_answer_may_be_delimited_by_the_close() -> None:
    """The consumer is told that only the end of the connection ended it."""
    taker = await ask(answering(HEAD + b"\r\n", b"hel", b"lo", close=True))
    assert await taker.result() == (b"hello", "closed")


# --- broken answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
async def test_a_close_before_the_answer_is_a_reset(reset: bool) -> None:  # noqa: FBT001
    """Without a head there is no answer to be truncated."""
    taker = await ask(answering(close=True, reset=reset))
    assert await taker.result() == (b"", Outcome.UPSTREAM_RESET)
    assert isinstance(taker.ended, Fault)
    assert taker.ended.sent


@pytest.mark.parametrize("head", [CHUNKED + b"5\r\nhello\r\n", HEAD + b"Content-Length: 9\r\n\r\nhello"])
async def test_a_close_in_the_middle_truncates(head: bytes) -> None:
    """A message that is shorter than it announced did not end."""
    assert await (await ask(answering(head, close=True))).result() == (b"hello", Outcome.UPSTREAM_TRUNCATED)


async def test_a_reset_in_the_middle_is_told_from_a_close() -> None:
    """What had arrived before it was taken."""
    taker = Taker()
    async with ollama() as fake:

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Resets once the first piece has arrived."""
            await answering(CHUNKED + b"5\r\nhello\r\n")(reader, writer)
            await taker.more.wait()
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()

        fake.script = script
        await upstream(fake.url).open(post(), taker)
        assert await taker.result() == (b"hello", Outcome.UPSTREAM_RESET)


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"X-A : 1\r\n\r\n",
        HEAD + b"X-A: " + b"x" * HEAD_MAX_BYTES,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
    ],
)
async def test_what_is_not_plain_http_is_a_protocol_fault(answer: bytes) -> None:
    """Garbage, ambiguous lengths, other codings and endless heads are never an answer."""
    taker = await ask(answering(answer))
    assert await taker.result() == (b"", Outcome.UPSTREAM_PROTOCOL)
    assert not taker.status


async def test_an_upgrade_is_no_answer() -> None:
    """Nobody asked for another protocol."""
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nxxxx"
    taker = await ask(answering(answer))
    assert taker.status in (0, 101)
    assert not taker.pieces


@pytest.mark.parametrize("cut", [True, False])
async def test_body_before_an_illegal_chunk_is_taken(cut: bool) -> None:  # noqa: FBT001
    """What the parser had accepted is handed on, wherever the reads fell."""
    pieces = (CHUNKED + b"5\r\nhello\r\n", b"zz\r\n") if cut else (CHUNKED + b"5\r\nhello\r\nzz\r\n",)
    assert await (await ask(answering(*pieces))).result() == (b"hello", Outcome.UPSTREAM_PROTOCOL)


async def test_speaking_before_being_asked_is_no_answer() -> None:
    """Bytes that were there before the request cannot be its answer."""
    exchange = HttpExchange(upstream("http://127.0.0.1:1"), head_only=False)
    exchange.data_received(ANSWER)
    with pytest.raises(Fault):
        exchange.send(Taker(), b"GET / HTTP/1.1\r\n\r\n", b"", timeout_s=0)


async def test_a_fault_of_ours_is_not_ollamas() -> None:
    """An exception in the consumer ends the call as an internal error instead of leaving it to hang."""

    class Faulty(Taker):
        """A consumer with a defect."""

        def body(self, data: bytes) -> None:
            """Fails."""
            raise ZeroDivisionError

    taker = Faulty()
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context["exception"]))
    async with ollama(answering(CHUNKED + b"5\r\nhello\r\n")) as fake:
        await upstream(fake.url).open(post(), taker)
        assert await taker.result() == (b"", Outcome.INTERNAL_ERROR)
        await asyncio.wait_for(fake.left.wait(), PATIENCE_S)
    assert [type(report) for report in reports] == [ZeroDivisionError]


# --- control ---------------------------------------------------------------------------------------------


async def test_abort_closes_at_once_and_silences_the_consumer() -> None:
    """Ollama sees the connection end and the consumer hears no more of it."""
    taker = Taker()
    async with ollama(answering(CHUNKED, b"5\r\nhello\r\n")) as fake:
        exchange = await upstream(fake.url).open(post(), taker)
        await asyncio.wait_for(taker.more.wait(), PATIENCE_S)
        exchange.abort()
        exchange.abort()
        exchange.pause()
        exchange.resume()
        await asyncio.wait_for(fake.left.wait(), PATIENCE_S)
    assert taker.ended is None


@pytest.mark.parametrize(("at", "pieces"), [("head", []), ("body", [b"hello"])])
async def test_a_consumer_may_abort_while_it_is_called(at: str, pieces: list[bytes]) -> None:
    """Nothing of the same read follows."""
    held: list[HttpExchange] = []

    class Quitter(Taker):
        """A consumer that has seen enough."""

        def head(self, status: int, headers: Mapping[str, str]) -> None:
            """Aborts, or not yet."""
            super().head(status, headers)
            if at == "head":
                held[0].abort()

        def body(self, data: bytes) -> None:
            """Aborts."""
            super().body(data)
            held[0].abort()

    taker = Quitter()
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    async with ollama(answering(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")) as fake:
        held.append(await upstream(fake.url).open(post(), taker))
        await asyncio.wait_for(fake.left.wait(), PATIENCE_S)
    assert (taker.ended, taker.pieces, reports) == (None, pieces, [])


async def test_a_paused_exchange_holds_ollama_back() -> None:
    """Nothing is read until it resumes; then all of it arrives."""
    taker = Taker()
    size = 8_000_000
    async with ollama(answering(HEAD + b"Content-Length: %d\r\n\r\n" % size, bytes(size))) as fake:
        exchange = await upstream(fake.url).open(post(), taker)
        await asyncio.wait_for(taker.more.wait(), PATIENCE_S)
        exchange.pause()
        exchange.pause()
        seen = len(taker.pieces)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(taker.pieces) <= seen + 1
        exchange.resume()
        exchange.resume()
        body, last = await taker.result()
    assert (len(body), last) == (size, "framed")
