"""What handlers use of a connection: the body that comes in, the answer that goes out.

Owns: with ``web.protocol`` and ``web.server``, every use of aiohttp's internals.
Called by: ``web.inference``, and the pages that stream or read a body.
Rules: an answer written through a ``ResponseSink`` goes straight to the socket's transport: no task, no
future and no copy of ours per chunk.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

from aiohttp import web
from aiohttp.http import HttpVersion11
from aiohttp.web_protocol import RequestPayloadError

from gpushare.core.errors import BodyTooLarge, MalformedRequest, RequestTimeout
from gpushare.web.answers import raw_head
from gpushare.web.protocol import connection_of

BODY_BYTES_PER_S = 256 * 1024
"""A declared body gets one second more for each of these."""
BODY_IDLE_S = 10.0
"""Longest gap inside a body."""
SECOND_LOOK_S = 0.01
"""A late body is late only if nothing has come by then: a pause of this process is not the client's."""


def key_accepted(request: web.Request) -> None:
    """Tells the connection that a key was accepted on it: it no longer counts as anonymous."""
    connection_of(request).accept()


async def continue_100(request: web.Request) -> None:
    """Asks a client that waits for it to send its body; call once key and declared size are accepted."""
    connection = connection_of(request)
    if connection.expects_100:
        connection.expects_100 = False
        if request.transport is not None and not request.transport.is_closing():
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def read_body(
    request: web.Request, *, limit: int, timeout_s: float, grow: Callable[[int], None] | None = None
) -> bytes:
    """Returns the whole request body.

    Args:
        request: whose body was not read yet.
        limit: bytes.
        timeout_s: for the whole body, extended by a second for every 256 KiB it declares.
        grow: told of each piece before it is kept; what it raises ends the reading.

    Raises:
        BodyTooLarge: declared, or found while reading, before more than ``limit`` is kept.
        RequestTimeout: the body as a whole, or its next piece, came too late.
        GpushareError: the connection was told to read no more of it.
        MalformedRequest: the framing of the body is broken.
    """
    declared = request.content_length or 0
    if declared > limit:
        raise BodyTooLarge(limit, declared)
    await continue_100(request)
    total_s = timeout_s + declared / BODY_BYTES_PER_S
    try:
        return await _read_all(request, limit=limit, total_s=total_s, grow=grow)
    except TimeoutError:
        raise RequestTimeout(total_s) from None
    except RequestPayloadError:
        raise MalformedRequest("body") from None


def whole_body(request: web.Request) -> bytes | None:
    """Returns the body if all of it came with the header, as most do, or None: then it is to be read.

    Raises:
        MalformedRequest: the framing of the body is broken.
    """
    content = request.content
    if not content.is_eof() or connection_of(request).expects_100:
        return None
    try:
        return content.read_nowait()
    except RequestPayloadError:
        raise MalformedRequest("body") from None


async def pieces_of_body(request: web.Request) -> AsyncIterator[bytes]:
    """Yields a body as it comes, for as long as that takes.

    Raises:
        MalformedRequest: the framing of the body is broken.
    """
    try:
        async for piece in request.content.iter_any():
            yield piece
    except RequestPayloadError:
        raise MalformedRequest("body") from None


async def _read_all(
    request: web.Request, *, limit: int, total_s: float, grow: Callable[[int], None] | None
) -> bytes:
    loop, content, connection = asyncio.get_running_loop(), request.content, connection_of(request)
    end = loop.time() + total_s
    pieces: list[bytes] = []
    size = 0
    looked = False
    while not content.at_eof():
        try:
            async with asyncio.timeout_at(min(end, loop.time() + BODY_IDLE_S)) as connection.reading:
                piece = await content.readany()
        except TimeoutError:
            if connection.refusal is not None:
                raise connection.refusal from None
            if looked:
                raise
            looked = True
            await asyncio.sleep(SECOND_LOOK_S)
            piece = content.read_nowait()
            if not piece and not content.at_eof():
                raise
        finally:
            connection.reading = None
        if connection.refusal is not None:  # it came with this very piece
            raise connection.refusal
        size += len(piece)
        if size > limit:
            raise BodyTooLarge(limit)
        if grow is not None:
            grow(len(piece))
        pieces.append(piece)
    if failure := content.exception():
        raise failure
    return b"".join(pieces)


class SentResponse(web.StreamResponse):
    """An answer that is already written, in the shape aiohttp wants back: there is nothing left to do."""

    def __init__(self, *, reusable: bool) -> None:
        super().__init__()
        self._reusable = reusable

    @property
    def prepared(self) -> bool:
        """Always: headers cannot be added any more."""
        return True

    @property
    def keep_alive(self) -> bool:
        """Whether aiohttp keeps the connection."""
        return self._reusable

    async def prepare(self, request: web.BaseRequest) -> None:
        """Does nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Does nothing."""


