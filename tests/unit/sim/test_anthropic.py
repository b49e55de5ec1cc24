"""The Anthropic dialect."""

import json
import re

import pytest

from gpushare.sim import anthropic
from gpushare.sim.anthropic import Messages
from gpushare.sim.asks import Ask
from gpushare.sim.records import Final, Piece

ASK = Ask(path="/v1/messages", model="m", text="x" * 40)
FINAL = Final(reason="stop", prompt_tokens=7, tokens=3)
CALL = Piece(calls=({"id": "call_1", "name": "f", "args": {"x": 1}},))


def names(events: list[bytes]) -> list[str]:
    """Returns the events' names."""
    return [event.split(b"\n")[0].removeprefix(b"event: ").decode() for event in events]


def data(event: bytes) -> dict[str, object]:
    """Returns an event's payload."""
    value = json.loads(event.partition(b"data: ")[2])
    assert isinstance(value, dict)
    return value


def test_the_order_of_events() -> None:
    """Each block is opened, fed and closed; the message opens and closes once."""
    stream = Messages(ASK)
    pieces = (Piece(thinking="hm"), Piece(text="a"), Piece(text="b"), CALL)
    events = [event for piece in pieces for event in stream.piece(piece)] + stream.final(FINAL)
    assert names(events) == [
        "message_start",
        *["content_block_start", "content_block_delta", "content_block_stop"],
        *["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"],
        *["content_block_start", "content_block_delta", "content_block_stop"],
        *["message_delta", "message_stop"],
    ]
    assert [data(event)["index"] for event in events if b'"index"' in event] == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert data(events[-2])["delta"] == {"stop_reason": "tool_use"}


def test_the_start_estimates_and_the_end_counts() -> None:
    """message_start has a quarter of the text's length, message_delta the true counts."""
    stream = Messages(ASK)
    events = [*stream.piece(Piece(text="a")), *stream.final(FINAL)]
    assert b'"usage":{"input_tokens":10,"output_tokens":0}' in events[0]
    assert events[-2] == (
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
        b'"usage":{"input_tokens":7,"output_tokens":3}}\n\n'
    )
    assert events[-1] == b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def test_a_single_answer() -> None:
    """Blocks in order, then the reason and the counts, and a newline."""
    whole = Messages(ASK).whole(Piece(text="a", thinking="hm", calls=CALL.calls), FINAL)
    assert [block["type"] for block in json.loads(whole)["content"]] == ["thinking", "text", "tool_use"]
    assert whole.endswith(b'"stop_reason":"tool_use","usage":{"input_tokens":7,"output_tokens":3}}\n')


@pytest.mark.parametrize(
    ("reason", "word"), [("stop", "end_turn"), ("length", "max_tokens"), ("other", "stop_sequence")]
)
def test_reasons(reason: str, word: str) -> None:
    """Each done_reason has its stop_reason."""
    assert word.encode() in Messages(ASK).final(Final(reason=reason))[-2]


def test_a_failure_sends_nothing() -> None:
    """Ollama just ends the stream."""
    assert Messages(ASK).broken("boom") == []


def test_the_error_object() -> None:
    """The type follows the status, the request id is 24 hex digits."""
    error = anthropic.error(503, "busy")
    assert error["error"] == {"type": "overloaded_error", "message": "busy"}
    assert re.fullmatch(r"req_[0-9a-f]{24}", str(error["request_id"]))
