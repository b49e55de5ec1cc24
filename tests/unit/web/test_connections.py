import socket
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.web.connections import ConnectionLimits, Connections, Place, make_listener


@pytest.mark.parametrize(
    ("trusted", "address", "admitted"),
    [
        ((), "10.0.0.1", False),
        (("10.0.0.1",), "10.0.0.1", True),
        (("10.0.0.0/8",), "10.0.0.1", True),
        (("10.0.0.1",), "::ffff:10.0.0.1", True),
        (("10.0.0.2",), "10.0.0.1", False),
        (("::1",), "::1", True),
        (("::1",), "fe80::1%eth0", False),
        (("10.0.0.1",), "", False),
    ],
)
def test_trusted(trusted: tuple[str, ...], address: str, *, admitted: bool) -> None:
    """A trusted proxy may open more connections than one address; others may not."""
    connections = Connections(ConnectionLimits(per_address=1, trusted=trusted))
    assert connections.enter(address)
    assert bool(connections.enter(address)) is admitted


def test_new_limits() -> None:
    """New limits hold for new connections; those open stay."""
    connections = Connections(ConnectionLimits(total=1))
    kept = connections.enter("a")
    assert connections.enter("a") is None
    connections.set_limits(ConnectionLimits(total=2))
    assert connections.enter("a")
    connections.set_limits(ConnectionLimits(total=1))
    assert kept is not None
    kept.leave()
    assert connections.enter("a") is None
    assert connections.events == {"total": 2}


@given(st.lists(st.tuples(st.sampled_from(["enter", "accept", "leave"]), st.integers(0, 3))))
def test_counts(steps: list[tuple[str, int]]) -> None:
    """Whatever happens in whatever order, the counts are those of the places held, and no limit is passed."""
    limits = ConnectionLimits(total=6, per_address=3, anonymous=4)
    connections = Connections(limits)
    held: list[tuple[Place, str, set[str]]] = []
    for step, number in steps:
        if step == "enter":
            place = connections.enter(str(number))
            if place is not None:
                held.append((place, str(number), set()))
        elif number < len(held):
            place, _, done = held[number]
            actions: dict[str, Callable[[], None]] = {"accept": place.accept, "leave": place.leave}
            actions[step]()
            done.add(step)
        there = [(address, done) for _, address, done in held if "leave" not in done]
        assert connections.open == len(there) <= limits.total
        assert connections.anonymous == sum("accept" not in done for _, done in there) <= limits.anonymous
        for address in {address for address, _ in there}:
            assert sum(other == address for other, _ in there) <= limits.per_address


def test_addresses_are_forgotten() -> None:
    """The table of addresses holds only those that are connected."""
    connections = Connections(ConnectionLimits())
    for number in range(1000):
        place = connections.enter(str(number))
        assert place is not None
        place.leave()
    assert not connections._by_address  # noqa: SLF001 - what must not grow is seen nowhere else


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ""])
def test_listener_options(host: str) -> None:
    """Accepted connections inherit the options that find dead and stalled peers."""
    with make_listener(host, 0) as listener:
        listener.listen()
        with (
            socket.create_connection(("localhost", listener.getsockname()[1])),
            listener.accept()[0] as accepted,
        ):
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            # Linux doubles what is asked for
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 128 * 1024


def test_port_taken() -> None:
    """A port that is taken is an error that leaves no socket behind."""
    with make_listener("127.0.0.1", 0) as listener:
        listener.listen()
        with pytest.raises(OSError, match="in use"):
            make_listener("127.0.0.1", listener.getsockname()[1])
