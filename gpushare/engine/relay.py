"""Copying one answer from Ollama to a sink: under flow control, deadlines and the rule of whole records.

Owns: the exchange it opened.  Called by: ``engine.gateway``.

Theory of operation.  ``Relay`` is the consumer of an exchange.  The path of a token is one callback: the
socket was readable, the parser accepted bytes, ``body`` releases the whole records among them and writes them
to the sink.  Nothing on that path waits, logs, makes an object per record or touches a timer.

An answer is *decided* once: its end mark came, its message ended, it failed, a deadline passed, somebody cut
it or the client left.  At that instant, in one synchronous block, the connection to Ollama is aborted and
``Progress.answered`` is told, which frees the slot; only then does the client get what it has not taken yet.

Rules:
- Streams release whole records only, so an error record can always follow.  A stream that breaks ends with
  one; a single document that breaks is cut, so that the client can tell.
- A single document of up to ``HOLD_MAX_BYTES`` is sent when it is whole: no client can use a part of it, and
  until then every failure still has its proper status.
- Ollama's own errors pass unchanged, if they are JSON.
- A request is sent once.  Only a failed dial is tried again, once.
"""

import asyncio
from collections.abc import Mapping

from msgspec import Struct

from gpushare.core.answers import is_busy, objection, passed_headers
from gpushare.core.dialects.usage import UsageTap, is_object
from gpushare.core.errors import (
    ClientSlow,
    Fault,
    GpushareError,
    Internal,
    OllamaBroken,
    OllamaBusy,
    OllamaDown,
    render_event,
)
from gpushare.core.framing import RecordCutter
from gpushare.core.model import Call, Kind, Outcome, UpstreamRequest, Usage
from gpushare.engine.deadlines import Deadlines, Watch
from gpushare.engine.dial import Dial
from gpushare.engine.ports import Exchange, Progress, Sink, Upstream

__all__ = ["Deadlines", "Relay", "RelayEnd"]

HOLD_MAX_BYTES = 64 * 1024
"""Longest single document sent when whole, and longest error of Ollama's that passes."""

RETRIED = (429, 503)
"""Statuses that never go out without saying when to come back; Ollama itself does not say it."""


class RelayEnd(Struct, frozen=True, kw_only=True):
    """How a call ended.

    ``error`` is set only if nothing was sent to the client: the web layer renders it.  ``delivered`` tells
    whether the client took everything.  ``connected_at`` and ``first_at`` are instants of the loop's clock.
    """

    outcome: Outcome
    status: int
    error: GpushareError | None = None
    usage: Usage = Usage()
    records: int = 0
    bytes_out: int = 0
    delivered: bool = True
    connected_at: float | None = None
    first_at: float | None = None


