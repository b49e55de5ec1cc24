"""The events of the live stream, as bytes."""

import json

from gpushare.web.pages import events


def test_an_event_is_its_fields() -> None:
    """Id, name and data, one to a line, and a blank line behind."""
    assert events.opening(2500) == b"retry: 2500\n\n"
    assert events.part("b1-7", "head", events.data("<h1>Free</h1>")) == (
        b"id: b1-7\nevent: part\ndata: head\ndata: <h1>Free</h1>\n\n"
    )
    assert events.state("b1-7", events.data("{}")) == b"id: b1-7\nevent: state\ndata: {}\n\n"
    assert events.bye("restart", 2.345) == b'event: bye\ndata: {"why":"restart","wait":2.3}\n\n'


def test_meta_is_one_line_of_json() -> None:
    """It says which ``rev`` it belongs to."""
    lines = events.meta("b1-7", {"now": 1.5, "say": None}).split(b"\n")
    assert lines[:2] == [b"id: b1-7", b"event: meta"]
    assert json.loads(lines[2].removeprefix(b"data: ")) == {"now": 1.5, "say": None, "rev": "b1-7"}
    assert lines[3:] == [b"", b""]


def test_data_is_one_line_whatever_it_is() -> None:
    """Every kind of line end that the stream knows becomes a space."""
    assert events.data("a\rb\nc\r\nd\n\nevent: bye") == b"data: a b c d event: bye\n"
