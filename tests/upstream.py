"""An Ollama that is a bare TCP server: the test decides each byte it sends and each way it ends.

The gateway's own questions (version, lists) are answered by themselves, so that a test only sees its calls;
with ``polls = False`` they are handed to the test like every other request.  What a connection brought is
kept.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

PATIENCE_S = 30.0
"""Only ends a broken test."""
MODELS = ("m:latest", "n:latest")
_POLLS = {
    b"/api/version": {"version": "0.30.0"},
    b"/api/tags": {"models": [{"name": name, "model": name, "size": 1} for name in MODELS]},
    b"/api/ps": {"models": [{"name": name, "model": name, "size": 1, "size_vram": 1} for name in MODELS]},
}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SSE = CHUNKED.replace(b"application/x-ndjson", b"text/event-stream")
LAST_CHUNK = b"0\r\n\r\n"
PIECE = b'{"model":"m","message":{"role":"assistant","content":"a"},"done":false}\n'
"""A record of a native stream."""
WHOLE = b'{"model":"m","done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":4}'
"""A native answer that is whole, and with a line end behind it the last record of a stream."""


@dataclass(frozen=True, slots=True)
class Form:
    """A stream of Ollama's on one route: how it begins, a record of it, and the last one."""

    path: str
    head: bytes
    piece: bytes
    end: bytes


NATIVE = Form("/api/chat", CHUNKED, PIECE, WHOLE + b"\n")
OPENAI = Form(
    "/v1/chat/completions",
    SSE,
    b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
    b"data: [DONE]\n\n",
)
RESPONSES = Form(
    "/v1/responses",
    SSE,
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n',
    b'event: response.completed\ndata: {"type":"response.completed","response":{"status":"completed"}}\n\n',
)
MESSAGES = Form(
    "/v1/messages",
    SSE,
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"a"}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)


def chunk(data: bytes) -> bytes:
    """Returns data as one chunk of a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def document(
    body: bytes, *fields: bytes, status: bytes = b"200 OK", kind: bytes = b"application/json"
) -> bytes:
    """Returns a whole answer of a declared length."""
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join([b"HTTP/1.1 " + status, b"Content-Type: " + kind, length, *fields, b"", body])


def full_backlog(port: int) -> list[socket.socket]:
    """Returns a listener that takes nobody any more, and those who have filled it."""
    full = socket.socket()
    full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    full.bind(("127.0.0.1", port))
    full.listen(0)
    sockets = [full]
    for _ in range(2):  # a backlog of 0 takes one connection, and one more is being taken
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
        sockets.append(filler)
    return sockets


class Connection:
    """One connection of the gateway's, from the far end.

    Attributes:
        received: every byte it brought.
        request: the first request, once it is whole: line and head, then the body.
        left: set when the gateway has closed it, properly or not, or this end has.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.received = bytearray()
        self.request = b""
        self.left = asyncio.Event()
        self.done = False

    @property
    def target(self) -> bytes:
        """The target of the request."""
        return self.request.split(b" ", 2)[1] if self.request else b""

    @property
    def body(self) -> bytes:
        """The body of the request."""
        return self.request.partition(b"\r\n\r\n")[2]

    async def read_request(self) -> None:
        """Reads one request of a declared length."""
        while b"\r\n\r\n" not in self.received:
            await self._read()
        head, _, _ = bytes(self.received).partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        end = len(head) + 4 + int(length or b"0")
        while len(self.received) < end:
            await self._read()
        self.request = bytes(self.received[:end])

    async def _read(self) -> None:
        data = await self._reader.read(65536)
        if not data:
            raise ConnectionError
        self.received += data

    async def watch(self) -> None:
        """Keeps what else comes, until the gateway closes."""
        with suppress(ConnectionError):
            while not self.done:
                await self._read()

    async def send(self, *pieces: bytes) -> None:
        """Sends pieces, each alone on the wire; a gateway that has left is no error."""
        for piece in pieces:
            if self._writer.is_closing():  # uvloop raises
                return
            with suppress(ConnectionError):
                self._writer.write(piece)
                await self._writer.drain()
            await asyncio.sleep(0)

    async def answer(self, *pieces: bytes) -> None:
        """Sends pieces and closes properly."""
        await self.send(*pieces)
        self.close()

    def push(self, data: bytes) -> None:
        """Sends without waiting for room, and without a turn of the loop."""
        self._writer.write(data)

    def half_close(self) -> None:
        """Sends the end of the stream, and goes on reading."""
        with suppress(OSError):
            self._writer.write_eof()

    def close(self) -> None:
        """Closes properly, once everything is sent."""
        self.done = True
        self._writer.close()

    def reset(self) -> None:
        """Closes with a reset."""
        self.done = True
        linger = struct.pack("ii", 1, 0)
        with suppress(OSError):
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()

    async def gone(self) -> None:
        """Waits until the gateway has closed the connection."""
        async with asyncio.timeout(PATIENCE_S):
            await self.left.wait()


