"""The path of a queued call's bytes to Ollama and back: one socket, one HTTP parser, one callback per read.

Owns: the connections it opened.  Called by: ``engine.relay``, through ``engine.ports.Upstream``.

Rules:
- One connection carries one request and is closed after it: closing is the only way to make Ollama stop,
  and nothing can reach another caller's answer.
- Only bytes that the parser accepted as body go on, joined to one piece per read.
- After the end of the first final answer every further byte is dropped and the socket aborted.
- Every failure leaves as a ``Fault``; no byte of the upstream's is quoted in it.
"""

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools

from gpushare.core.errors import Fault
from gpushare.core.hosts import is_address
from gpushare.core.model import Outcome, UpstreamRequest
from gpushare.edge.beside import beside

LOOK_UPS = 4
"""Look-ups of Ollama's name at once: a name server that keeps silent takes no more threads than that."""

HEAD_MAX_BYTES = 64 * 1024
"""Most bytes before the end of the headers, interim answers included; Ollama sends a few hundred."""

_LOOKED_AT = {
    name.encode(): name
    for name in (
        "cache-control",
        "content-encoding",
        "content-length",
        "content-type",
        "transfer-encoding",
    )
}
"""The headers of an answer that anything depends on; no others are read."""

_JOIN_BYTES = 64 * 1024  # above it, copying a body in order to save one system call costs more


