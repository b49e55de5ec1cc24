"""Target: an answer of Ollama's on its way through the HTTP parser."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from gpushare.core.errors import Fault
from gpushare.edge.upstream import HttpExchange, HttpUpstream
from tests.fuzz.target import pieces, words

ANSWERS = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.0 404 Not Found\r\n\r\nuntil the end",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
)
ANSWER_TOKENS = words(
    b"\r\n|\r\n\r\n|\n|HTTP/1.1 |200 OK|101 x|204 x|304 x|000 x|999 x|HTTP/1.0 |"
    b"Content-Length: 5\r\n|Content-Length: 0\r\n|Transfer-Encoding: chunked\r\n|Upgrade: x\r\n|"
    b"\x00|Connection: close\r\n|Content-Encoding: gzip\r\n|5\r\nhello\r\n|0\r\n\r\n|"
    b"ffffffffffffffff\r\n|:"
)


@dataclass
class Told:
    """A consumer that keeps the order of what it is told."""

    head: tuple[int, Mapping[str, str]] | None = None
    body: bytes = b""
    last: str = ""
    order: list[str] = field(default_factory=list)

    def note(self, what: str) -> None:
        assert not self.last, "told something behind the end"
        self.order.append(what)


class Taker(Told):
    """As the relay takes an answer."""

    def take_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.note("head")
        self.head = status, dict(headers)

    def take_body(self, data: bytes) -> None:
        assert data
        assert self.head is not None
        self.note("body")
        self.body += data

    def end(self, *, framed: bool) -> None:
        self.note("end")
        self.last = f"end {framed}"

    def failed(self, fault: Fault) -> None:
        self.note("failed")
        self.last = f"{fault.outcome} {fault.why}"


class Consumer:
    """What an exchange calls."""

    def __init__(self, taker: Taker) -> None:
        self.head = taker.take_head
        self.body = taker.take_body
        self.end = taker.end
        self.failed = taker.failed


class Wire:
    """A transport to nowhere."""

    def __init__(self) -> None:
        self.closed = False

    def write(self, data: bytes) -> None: ...

    def abort(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0


def answer(data: bytes) -> None:
    """Whatever comes, a consumer gets one head, bodies and one end, the same ones wherever it is cut."""
    data = data[:30_000]
    whole = _played([data])
    assert _played(pieces(data)) == whole
    assert _played(pieces(data, salt=1)) == whole
    head, body, last = whole
    assert last
    assert head is not None or not body


def _played(cut: Any) -> tuple[Any, bytes, str]:
    owner = HttpUpstream("http://127.0.0.1:1", connect_timeout=1, send_timeout=1)
    exchange, taker, wire = HttpExchange(owner, head_only=False), Taker(), Wire()
    exchange.connection_made(cast("Any", wire))
    exchange.send(cast("Any", Consumer(taker)), b"", b"", timeout_s=0)
    for piece in cut:
        if wire.closed:
            break
        exchange.data_received(piece)
    exchange.connection_lost(None)
    assert taker.last
    assert taker.order.count("head") <= 1
    return taker.head, taker.body, taker.last