SENT, SENT_LAST = SentResponse(reusable=True), SentResponse(reusable=False)
"""The two there are: nothing in them belongs to one answer."""


class ResponseSink:
    """An answer written straight to the client's transport; fits ``engine.ports.Sink``.

    Return ``response`` from the handler.  If the handler fails after ``start``, or returns before ``finish``,
    the connection is cut.  A client that leaves cancels the handler; ``abort`` does not.

    Args:
        request: to answer.
        headers: sent besides those given to ``start``.
    """

    def __init__(self, request: web.Request, *, headers: Mapping[str, str] | None = None) -> None:
        self.started = False
        self.finished = False
        self._request = request
        self._connection = connection_of(request)
        self._connection.flow = self
        self._headers = headers or {}
        self._response: SentResponse | None = None
        self._bodyless = request.method == "HEAD"
        self._chunked = False
        self._left: int | None = None  # bytes still owed of a declared length
        self._unsent = b""  # status and headers, until there is something to send with them
        self._pause: Callable[[], None] | None = None
        self._resume: Callable[[], None] | None = None

    @property
    def response(self) -> SentResponse:
        """What the handler returns.

        Raises:
            RuntimeError: the answer was not started.
        """
        if self._response is None:
            raise RuntimeError("the answer was not started")
        return self._response

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Sets status and headers, which go out with the first bytes of the body, or with its end.

        The length they declare frames the body, else chunks do.

        Raises:
            ValueError: a header that would not stay one header.
        """
        fields = {**headers, **self._headers}
        modern = self._request.version >= HttpVersion11
        self._bodyless = self._bodyless or status in (204, 304)
        if not self._bodyless:
            self._frame(fields, modern=modern)
        reusable = self._request.keep_alive and self._connection.reusable_after(self._request)
        if not reusable:
            fields["Connection"] = "close"
        self._unsent = raw_head(status, fields)
        self.started = True
        self._response = SENT if reusable else SENT_LAST

    def _frame(self, fields: dict[str, str], *, modern: bool) -> None:
        """Decides how the client finds the end of the body; before HTTP/1.1 that may be the close."""
        if "Content-Length" in fields:
            self._left = int(fields["Content-Length"])
        elif modern:
            self._chunked = True
            fields["Transfer-Encoding"] = "chunked"

    def write(self, data: bytes) -> None:
        """Queues body bytes and sends what the socket takes now."""
        transport = self._open()
        if transport is None or not data or self.finished or self._bodyless:
            return
        head, self._unsent = self._unsent, b""
        if self._chunked:
            transport.write(b"%b%x\r\n%b\r\n" % (head, len(data), data))
            return
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:  # the surplus would be read as the next answer
                self.abort()
                return
        transport.write(head + data if head else data)

    def finish(self) -> None:
        """Ends the message; one that is shorter than it declared is cut instead.  Idempotent."""
        if self.finished or not self.started:
            return
        if self._left:
            self.abort()
            return
        rest = self._unsent + b"0\r\n\r\n" if self._chunked else self._unsent
        transport = self._open() if rest else None
        if transport is not None:
            transport.write(rest)
        self.finished = True
        self._pause = self._resume = None

    def abort(self) -> None:
        """Cuts the connection, so that the client can tell the answer is not whole.  Idempotent."""
        self._connection.cut()

    def backlog(self) -> int:
        """Returns the bytes in our process that the client has not taken."""
        transport = self._open()
        return 0 if transport is None else transport.get_write_buffer_size()

    def set_flow(self, pause: Callable[[], None] | None, resume: Callable[[], None] | None) -> None:
        """Sets what is called at the high and the low water mark; ``pause`` at once if above already."""
        self._pause, self._resume = pause, resume
        if pause is not None and self._connection.writing_paused:
            pause()

    async def drained(self) -> None:
        """Waits until the backlog is empty or the client has gone."""
        await self._connection.drained()

    def pause(self) -> None:
        """Called by the connection: the backlog passed its high-water mark."""
        if self._pause is not None:
            self._pause()

    def resume(self) -> None:
        """Called by the connection: the backlog is below its low-water mark."""
        if self._resume is not None:
            self._resume()

    def _open(self) -> asyncio.Transport | None:
        """Returns the client's transport while it can take bytes."""
        transport = self._connection.transport
        return None if transport is None or transport.is_closing() else transport