class Relay:
    """Carries one answer; made for one ``run``.

    Args:
        headers: what every answer of ours carries; what comes from Ollama is added to it.
        progress: told how far the answer has come.

    Attributes:
        bytes_out: body bytes handed to the sink.
    """

    def __init__(
        self,
        *,
        call: Call,
        sink: Sink,
        request_id: str,
        headers: dict[str, str],
        deadlines: Deadlines,
        progress: Progress,
    ) -> None:
        self._call = call
        self._sink = sink
        self._request_id = request_id
        self._headers = headers
        self._finish_s = deadlines.finish_s
        self._progress = progress
        self._streaming = streaming = call.streaming
        self._cutter = RecordCutter(call.framing) if streaming else None
        self._tap = UsageTap(call.endpoint.path, call.framing)
        self._held: bytearray | None = None if streaming else bytearray()
        self._watch = Watch(deadlines, expired=self._break, waiting=self._waiting)
        self._decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._exchange: Exchange | None = None
        self._dial = Dial()
        self._outcome: Outcome | None = None
        self._error: GpushareError | None = None
        self._status = 0
        self._content_length: str | None = None
        self._delivered = True
        self._connected_at: float | None = None
        self.bytes_out = 0

    @property
    def first_at(self) -> float | None:
        """When the first byte came, in the loop's time."""
        return self._watch.first_at

    @property
    def records(self) -> int:
        """Data records released so far."""
        return self._tap.records

    async def run(self, upstream: Upstream, request: UpstreamRequest) -> RelayEnd:
        """Sends the request and returns once the answer is decided and the client has taken it.

        Raises:
            asyncio.CancelledError: the client left; the connection to Ollama is closed already.
        """
        try:
            self._watch.begin()
            await self._connect(upstream, request)
            await self._decided
            await self._flush()
        except asyncio.CancelledError:
            self._delivered = False
            if self._decide(Outcome.CLIENT_GONE_RUNNING):
                self._sink.abort()
            raise
        finally:
            if self._outcome is None:  # a fault of ours
                self._let_go()
        return self.summary()

    def cut(self, error: GpushareError) -> None:
        """Ends the call now, with ``error`` as its last record: drain, revocation, its owner's wish."""
        self._break(error)

    def summary(self) -> RelayEnd:
        """Returns how the call ended; valid once it is decided, also after a cancelled ``run``."""
        return RelayEnd(
            outcome=self._outcome or Outcome.INTERNAL_ERROR,
            status=self._status if self._error is None else self._error.status,
            error=self._error,
            usage=self._tap.usage(),
            records=self._tap.records,
            bytes_out=self.bytes_out,
            delivered=self._delivered,
            connected_at=self._connected_at,
            first_at=self.first_at,
        )

    # --- engine.ports.Consumer -------------------------------------------------------------------------

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Judges the status and the headers; nothing is sent before the body begins."""
        self._status = status
        if not self._streaming:  # a stream may get a record more, or one less
            self._content_length = headers.get("content-length")
        if status >= 400:
            self._held = bytearray()
        elif what := objection(self._call, status, headers):
            self._break(OllamaBroken(what, Outcome.UPSTREAM_PROTOCOL))
        self._headers |= passed_headers(self._call, headers)

    def body(self, data: bytes) -> None:
        """Takes what one read brought and passes its whole records on."""
        if self._watch.first_at is None and self._status < 400:
            self._watch.first_byte()
            self._progress.first_byte()
        if self._held is not None:
            self._hold(self._held, data)
            return
        cutter = self._cutter
        if cutter is None:
            self._release(data)
            return
        ready = cutter.feed(data)
        if ready:
            self._release(ready)
        if cutter.too_long:
            self._break(OllamaBroken("sent a record without an end", Outcome.UPSTREAM_PROTOCOL))

    def end(self, *, framed: bool) -> None:
        """Judges a message that ended without breaking."""
        if self._status >= 400:
            self._end_refusal()
        elif self._streaming:
            self._end_stream(framed=framed)
        else:
            self._end_document(framed=framed)

    def failed(self, fault: Fault) -> None:
        """Ends an answer that broke."""
        outcome = fault.outcome
        if outcome is Outcome.INTERNAL_ERROR:
            self._break(Internal(self._request_id))
            return
        if outcome is Outcome.UPSTREAM_TRUNCATED and not self._sink.started:
            outcome = Outcome.UPSTREAM_RESET
        self._break(OllamaBroken(fault.why, outcome))

    # --- towards Ollama --------------------------------------------------------------------------------

    async def _connect(self, upstream: Upstream, request: UpstreamRequest) -> None:
        try:
            exchange = await self._dial.open(upstream, request, self)
        except Fault as fault:
            self._break(OllamaBroken(fault.why, fault.outcome) if fault.sent else OllamaDown(fault.why))
            return
        if exchange is None:  # decided meanwhile
            return
        self._exchange = exchange
        self._connected_at = self._watch.sent()
        self._progress.sent()
        self._sink.set_flow(self._pause, self._resume)

    def _pause(self) -> None:
        self._watch.hold_back()
        if self._exchange is not None:
            self._exchange.pause()

    def _resume(self) -> None:
        self._watch.let_on()
        if self._exchange is not None:
            self._exchange.resume()

    def _let_go(self) -> None:
        """Closes the connection to Ollama, or ends the dial, and stops the clock."""
        self._watch.stop()
        self._dial.give_up()
        if self._exchange is not None:
            self._exchange.abort()
        self._sink.set_flow(None, None)

    # --- the path of a token ---------------------------------------------------------------------------

    def _waiting(self) -> tuple[int, int]:
        return self.bytes_out, self._sink.backlog()

    def _hold(self, held: bytearray, data: bytes) -> None:
        """Collects a document that is sent when whole: an error, or an answer as long as it is small."""
        held += data
        self._watch.progress()
        if len(held) <= HOLD_MAX_BYTES:
            return
        if self._status >= 400:
            self._end_refusal()
            return
        self._held = None
        self._release(bytes(held))

    def _release(self, ready: bytes) -> None:
        """Passes whole records on, up to the one that ends the answer."""
        tap, sink = self._tap, self._sink
        records = tap.records
        kept = tap.feed(ready)
        if kept < len(ready):
            ready = ready[:kept]
        if not sink.started:
            self._start()
            self._watch.passing()
        sink.write(ready)
        self.bytes_out += kept
        if kept > 2 * (tap.records - records):  # blank lines are no progress
            self._watch.progress()
        if tap.done:
            self._finish(Outcome.OK)

    def _start(self) -> None:
        """Sends the status and the headers; the length is told where it is known."""
        if self._content_length is not None:
            self._headers["Content-Length"] = self._content_length
        self._sink.start(self._status, self._headers)

    # --- how answers end -------------------------------------------------------------------------------

    def _end_stream(self, *, framed: bool) -> None:
        """A proper end releases an unfinished record unchanged, a broken one drops it."""
        rest = self._cutter.rest() if self._cutter is not None else b""
        if framed and rest:
            self._release(rest)
        if self._outcome is not None:
            return
        if not self._sink.started:
            self._break(OllamaBroken("ended the answer before it began", Outcome.UPSTREAM_RESET))
        elif framed:
            self._finish(Outcome.UPSTREAM_ERROR if self._tap.failed() else Outcome.UPSTREAM_TRUNCATED)
        else:
            self._break(OllamaBroken("stopped in the middle of the answer", Outcome.UPSTREAM_TRUNCATED))

    def _end_document(self, *, framed: bool) -> None:
        """Judges a document; one that only the close of the connection ends must show that it is whole."""
        endpoint, tap = self._call.endpoint, self._tap
        body = bytes(self._held or b"")
        tap.feed(body)
        tap.close()
        if not framed and not tap.done:
            self._break(OllamaBroken("stopped in the middle of the answer", Outcome.UPSTREAM_TRUNCATED))
            return
        if self._held is not None:
            if not body and endpoint.kind is Kind.QUEUED:
                self._break(OllamaBroken("sent an empty answer", Outcome.UPSTREAM_RESET))
                return
            self._send_whole(body)
        if tap.done or endpoint.multipart or not self.bytes_out:
            self._finish(Outcome.OK)
        else:
            self._finish(Outcome.UPSTREAM_ERROR if tap.failed() else Outcome.UPSTREAM_TRUNCATED)

    def _end_refusal(self) -> None:
        """Passes an error of Ollama's on, if it is one of its own making."""
        body = bytes(self._held or b"")
        if is_busy(self._status, body):
            self._break(OllamaBusy())
        elif len(body) <= HOLD_MAX_BYTES and (is_object(body) or self._call.endpoint.method == "HEAD"):
            if self._status in RETRIED:
                self._headers.update({"Retry-After": "2", "retry-after-ms": "2000"})
            self._send_whole(body)
            self._finish(Outcome.UPSTREAM_ERROR)
        else:
            what = f"answered with status {self._status} and no reason"
            self._break(OllamaBroken(what, Outcome.UPSTREAM_ERROR))

    def _send_whole(self, body: bytes) -> None:
        """Sends a document that is whole."""
        if self._call.endpoint.method != "HEAD":
            self._content_length = str(len(body))
        self._start()
        self._sink.write(body)
        self.bytes_out += len(body)

    def _decide(self, outcome: Outcome) -> bool:
        """Fixes the outcome and frees the slot; returns False if that had happened already."""
        if self._outcome is not None:
            return False
        self._outcome = outcome
        self._let_go()
        if not self._decided.done():
            self._decided.set_result(None)
        self._progress.answered(outcome)
        return True

    def _finish(self, outcome: Outcome) -> None:
        """Ends an answer whose bytes pass as they are."""
        if self._decide(outcome):
            self._sink.finish()

    def _break(self, error: GpushareError) -> None:
        """Ends an answer with an error: a status if nothing is out, else a record, unless Ollama sent one."""
        if self._streaming and self._tap.failed():
            self._finish(Outcome.UPSTREAM_ERROR)
            return
        if not self._decide(error.outcome):
            return
        if not self._sink.started:
            self._error = error
        elif self._streaming and not isinstance(error, ClientSlow):
            call = self._call
            self._sink.write(render_event(error, call.endpoint, call.framing, request_id=self._request_id))
            self._sink.finish()
        else:
            self._delivered = False
            self._sink.abort()

    async def _flush(self) -> None:
        """Waits until the client has taken what is out, within limits; the slot is free already."""
        if not self._sink.backlog():
            return
        try:
            async with asyncio.timeout(self._finish_s or None):
                await self._sink.drained()
        except TimeoutError:
            self._sink.abort()
            self._delivered = False
            if self._outcome is Outcome.OK:
                self._outcome = Outcome.CLIENT_SLOW