class Consumer(Protocol):
    """What takes the answer: ``engine.ports.Consumer``, which siblings of the engine do not import."""

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Takes the status and the headers."""

    def body(self, data: bytes) -> None:
        """Takes body bytes."""

    def end(self, *, framed: bool) -> None:
        """The message ended."""

    def failed(self, fault: Fault) -> None:
        """The answer broke."""


class HttpUpstream:
    """One Ollama, reached over plain HTTP/1.1.

    Args:
        url: the address, for example ``http://127.0.0.1:11434``; with a name instead of a literal address
            every call pays for a look-up.
        connect_timeout: seconds for a dial.
        send_timeout: seconds in which Ollama must have taken the whole request.

    Attributes:
        strays: answers that had bytes behind their end.
        reads: how often bytes came from Ollama.
    """

    def __init__(self, url: str, *, connect_timeout: float, send_timeout: float) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
        self._literal = is_address(self._host)
        self._looking_up = asyncio.Semaphore(LOOK_UPS)
        self._prefix = parts.path.rstrip("/")
        self._constants = (
            f"Host: {parts.netloc.rpartition('@')[2]}\r\nUser-Agent: gpushare\r\n"
            "Accept-Encoding: identity\r\nConnection: close\r\n"
        )
        self.set_timeouts(connect_timeout=connect_timeout, send_timeout=send_timeout)
        self.strays = self.reads = 0

    def set_timeouts(self, *, connect_timeout: float, send_timeout: float) -> None:
        """Takes new limits for the calls to come."""
        self._connect_timeout = connect_timeout
        self._send_timeout = send_timeout

    async def open(self, request: UpstreamRequest, consumer: Consumer) -> "HttpExchange":
        """Connects and sends the request; from now on ``consumer`` is called.

        Raises:
            Fault: the dial failed or timed out; nothing was sent.
        """
        exchange = HttpExchange(self, head_only=request.method == "HEAD")
        deadline = _DialDeadline(asyncio.get_running_loop(), self._connect_timeout)
        try:
            await self._dial(exchange)
        except asyncio.CancelledError:
            if not deadline.passed():
                raise
            raise Fault(Outcome.UPSTREAM_REFUSED, "no connection in time", sent=False) from None
        except OSError as error:
            why = "connection refused" if isinstance(error, ConnectionRefusedError) else "no connection"
            raise Fault(Outcome.UPSTREAM_REFUSED, why, sent=False) from None
        finally:
            deadline.timer.cancel()
        exchange.send(consumer, self._head(request), request.body, timeout_s=self._send_timeout)
        return exchange

    async def _dial(self, exchange: "HttpExchange") -> None:
        """Connects to the first address that takes the connection; raises OSError if none does."""
        loop = asyncio.get_running_loop()
        *others, last = [self._host] if self._literal else await self._addresses()
        for host in others:
            with suppress(OSError):
                await loop.create_connection(lambda: exchange, host, self._port)
                return
        await loop.create_connection(lambda: exchange, last, self._port)

    async def _addresses(self) -> list[str]:
        """Looks Ollama's name up; not in the loop's own pool, whose threads the end would wait for."""
        found = await beside(
            lambda: socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM),
            within=self._looking_up,
        )
        return [str(address[0]) for *_, address in found]

    def _head(self, request: UpstreamRequest) -> bytes:
        """Returns the request head: constants, and nothing of the client's but a form's boundary."""
        head = f"{request.method} {self._prefix}{request.target} HTTP/1.1\r\n{self._constants}"
        if request.body or request.method == "POST":
            head += f"Content-Type: {request.content_type}\r\nContent-Length: {len(request.body)}\r\n"
        return f"{head}\r\n".encode("utf-8", "surrogateescape")


class _DialDeadline:
    """Cancels a dial that takes too long: ``asyncio.timeout`` for one await, at a third of its cost."""

    __slots__ = ("_over", "_task", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._task = asyncio.current_task()
        self._over = False
        self.timer = loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        self._over = True
        if self._task is not None:
            self._task.cancel()

    def passed(self) -> bool:
        """Whether the cancellation was the deadline's own, and nobody else's besides."""
        return self._over and self._task is not None and not self._task.uncancel()


class HttpExchange(asyncio.Protocol):
    """One connection to Ollama and the one answer on it.

    What the parser found is handed to the consumer after the parser has returned, so that a consumer may
    abort, or fail, at any time.
    """

    __slots__ = ("_answer", "_consumer", "_head_bytes", "_head_only", "_owner", "_send_timer", "_transport")

    def __init__(self, owner: HttpUpstream, *, head_only: bool) -> None:
        self._owner = owner
        self._head_only = head_only
        self._head_bytes = 0  # received before the end of the headers; -1 once they were handed over
        self._consumer: Consumer | None = None
        self._transport: asyncio.Transport | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._answer = _Answer()

    def send(self, consumer: Consumer, head: bytes, body: bytes, *, timeout_s: float) -> None:
        """Sends the request; the consumer fails if Ollama has not taken all of it in time.

        Raises:
            Fault: the connection was closed, or spoke first, before anything was sent.
        """
        transport = self._transport
        if transport is None:
            raise Fault(Outcome.UPSTREAM_REFUSED, "connection closed at once", sent=False)
        self._consumer = consumer
        if len(body) <= _JOIN_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        if timeout_s and transport.get_write_buffer_size():
            loop = asyncio.get_running_loop()
            self._send_timer = loop.call_later(timeout_s, self._check_sent)

    def pause(self) -> None:
        """Stops reading, so that TCP holds Ollama back."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads again."""
        if self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Closes the connection at once."""
        if self._consumer is None and self._transport is None:
            return
        self._consumer = None
        self._answer.release()
        if self._send_timer is not None:
            self._send_timer.cancel()
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    # --- asyncio.Protocol ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hands on what one read held: whatever was accepted, even if an error follows it."""
        self._owner.reads += 1
        if self._consumer is None:  # it spoke before it was asked
            self.abort()
            return
        answer = self._answer
        legal = answer.feed(data)
        if self._head_bytes >= 0 and not self._hand_over_head(len(data), legal=legal):
            return
        body = answer.take()
        if body and self._consumer is not None:
            self._consumer.body(body)
        if answer.complete:
            self._end()
        elif not legal:
            self._fail(Outcome.UPSTREAM_PROTOCOL, "sent something that is not HTTP")

    def connection_lost(self, exc: Exception | None) -> None:
        """Judges an end of the connection that came before the end of the message."""
        self._transport = None
        if self._consumer is None:  # it was closed from here
            return
        if self._head_bytes >= 0:
            self._fail(Outcome.UPSTREAM_RESET, "closed the connection without an answer")
        elif exc is not None and not isinstance(exc, OSError):  # a callback of ours raised
            self._fail(Outcome.INTERNAL_ERROR, "was answered with a fault of ours")
        elif exc is not None:
            self._fail(Outcome.UPSTREAM_RESET, "broke the connection off in the middle of the answer")
        elif self._answer.framed:
            self._fail(Outcome.UPSTREAM_TRUNCATED, "stopped in the middle of the answer")
        else:
            self._consumer.end(framed=False)
        self.abort()

    # --- the steps -------------------------------------------------------------------------------------

    def _hand_over_head(self, size: int, *, legal: bool) -> bool:
        """Hands over status and headers once they are complete; returns whether they have been."""
        answer = self._answer
        if not answer.status:
            self._head_bytes += size
            if not legal or self._head_bytes > HEAD_MAX_BYTES:
                self._fail(Outcome.UPSTREAM_PROTOCOL, "sent something that is not HTTP")
            return False
        self._head_bytes = -1
        if not answer.is_plain():
            self._fail(Outcome.UPSTREAM_PROTOCOL, "sent an answer in a form nobody asked for")
            return False
        if self._consumer is not None:
            self._consumer.head(answer.status, answer.headers)
        if self._head_only:
            self._end()
        return not self._head_only

    def _end(self) -> None:
        """Ends the exchange with the message: nothing that follows is looked at."""
        consumer, stray = self._consumer, self._answer.stray
        if stray:
            self._owner.strays += 1
        self.abort()
        if consumer is not None:
            consumer.end(framed=True)

    def _fail(self, outcome: Outcome, why: str) -> None:
        consumer = self._consumer
        self.abort()
        if consumer is not None:
            consumer.failed(Fault(outcome, why, sent=True))

    def _check_sent(self) -> None:
        if self._transport is not None and self._transport.get_write_buffer_size():
            self._fail(Outcome.UPSTREAM_RESET, "did not take the request in time")