class RawOllama:
    """The server.  ``calls`` are the connections with requests of the test's, in order of arrival."""

    def __init__(self) -> None:
        self.calls: list[Connection] = []
        self.polls = True
        self.port = 0
        self._listener: socket.socket | None = None
        self._taking: set[asyncio.Task[None]] = set()
        self._full: list[socket.socket] = []
        self._open: set[Connection] = set()
        self._news = asyncio.Condition()

    @property
    def url(self) -> str:
        """The address to configure."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """How many connections of the gateway are open."""
        return len(self._open)

    async def start(self) -> None:
        """Listens; on the same port as before if it did already."""
        await self.refuse()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=100)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    async def refuse(self) -> None:
        """Stops listening: dials are refused until ``start``.  Open connections stay."""
        while self._full:
            self._full.pop().close()
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def hang(self) -> None:
        """Lets dials hang until ``start``, as a host does that drops packets: the backlog is full."""
        await self.refuse()
        self._full = full_backlog(self.port)

    async def stop(self) -> None:
        """Stops, whatever is open."""
        await self.refuse()
        for connection in list(self._open):
            connection.reset()
        await self.rest()

    async def rest(self) -> None:
        """Waits until no connection is open."""
        await self._until(lambda: not self._open)

    async def call(self, number: int = 0) -> Connection:
        """Waits for the request of this number and returns its connection."""
        await self._until(lambda: len(self.calls) > number)
        return self.calls[number]

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(condition)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    def _accept(self, listener: socket.socket) -> None:
        """Takes who waits.

        An Ollama has descriptors of its own; this one shares them with the gateway, so whom it has none for
        goes on waiting.  uvloop's own server would close it.
        """
        with suppress(OSError):
            accepted, _ = listener.accept()
            accepted.setblocking(False)
            task = asyncio.get_running_loop().create_task(self._take(accepted))
            self._taking.add(task)
            task.add_done_callback(self._taking.discard)

    async def _take(self, accepted: socket.socket) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: asyncio.StreamReaderProtocol(reader, self._serve), accepted
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer)
        self._open.add(connection)
        try:
            await connection.read_request()
            poll = _POLLS.get(connection.target) if self.polls else None
            if poll is not None:
                await connection.answer(document(json.dumps(poll).encode()))
            else:
                self.calls.append(connection)
                await self._tell()
            await connection.watch()
        except ConnectionError:
            pass
        finally:
            connection.left.set()
            self._open.discard(connection)
            writer.close()
            await self._tell()


@asynccontextmanager
async def raw_ollama() -> AsyncIterator[RawOllama]:
    """Serves for the block; at its end the gateway must have closed everything."""
    server = RawOllama()
    await server.start()
    try:
        yield server
        await server.rest()
    finally:
        await server.stop()
