import json
from contextlib import closing
from itertools import islice

import pytest

from gpushare.cli.client import Server
from gpushare.cli.feed import EVENTS, STATUS, Heard, Lost, follow
from gpushare.cli.terminal import Failure

from .conftest import Gateway
from .test_status import BODY, DOCUMENT


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between two tries."""
    monkeypatch.setattr("gpushare.cli.feed.time.sleep", lambda _seconds: None)


def server(gateway: Gateway) -> Server:
    """The gateway as a command reaches it."""
    return Server(url=gateway.url, key="", source="test")


def heard_of(gateway: Gateway, count: int) -> list[Heard | Lost]:
    """Returns the first things that a feed tells."""
    with closing(follow(server(gateway), interval_s=1)) as feed:
        return list(islice(feed, count))


def stream(*events: tuple[str, str]) -> tuple[int, bytes]:
    """An answer with these events, as a gateway writes them."""
    lines = [f"id: 1\nevent: {name}\ndata: {data}\n\n" for name, data in events]
    return 200, ("retry: 2500\n\n: a comment\n\n" + "".join(lines)).encode()


def state(**changes: object) -> tuple[str, str]:
    """A document as an event."""
    return "state", json.dumps(DOCUMENT | changes)


def test_the_stream_is_read_as_it_comes(gateway: Gateway) -> None:
    """Every document once; other events are not for us, and a stream that ends is opened again."""
    gateway.answer(EVENTS, stream(state(host="a"), ("meta", "{}"), state(host="b")), stream(state(host="c")))
    heard = heard_of(gateway, 4)
    assert [one.document.host for one in heard if isinstance(one, Heard)] == ["a", "b", "c"]
    assert [path for _, path, _ in gateway.asked] == [EVENTS, EVENTS]


@pytest.mark.parametrize("status", [404, 503])
def test_without_a_stream_it_asks_again_and_again(gateway: Gateway, status: int) -> None:
    """An older gateway has none, and a busy one none free."""
    gateway.answer(EVENTS, (status, b"{}"))
    gateway.answer(STATUS, (200, BODY))
    heard = heard_of(gateway, 3)
    assert [one.body for one in heard if isinstance(one, Heard)] == [BODY] * 3


def test_a_lost_connection_is_told_and_tried_again(gateway: Gateway) -> None:
    """Tries are counted until something is heard; the wait between two grows and is spread."""
    bad = (502, b"<html>")
    gateway.answer(EVENTS, bad, bad, bad, stream(state()), bad, stream(state()))
    events = heard_of(gateway, 7)
    lost = [event for event in events if isinstance(event, Lost)]
    assert [event.tries for event in lost] == [1, 2, 3, 1, 2]
    assert [round(event.wait_s / 2 ** (event.tries - 1)) for event in lost] == [1, 1, 1, 1, 1]
    assert "502" in lost[0].failure.message
    assert [isinstance(event, Heard) for event in events] == [False, False, False, True, False, False, True]


def test_it_is_tried_for_ever(gateway: Gateway) -> None:
    """Hours later too: the number of tries only grows, the wait does not."""
    gateway.answer(EVENTS, (502, b""))
    lost = heard_of(gateway, 1030)
    assert isinstance(lost[-1], Lost)
    assert lost[-1].tries == 1030


def test_a_key_that_has_ended_ends_the_feed(gateway: Gateway) -> None:
    """Whether the stream says so or the next request does."""
    gateway.answer(EVENTS, stream(state(), ("bye", '{"why":"signed-out","wait":5}')))
    feed = follow(server(gateway), interval_s=1)
    assert isinstance(next(feed), Heard)
    with pytest.raises(Failure, match="the key has ended"):
        next(feed)
    gateway.answer(EVENTS, (401, b"{}"))
    with pytest.raises(Failure, match="refused"):
        next(follow(server(gateway), interval_s=1))


def test_a_restart_is_followed(gateway: Gateway) -> None:
    """The server says good-bye, and is asked again."""
    gateway.answer(EVENTS, stream(state(), ("bye", '{"why":"restart","wait":5}')), stream(state(host="new")))
    _, lost, heard = heard_of(gateway, 3)
    assert isinstance(lost, Lost)
    assert "ended the connection" in lost.failure.message
    assert isinstance(heard, Heard)
    assert heard.document.host == "new"
