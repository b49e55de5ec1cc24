"""One client connection: aiohttp's own protocol class, with what a queue in front of a GPU needs besides.

Owns: the knowledge of how aiohttp's connection works inside.  aiohttp parses, routes, keeps connections alive
and shuts down; this module adds limits, absolute header deadlines, refusals that never quote what was sent,
and disconnects that are noticed whatever else happens.
Called by: ``web.transport`` and ``web.server`` only.
Rules: relies on the internals listed in ``tests/unit/web/test_protocol.py``, which fails when an upgrade
changes them.  A client is noticed to leave only while its socket is being read.  So nothing here may stop the
reading for long while a request waits: who sends more behind an unanswered request than is kept is cut off.
"""

import asyncio
import logging
import traceback
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion10, HttpVersion11
from aiohttp.web_protocol import RequestHandler, RequestPayloadError, _ErrInfo

from gpushare.core.dialects import dialect_of
from gpushare.core.errors import ExpectationFailed, GpushareError, Internal, MalformedRequest, RequestTimeout
from gpushare.core.model import Dialect
from gpushare.web.answers import SERVER, Flow, raw_answer, refusal
from gpushare.web.connections import DOOR_S, Connections, Door, Place, address_of

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

LINE_BYTES = 4096
FIELD_BYTES = 8190
MAX_FIELDS = 64
"""No route needs more; together they bound a header block at half a MiB."""
READ_AHEAD_BYTES = 64 * 1024
BEHIND_BYTES = 64 * 1024
"""What a client may send behind a request that is not answered yet; nobody but a flood sends more."""
BLIND_S = 0.05
"""How long the socket of a waiting request may go unread: half of the 100 ms in which leaving is noticed."""
LINGER_S = 5.0
"""How long the rest of a refused body is read and dropped, so that the client gets to read the refusal."""
BACKLOG_HIGH_BYTES = 256 * 1024
BACKLOG_LOW_BYTES = 64 * 1024

_log = logging.getLogger("gpushare.connections")


