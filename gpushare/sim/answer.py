"""Writes an HTTP/1.1 answer straight to the client's transport, as Go's net/http would, faults included.

aiohttp would not send a broken message, so nothing of its response writing is used: the handler returns a
response that is already out.
"""

import asyncio
import socket
import struct
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web

from gpushare.sim import gojson
from gpushare.sim.journal import Entry, State
from gpushare.sim.script import END, FaultKind

_SMALL = 2048  # Go's net/http buffers so much before it gives up on a Content-Length
_PAGE = b"<html><body>It works!</body></html>"
_LONGER = 1_000_000  # what "short" promises beyond the body


class Over(Exception):
    """The scripted fault ended the answer; the connection is already as the fault wants it."""


class Sent(web.StreamResponse):
    """An answer that is already on the wire: aiohttp has nothing left to send."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keep = keep_alive

    @property
    def keep_alive(self) -> bool:
        """Whether aiohttp may read another request from the connection."""
        return self._keep

    async def prepare(self, request: web.BaseRequest) -> None:
        """Does nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Does nothing."""


class Answer:
    """One answer.  ``start``, then ``piece`` any number of times, then ``end``; or ``single`` alone."""

    def __init__(self, request: web.BaseRequest, entry: Entry) -> None:
        self._request = request
        self._entry = entry
        self._head = b""
        self._chunked = False
        self._held: list[bytes] = []
        self._keep_alive = request.keep_alive
        self.started = False

    @property
    def response(self) -> Sent:
        """What the aiohttp handler returns."""
        return Sent(keep_alive=self._keep_alive)

    async def single(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Sends a whole answer: with a length when it is small, else in chunks, as Go does."""
        plan = self._entry.plan
        body = _PAGE if plan.has(FaultKind.HTML) else body
        await self.strike(None)
        self.start(status, headers, length=len(body) if len(body) <= _SMALL else None)
        if self._request.method == "HEAD":
            await self._put(self._take_head())
            return
        place = plan.fault.at if plan.fault else None
        if place is not None and place != END:
            await self.piece(body[: len(body) // 2])
            await self.strike(place)
            body = body[len(body) // 2 :]
        await self.piece(body)
        await self.strike(END)
        await self.end()

    def start(self, status: int, headers: Mapping[str, str], *, length: int | None = None) -> None:
        """Fixes the head; like Go's it leaves with the first bytes of the body."""
        plan = self._entry.plan
        self._entry.status = status
        fields = dict(sorted(headers.items()))
        if plan.has(FaultKind.GZIP):
            fields["Content-Encoding"] = "gzip"
        if plan.has(FaultKind.HTML):
            status, fields = 200, {"Content-Type": "text/html; charset=utf-8"}
        if plan.has(FaultKind.BIGHEAD):
            fields["X-Padding"] = "x" * plan.size
        fields["Date"] = gojson.http_date()
        fields |= self._framing(length)
        lines = [f"HTTP/1.1 {status} {_reason(status)}", *(f"{key}: {fields[key]}" for key in fields)]
        if plan.has(FaultKind.BADSTATUS):
            lines[0] = "HTTP/1.1 abc what"
        if plan.has(FaultKind.INTERIM):
            lines[:0] = ["HTTP/1.1 103 Early Hints", "Link: </x>; rel=preload", ""]
        self._head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    async def piece(self, data: bytes) -> None:
        """Sends one piece of the body, as one chunk where the answer is chunked."""
        if self._entry.plan.has(FaultKind.HTML):
            data = _PAGE if not self.started else b""
        if self._entry.keep_body:
            self._entry.answer += data
        self._held.append(data)
        if len(self._held) >= self._entry.plan.gather:
            await self.flush()

    async def flush(self) -> None:
        """Sends what ``gather`` has held back."""
        data, self._held = b"".join(self._held), []
        if data or self._head:
            await self._put(self._take_head() + self._chunk(data))

    async def end(self) -> None:
        """Ends the message properly; where no framing can say so, the connection is closed."""
        await self.flush()
        await self._put(self._take_head() + (b"0\r\n\r\n" if self._chunked else b""))
        if not self._keep_alive:
            self._close()

    async def strike(self, place: int | None) -> None:
        """Plays the fault if this is its place.

        Raises:
            Over: the answer has ended.
        """
        fault = self._entry.plan.fault
        if fault is None or fault.at != place:
            return
        if place is not None:
            await self.flush()
        plays = {
            FaultKind.RESET: self._reset,
            FaultKind.CLOSE: self._close,
            FaultKind.EOF: self._finish,
            FaultKind.STALL: self._entry.stall,
            FaultKind.BADCHUNK: self._bad_chunk,
            FaultKind.GARBAGE: self._garbage,
            FaultKind.HUGE: self._huge,
        }
        play = plays.get(fault.kind)
        result = play() if play else None
        if result is not None:
            await result
        if fault.kind in (FaultKind.RESET, FaultKind.CLOSE, FaultKind.EOF, FaultKind.BADCHUNK):
            self.over()

    def over(self) -> None:
        """Ends the request as its fault wanted.

        Raises:
            Over: always.
        """
        self._entry.enter(State.FAULTED)
        raise Over

    def _framing(self, length: int | None) -> dict[str, str]:
        """Returns the headers that delimit the body, in Go's order, and sets how it is written."""
        plan = self._entry.plan
        fields: dict[str, str] = {}
        old = self._request.version < (1, 1)
        if plan.has(FaultKind.UNFRAMED) or (old and length is None):
            self._keep_alive = False
            return {"Connection": "close"}
        if plan.has(FaultKind.SHORT, FaultKind.LONG, FaultKind.BOTH):
            length = (length or 0) + _LONGER if plan.has(FaultKind.SHORT) else max(0, (length or 10) - 1)
            self._keep_alive = False
        if length is not None:
            fields["Content-Length"] = str(length)
        if not self._keep_alive:
            fields["Connection"] = "close"
        self._chunked = length is None or plan.has(FaultKind.BOTH)
        if self._chunked:
            fields["Transfer-Encoding"] = "chunked"
        return fields

    def _take_head(self) -> bytes:
        head, self._head = self._head, b""
        return head

    def _chunk(self, data: bytes) -> bytes:
        return f"{len(data):x}\r\n".encode() + data + b"\r\n" if self._chunked and data else data

    async def _put(self, data: bytes) -> None:
        """Writes; ``split`` cuts the bytes so small that each piece travels alone."""
        if not data:
            return
        self.started = True
        step = self._entry.plan.split or len(data)
        for start in range(0, len(data), step):
            await self._request.writer.write(data[start : start + step])
            await self._request.writer.drain()
            if step < len(data):
                await asyncio.sleep(0)

    async def _garbage(self) -> None:
        await self.piece(b"this is not json\n")

    async def _huge(self) -> None:
        await self.piece(b'{"model":"' + b"x" * self._entry.plan.size + b'"}\n')

    async def _finish(self) -> None:
        self._entry.enter(State.FAULTED)
        await self.end()

    async def _bad_chunk(self) -> None:
        await self._put(self._take_head() + b"zz\r\nnot a chunk\r\n")
        self._close()

    def _close(self) -> None:
        self._keep_alive = False
        if self._request.transport is not None:
            self._request.transport.close()

    def _reset(self) -> None:
        reset(self._request.transport)
        self._keep_alive = False


def reset(transport: asyncio.Transport | None) -> None:
    """Cuts the connection with RST, unsent bytes included."""
    if transport is None:
        return
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _reason(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "status code"
