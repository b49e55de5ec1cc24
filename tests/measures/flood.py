"""Offers requests at a fixed rate, as a process of its own: ``python -m tests.measures.flood``.

It reads an ``Order`` from its standard input and connects; it offers from the next line to the one after
that, and writes a ``Report``.  Requests are sent as they were given, and of the answers only the statuses are
read, so that one process offers more than a gateway refuses.
"""

import re
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle

import msgspec
from msgspec import Struct

DEEP = 8
"""Requests unanswered on one line: fewer bytes than the gateway lets a client send behind a request."""
TICK_S = 0.002
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")


class Order(Struct, frozen=True, kw_only=True):
    """What to offer.  A ``kept`` line carries one request after the other, else each has its own."""

    port: int
    requests: tuple[str, ...]
    rate: int
    lines: int
    kept: bool


class Report(Struct, frozen=True, kw_only=True):
    """What came of it, by status.  ``held_back`` found no line free: that many others were unanswered."""

    seconds: float
    offered: int
    held_back: int
    answered: dict[str, int]


@dataclass(slots=True)
class Line:
    """One connection; ``unsent`` waits for it to be made, ``tail`` may be the beginning of an answer."""

    sock: socket.socket
    unanswered: int = 0
    unsent: bytes = b""
    tail: bytes = b""


class Flood:
    """The lines, and what was answered on them."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._requests = cycle([text.encode("latin-1") for text in order.requests])
        self._lines: dict[int, Line] = {}
        self._poll = select.epoll()
        self._held_back = 0
        self._answered: Counter[str] = Counter()
        while order.kept and len(self._lines) < order.lines:
            self._open()

    def run(self, go_on: Callable[[], bool]) -> Report:
        """Offers while it may."""
        begun, offered = time.perf_counter(), 0
        while go_on():
            due = int((time.perf_counter() - begun) * self._order.rate) - offered
            offered += due
            self._held_back += due - (
                self._offer_on_lines(due) if self._order.kept else self._offer_anew(due)
            )
            self._take()
        seconds = time.perf_counter() - begun
        answered = dict(self._answered)
        return Report(seconds=seconds, offered=offered, held_back=self._held_back, answered=answered)

    def _offer_on_lines(self, due: int) -> int:
        """Spreads requests over the lines; returns how many were sent."""
        sent = 0
        for line, count in self._shares(due):
            line.unanswered += count
            line.unsent += b"".join([next(self._requests) for _ in range(count)])
            self._send(line)
            sent += count
        return sent

    def _shares(self, due: int) -> Iterator[tuple[Line, int]]:
        """Yields lines with how many requests each is to take, those with the fewest unanswered first."""
        lines = sorted(self._lines.values(), key=lambda line: line.unanswered)
        each = max(1, -(-due // max(1, len(lines))))
        for line in lines:
            count = min(each, due, DEEP - line.unanswered)
            if count <= 0:
                return
            due -= count
            yield line, count

    def _offer_anew(self, due: int) -> int:
        """Makes a line for each request; returns how many were made."""
        count = min(due, self._order.lines - len(self._lines))
        for _ in range(count):
            line = self._open()
            line.unanswered, line.unsent = 1, next(self._requests)
            self._send(line)
        return max(0, count)

    def _open(self) -> Line:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", self._order.port))
        line = self._lines[sock.fileno()] = Line(sock)
        self._poll.register(sock.fileno(), select.EPOLLIN)
        return line

    def _send(self, line: Line) -> None:
        """Sends what fits; the rest goes when the line can take it."""
        with suppress(BlockingIOError, ConnectionError):
            line.unsent = line.unsent[line.sock.send(line.unsent) :]
        events = select.EPOLLIN | (select.EPOLLOUT if line.unsent else 0)
        self._poll.modify(line.sock.fileno(), events)

    def _take(self) -> None:
        for number, event in self._poll.poll(TICK_S):
            line = self._lines[number]
            if event & select.EPOLLOUT:
                self._send(line)
            if event & ~select.EPOLLOUT:
                self._read(line)

    def _read(self, line: Line) -> None:
        try:
            data = line.sock.recv(65536)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        found = _STATUS.findall(line.tail + data)
        self._answered.update(status.decode() for status in found)
        line.unanswered -= len(found)
        line.tail = data[-11:]  # one byte less than what is looked for
        if not data or not (self._order.kept or line.unanswered):
            self._close(line)

    def _close(self, line: Line) -> None:
        """Forgets a line that has ended; one that is kept is made again."""
        if line.unanswered > 0:
            self._answered["closed"] += line.unanswered
        del self._lines[line.sock.fileno()]
        self._poll.unregister(line.sock.fileno())
        line.sock.close()
        if self._order.kept:
            self._open()


def main() -> None:
    """Does what it is ordered to."""
    flood = Flood(msgspec.json.decode(sys.stdin.buffer.readline(), type=Order))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.buffer.readline()
    report = flood.run(lambda: not select.select([sys.stdin], [], [], 0)[0])
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")


if __name__ == "__main__":
    main()
