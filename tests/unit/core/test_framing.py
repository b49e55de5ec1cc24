"""``core.framing``: whole records, however the network cut them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core.framing import RecordCutter
from gpushare.core.model import Framing

STREAMS = [Framing.NDJSON, Framing.SSE]
RECORD_END = {Framing.NDJSON: re.compile(rb"\n\Z"), Framing.SSE: re.compile(rb"(\A|\n)\r?\n\Z")}

# Few different bytes, so that every arrangement around a record's end comes up.
pieces = st.lists(st.text("ab\n\r", max_size=6).map(str.encode), max_size=12)


@given(pieces, st.sampled_from(list(Framing)))
def test_no_byte_is_changed_lost_or_reordered(parts: list[bytes], framing: Framing) -> None:
    """What comes out, and then the rest, is what went in."""
    cutter = RecordCutter(framing)
    out = b"".join([cutter.feed(part) for part in parts])
    assert out + cutter.rest() == b"".join(parts)


@given(pieces, st.sampled_from(STREAMS))
def test_the_result_does_not_depend_on_the_cuts(parts: list[bytes], framing: Framing) -> None:
    """Fed piece by piece or at once, the same bytes are released in all."""
    cutter, at_once = RecordCutter(framing), RecordCutter(framing)
    out = b"".join([cutter.feed(part) for part in parts])
    assert out == at_once.feed(b"".join(parts))


@given(pieces, st.sampled_from(STREAMS))
def test_only_whole_records_are_released(parts: list[bytes], framing: Framing) -> None:
    """After every feed, a record of our own could follow what was released."""
    cutter = RecordCutter(framing)
    out = b""
    for part in parts:
        ready = cutter.feed(part)
        out += ready
        assert not ready or RECORD_END[framing].search(out)


@given(pieces, st.sampled_from(STREAMS))
def test_nothing_whole_is_held_back(parts: list[bytes], framing: Framing) -> None:
    """The rest holds no record end besides a line end inside an event."""
    cutter = RecordCutter(framing)
    for part in parts:
        cutter.feed(part)
    assert (b"\n" if framing is Framing.NDJSON else b"\n\n") not in cutter.rest()


@pytest.mark.parametrize(
    ("framing", "record"),
    [(Framing.NDJSON, b'{"a":1}\n'), (Framing.SSE, b"data: {}\n\n"), (Framing.SINGLE, b"{")],
)
def test_a_whole_record_passes_without_a_copy(framing: Framing, record: bytes) -> None:
    """The way nearly every read takes hands the same object on."""
    assert RecordCutter(framing).feed(record) is record


def test_a_character_is_never_split() -> None:
    """A record cut inside a UTF-8 sequence is released whole."""
    text = '{"content":"💶"}\n'.encode()
    cutter = RecordCutter(Framing.NDJSON)
    assert [cutter.feed(text[:14]), cutter.feed(text[14:])] == [b"", text]


def test_events_with_carriage_returns_are_cut_at_their_blank_lines() -> None:
    """Both spellings of a blank line end an event, wherever the bytes are cut."""
    cutter = RecordCutter(Framing.SSE)
    released = [cutter.feed(bytes([byte])) for byte in b"data: 1\r\n\r\ndata: 2\n\n"]
    assert [ready for ready in released if ready] == [b"data: 1\r\n\r\n", b"data: 2\n\n"]


@pytest.mark.parametrize("framing", STREAMS)
def test_a_record_without_an_end_is_given_up(framing: Framing) -> None:
    """Beyond the limit the unfinished record is dropped and the fact is told; whole ones before it pass."""
    cutter = RecordCutter(framing, line_max=10)
    assert cutter.feed(b"data\n\n" + b"x" * 11) == b"data\n\n"
    assert cutter.too_long
    assert cutter.rest() == b""


def test_single_documents_have_no_limit() -> None:
    """A document passes as read, whatever its length."""
    cutter = RecordCutter(Framing.SINGLE, line_max=10)
    assert cutter.feed(b"x" * 100) == b"x" * 100
    assert not cutter.too_long
