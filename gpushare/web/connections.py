"""Client connections as things to count: how many may be open, from where, and on which socket they arrive.

Called by: ``web.protocol`` for every connection; ``app`` makes the listener; metrics read the counts.
Rules: no HTTP here; a connection takes a ``Place`` when it opens and leaves it exactly once.
"""

import asyncio
import random
import socket
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from ipaddress import ip_network

from gpushare.core.errors import AddressCrowded, Overloaded, spread_retry_s
from gpushare.core.hosts import is_within

DEAD_PEER_S = 30
"""Longest time the kernel keeps sending to a peer that acknowledges nothing."""
KEEPALIVE_IDLE_S = 30
KEEPALIVE_PROBE_S = 10
KEEPALIVE_PROBES = 3
"""A silent dead peer is found after 30 s + 3 x 10 s; the system's own default is two hours."""
DOOR_PLACES = 64
"""So many refused connections may first send their request, and then read why; others are closed at once."""
DOOR_S = 1.0
"""How long a connection beyond the limits may take to ask: not every client reads an answer before that."""
REFUSED_RETRY_S = 5.0
SEND_BUFFER_BYTES = 64 * 1024
"""Kernel send buffer: with the default of megabytes a reader that has stopped is noticed far too late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How many connections may be open at once, and how long they may take for what.

    ``anonymous`` bounds those on which no key was accepted yet, so that a flood without keys cannot use up
    ``total``.  Addresses in ``trusted`` (single ones or networks) are front proxies, which carry many people:
    ``per_address`` does not hold for them.  ``header_timeout_s`` is absolute, from the connect or from the
    first byte of a later request.  ``write_stall_s`` bounds how long an answer waits for its client; a
    streamed answer has its own deadline for that.
    """

    total: int = 512
    per_address: int = 64
    anonymous: int = 128
    trusted: Collection[str] = ()
    header_timeout_s: float = 15.0
    keepalive_timeout_s: float = 75.0
    write_stall_s: float = 30.0


class Connections:
    """Counts open connections and refuses those above the limits.

    ``events`` counts, by word, whatever a limit or a deadline did to a connection; the words are a closed
    list: ``total``, ``per_address``, ``anonymous`` (refused at the door), ``header_timeout``, ``malformed``,
    ``flood``, ``stalled``, ``handshake``.
    """

    def __init__(self, limits: ConnectionLimits, *, jitter: Callable[[], float] = random.random) -> None:
        self.set_limits(limits)
        self._jitter = jitter
        self.open = 0
        self.anonymous = 0
        self.at_door = 0
        self.events: Counter[str] = Counter()
        self._by_address: Counter[str] = Counter()

    def set_limits(self, limits: ConnectionLimits) -> None:
        """Takes new limits; connections already open stay."""
        self.limits = limits
        self._trusted = tuple(ip_network(item, strict=False) for item in limits.trusted)

    def enter(self, address: str) -> "Place | None":
        """Returns the place of a new connection from ``address``, or None where a limit refuses it."""
        limit = self._reached(address)
        if limit is not None:
            self.events[limit] += 1
            return None
        self.open += 1
        self.anonymous += 1
        self._by_address[address] += 1
        return Place(self, address)

    def refusal(self, address: str) -> Overloaded:
        """Returns what a connection from ``address`` is told that found no place."""
        retry_s = spread_retry_s(REFUSED_RETRY_S, self._jitter())
        if self._reached(address) == "per_address":
            return AddressCrowded(self.limits.per_address, retry_s)
        return Overloaded("connections", retry_s)

    def wait_at_door(self) -> "Door | None":
        """Returns room for a refused connection to be told why, or None where too many are at the door."""
        if self.at_door >= DOOR_PLACES:
            return None
        self.at_door += 1
        return Door(self)

    def _reached(self, address: str) -> str | None:
        """Returns the name of the limit a new connection from ``address`` would pass."""
        if self.open >= self.limits.total:
            return "total"
        if self._by_address[address] >= self.limits.per_address and not is_within(address, self._trusted):
            return "per_address"
        return "anonymous" if self.anonymous >= self.limits.anonymous else None

    def _leave(self, address: str) -> None:
        self.open -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]  # or the table grows with every address ever seen


class Place:
    """One open connection's entry in the counts."""

    __slots__ = ("_address", "_anonymous", "_home")

    def __init__(self, home: Connections, address: str) -> None:
        self._home: Connections | None = home
        self._address = address
        self._anonymous = True

    def accept(self) -> None:
        """A key was accepted on this connection: it no longer counts as anonymous.  Idempotent."""
        if self._home is not None and self._anonymous:
            self._anonymous = False
            self._home.anonymous -= 1

    def leave(self) -> None:
        """The connection is gone.  Idempotent."""
        if self._home is not None:
            self.accept()
            self._home._leave(self._address)  # noqa: SLF001 - the two classes are one thing
            self._home = None


class Door:
    """Where one refused connection is told why; fits ``Place``, and counts for none of the limits."""

    __slots__ = ("_home",)

    def __init__(self, home: Connections) -> None:
        self._home: Connections | None = home

    def accept(self) -> None:
        """No key is looked at here."""

    def leave(self) -> None:
        """The connection is gone.  Idempotent."""
        if self._home is not None:
            self._home.at_door -= 1
            self._home = None


def address_of(wire: asyncio.BaseTransport) -> str:
    """Returns the peer's address; empty where there is none (a UNIX socket, a peer already gone)."""
    peer = wire.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def make_listener(host: str, port: int) -> socket.socket:
    """Returns a bound socket, not yet listening, with the options accepted connections inherit.

    Args:
        host: an address or a name; empty for every address.
        port: 0 for any free port.

    Raises:
        OSError: the address cannot be resolved or bound.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tune_listener(listener)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def tune_listener(listener: socket.socket) -> None:
    """Sets the options that connections accepted from ``listener`` inherit."""
    options: Iterable[tuple[int, int, int]] = (
        (socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_PROBE_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_S * 1000),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    )
    for level, name, value in options:
        listener.setsockopt(level, name, value)
    listener.setblocking(False)