class ClientConnection(RequestHandler):
    """aiohttp's connection with our limits, deadlines and disconnect rules."""

    __slots__ = (
        "_behind",
        "_blind_timer",
        "_body",
        "_connections",
        "_cut_by_us",
        "_header_timer",
        "_in_header",
        "_place",
        "_stall_timer",
        "_turned_away",
        "_wire",
        "expects_100",
        "flow",
        "reading",
        "refusal",
    )

    def __init__(
        self,
        server: web.Server,
        *,
        loop: asyncio.AbstractEventLoop,
        connections: Connections,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=connections.limits.keepalive_timeout_s,
            tcp_keepalive=False,  # the listener's options are better
            logger=_log,
            access_log=cast("logging.Logger", None),  # off: it would print keys in paths
            max_line_size=LINE_BYTES,
            max_field_size=FIELD_BYTES,
            max_headers=MAX_FIELDS,
            lingering_time=LINGER_S,
            read_bufsize=READ_AHEAD_BYTES,
            auto_decompress=False,
        )
        self.flow: Flow | None = None
        self.expects_100 = False
        self.reading: asyncio.Timeout | None = None  # the wait for the next piece of a body
        self.refusal: GpushareError | None = None  # why no more of a body is read
        self._connections = connections
        self._place: Place | Door | None = None
        self._turned_away: GpushareError | None = None  # a limit was reached: what the first request is told
        self._wire: asyncio.Transport | None = None
        self._body: StreamReader | None = None  # of the newest request
        self._in_header = False  # a part of a header block has arrived
        self._behind = 0
        self._cut_by_us = False
        self._header_timer: asyncio.TimerHandle | None = None
        self._blind_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    # --- the life of the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes a place in the counts; where none is left, the client is told so and the line closes."""
        wire = cast("asyncio.Transport", transport)
        address = address_of(wire)
        self._place = self._connections.enter(address)
        if self._place is None:
            self._turned_away = self._connections.refusal(address)
            self._place = self._connections.wait_at_door()
            if self._place is None:
                self._force_close = True
                wire.write(raw_answer(self._turned_away))
                wire.close()
                self._header_timer = self._loop.call_later(DOOR_S, wire.abort)  # TLS waits for a goodbye
                return
        self._wire = wire
        wire.set_write_buffer_limits(high=BACKLOG_HIGH_BYTES, low=BACKLOG_LOW_BYTES)
        super().connection_made(transport)
        self._await_header()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leaves the counts; aiohttp cancels the handler, unless it was the handler that cut the line."""
        for timer in filter(None, (self._header_timer, self._blind_timer, self._stall_timer)):
            timer.cancel()
        self._wire = None
        if self._place is not None:
            self._place.leave()
        if self._cut_by_us:
            self._task_handler = None
        super().connection_lost(exc)

    def force_close(self) -> None:
        """Closes; what the client has not taken yet may still go out, but not for ever."""
        self._await_last_reader()  # first: after a second close TLS cannot be asked
        super().force_close()

    def eof_received(self) -> None:
        """Treats a half-close as a disconnect, at once even if answer bytes are still to be sent."""
        if self._current_request is not None and self._wire is not None:
            self._wire.abort()

    def cut(self) -> None:
        """Drops the connection on behalf of the running handler, which is therefore not cancelled."""
        if self._wire is not None:
            self._cut_by_us = True
            self._wire.abort()

    def accept(self) -> None:
        """A key was accepted on this connection."""
        if self._place is not None:
            self._place.accept()

    def refuse_body(self, error: GpushareError) -> None:
        """Ends the wait for the rest of a body, if there is one, with an error for its client."""
        if self.reading is not None:
            self.refusal = error
            if not self.reading.expired():  # else it ends by itself
                self.reading.reschedule(self._loop.time())

    def _drop(self, event: str) -> None:
        """Drops the connection for what the client did; a running handler is cancelled."""
        self._connections.events[event] += 1
        if self._wire is not None:
            self._wire.abort()

    # --- what comes in

    def data_received(self, data: bytes) -> None:
        """Feeds the parser, keeps the header deadline and bounds what arrives behind a waiting request."""
        if self._is_waiting():
            self._behind += len(data)
            if self._behind > BEHIND_BYTES:
                self._drop("flood")
                return
        requests, body = self._request_count, self._body
        between = body is None or body.is_eof()
        super().data_received(data)
        if self._request_count != requests:
            self._took_requests(body)
        elif data and between:
            self._in_header = True
            self._await_header()

    def _took_requests(self, body: "StreamReader | None") -> None:
        """Stops the header deadline; passes a parser error on to the body it broke, which aiohttp leaves."""
        self._in_header = False
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
        message, self._body = self._messages[-1]
        if isinstance(message, _ErrInfo) and body is not None and not body.is_eof():
            body.set_exception(RequestPayloadError())
            body.feed_eof()

    def _await_header(self) -> None:
        if self._header_timer is None:
            limit_s = DOOR_S if self._turned_away else self._connections.limits.header_timeout_s
            self._header_timer = self._loop.call_later(limit_s, self._header_is_late)

    def _header_is_late(self) -> None:
        """Answers 408 to half a header block, 503 at the door, and closes; a running request comes first."""
        self._header_timer = None
        if self._waiter is None:
            self._await_header()
            return
        refusal = self._turned_away
        if refusal is None:
            self._connections.events["header_timeout"] += 1
            refusal = RequestTimeout(self._connections.limits.header_timeout_s, "header")
        if self._wire is not None and (self._in_header or self._turned_away):
            self._wire.write(raw_answer(refusal))
        self.force_close()

    def _is_waiting(self) -> bool:
        """Whether a whole request is here and its answer is not complete."""
        request = self._current_request
        if request is None or not request.content.is_eof():
            return False
        return self.flow is None or not self.flow.finished

    def _pause_transport_reading(self) -> None:
        """Lets aiohttp stop reading, but for a waiting request not for long: a FIN could lie behind."""
        super()._pause_transport_reading()
        self._watch_pause()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        """Reads again if reading was stopped; aiohttp asks for it at every body, stopped or not."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _watch_pause(self) -> None:
        if self._blind_timer is None:
            request = self._current_request if self._is_waiting() else None
            self._blind_timer = self._loop.call_later(BLIND_S, self._still_paused, request)

    def _still_paused(self, before: web.BaseRequest | None) -> None:
        self._blind_timer = None
        if not (self._reading_paused or self._buffer_paused):
            return
        if before is not None and before is self._current_request and self._is_waiting():
            self._drop("flood")
        else:
            self._watch_pause()

    # --- what goes out

    def pause_writing(self) -> None:
        """Tells the answer that its client is slow; one that cannot be told is timed here."""
        super().pause_writing()
        if self.flow is not None:
            self.flow.pause()
        else:
            self._await_reader()

    def resume_writing(self) -> None:
        """Tells the answer that its client reads again."""
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        if self.flow is not None:
            self.flow.resume()

    async def start(self) -> None:
        """Serves the connection; a last answer that the closing socket still holds is timed too."""
        await super().start()
        self._await_last_reader()

    def _await_last_reader(self) -> None:
        if self._wire is not None and self.transport is not None and self._wire.get_write_buffer_size():
            self._await_reader()

    def _await_reader(self) -> None:
        if self._stall_timer is None:
            limit_s = self._connections.limits.write_stall_s
            self._stall_timer = self._loop.call_later(limit_s, self._drop, "stalled")

    async def drained(self) -> None:
        """Waits until everything written has left the process, or the client has gone."""
        wire = self._wire
        if wire is None or wire.is_closing():
            return
        wire.set_write_buffer_limits(high=0)
        try:
            await self._drain_helper()
        except ConnectionError:
            return
        finally:
            if not wire.is_closing():  # one that has closed takes no limits: uvloop raises
                wire.set_write_buffer_limits(high=BACKLOG_HIGH_BYTES, low=BACKLOG_LOW_BYTES)

    # --- requests and answers

    def begin(self, request: web.Request) -> web.Request:
        """Returns the request, checked for what the parser lets through.

        Raises:
            Overloaded: there was no place for the connection.
            MalformedRequest: a target or a transfer coding that could be read in two ways.
            ExpectationFailed: an expectation other than 100-continue.
        """
        self.flow = None
        self._behind = 0
        self.expects_100 = False
        if self._turned_away is not None:
            raise self._turned_away
        _check_head(request)
        expected = request.headers.get(hdrs.EXPECT)
        if expected is None or request.version < HttpVersion11:
            return request
        if expected.lower() != "100-continue":
            raise ExpectationFailed
        self.expects_100 = True
        # aiohttp would send the 100 before any handler has seen the key
        return request.clone(headers=[pair for pair in request.headers.items() if pair[0] != hdrs.EXPECT])

    def reusable_after(self, request: web.BaseRequest) -> bool:
        """Whether another request may follow this one on the connection.

        None may follow chunks: the parser takes their last trailer field for a header of the next request.
        None may follow an upgrade, taken or not: the parser drops or holds back what came behind it.
        """
        headers = request.headers
        if request.version != HttpVersion11 or hdrs.TRANSFER_ENCODING in headers or hdrs.UPGRADE in headers:
            return False
        unsettled = self._close or self._force_close or self.expects_100
        return request.content.is_eof() and not unsettled

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Ends the answer; half a streamed answer is cut, never continued with anything else."""
        flow, self.flow = self.flow, None
        if flow is not None and flow.started:
            whole = resp is flow.response and flow.finished
            if whole and not self._upgraded:
                return resp, False  # it is out: there is nothing for the library to do
        else:
            whole = resp.prepared or not request.writer.output_size
            if not resp.prepared:
                resp.headers[hdrs.SERVER] = SERVER  # not aiohttp's and Python's version
            if self.expects_100:  # nothing was asked for, so there is nothing to read away
                self._lingering_time = 0.0
            if not self.reusable_after(request):
                resp.force_close()
        if not whole:
            self.cut()
            return resp, True
        answered = await super().finish_response(request, resp, start_time)
        if self._messages:  # the library may begin the next one at once, and refusals wait for nothing
            await asyncio.sleep(0)
        return answered

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature; it quotes what was sent
    ) -> web.StreamResponse:
        """Returns the answer to what the parser refused (400) or a handler let escape."""
        if status == HTTPStatus.BAD_REQUEST:
            self._connections.events["malformed"] += 1
            return refusal(MalformedRequest(), Dialect.GPUSHARE)
        self.log_exception("A request handler failed", exc_info=exc)
        return refusal(Internal("no id"), dialect_of(request.raw_path))

    def log_exception(self, *args: object, **kw: object) -> None:
        """Logs where something failed, without the message of the exception: it may quote the request."""
        exc = kw.get("exc_info")
        frames = traceback.format_tb(exc.__traceback__) if isinstance(exc, BaseException) else []
        _log.error("%s: %s\n%s", args[0], type(exc).__name__, "".join(frames))


def connection_of(request: web.BaseRequest) -> ClientConnection:
    """Returns the connection a request came on."""
    return cast("ClientConnection", request._protocol)  # noqa: SLF001 - several times a call


def _check_head(request: web.Request) -> None:
    """Raises MalformedRequest for what the parser accepts and we do not."""
    if request._version not in (HttpVersion10, HttpVersion11):  # noqa: SLF001 - 0.9 and 2.0 are parsed too
        request._version = HttpVersion10  # noqa: SLF001 - the version of the refusal
        raise MalformedRequest("version")
    if not request.raw_path.startswith("/"):
        raise MalformedRequest("target")
    coding = request.headers.get(hdrs.TRANSFER_ENCODING)
    if coding is not None and (coding.lower() != "chunked" or request.version < HttpVersion11):
        raise MalformedRequest("transfer coding")