class _Answer:
    """What the parser found so far; interim answers (1xx) leave no trace."""

    __slots__ = ("_body", "_parser", "_parts", "complete", "headers", "on_body", "status", "stray", "version")

    def __init__(self) -> None:
        self.status = 0  # of the final answer, once its headers are complete
        self.version = ""  # likewise
        self.headers: dict[str, str] = {}
        self.complete = False
        self.stray = False
        self._body = b""
        self._parts: list[bytes] = []
        self.on_body = self._parts.append  # the parser fills the list without a Python call per chunk
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    @property
    def framed(self) -> bool:
        """Whether the message says itself where it ends, instead of by the end of the connection."""
        return "content-length" in self.headers or "transfer-encoding" in self.headers

    def is_plain(self) -> bool:
        """Whether this is HTTP/1 with a status that means something, without a coding besides chunks."""
        coding = self.headers.get("transfer-encoding", "chunked").lower()
        return self.version in ("1.0", "1.1") and coding == "chunked" and self.status < 600

    def feed(self, data: bytes) -> bool:
        """Parses ``data``; returns False if it is not legal, which no longer matters after the end."""
        if self._parser is None:
            return True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.stray = self.complete
            return self.complete
        return True

    def take(self) -> bytes:
        """Returns the body bytes found since the last call, as one piece."""
        if self.complete:
            body, self._body = self._body, b""
            return body
        parts = self._parts
        if not parts:
            return b""
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        return body

    def release(self) -> None:
        """Lets go of the parser, which holds methods of this object: a cycle, cut by hand."""
        self._parser = None

    # --- httptools callbacks ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Notes a second message behind the first."""
        self.stray = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collects a header of the answer if it is looked at; what comes after the body does not count."""
        key = _LOOKED_AT.get(name.lower())
        if key is not None and not self.status:
            text = value.decode("latin-1")
            self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        """Notes the status, unless the answer is an interim one."""
        if self.status or self._parser is None:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self.headers.clear()
        else:
            self.status, self.version = status, self._parser.get_http_version()

    def on_message_complete(self) -> None:
        """Closes the books: body pieces of a second message are never taken."""
        if self.status and not self.complete:
            self._body = b"".join(self._parts)
            self.complete = True
