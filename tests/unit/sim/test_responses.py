"""The Responses dialect."""

import json

from gpushare.sim.asks import Ask
from gpushare.sim.records import Final, Piece
from gpushare.sim.responses import Responses

ASK = Ask(path="/v1/responses", model="m", body={"instructions": "be kind"})
FINAL = Final(reason="stop", prompt_tokens=7, tokens=3)
CALL = Piece(calls=({"id": "call_1", "name": "f", "args": {"x": 1}},))


def data(event: bytes) -> dict[str, object]:
    """Returns an event's payload."""
    value = json.loads(event.partition(b"data: ")[2])
    assert isinstance(value, dict)
    return value


def run(*pieces: Piece) -> list[bytes]:
    """Returns all events of a stream."""
    stream = Responses(ASK)
    return [*(event for piece in pieces for event in stream.piece(piece)), *stream.final(FINAL)]


def test_the_order_of_events() -> None:
    """Items open and close one after another, and the sequence numbers have no gap."""
    events = [data(event) for event in run(Piece(thinking="hm"), Piece(text="a"), Piece(text="b"))]
    assert [str(event["type"]).removeprefix("response.") for event in events] == [
        *["created", "in_progress"],
        *[
            "output_item.added",
            "reasoning_summary_text.delta",
            "reasoning_summary_text.done",
            "output_item.done",
        ],
        *["output_item.added", "content_part.added", "output_text.delta", "output_text.delta"],
        *["output_text.done", "content_part.done", "output_item.done", "completed"],
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


def test_keys_are_sorted_at_every_depth() -> None:
    """Payloads are Go maps."""

    def check(value: object) -> None:
        if isinstance(value, dict):
            assert list(value) == sorted(value)
            for one in value.values():
                check(one)
        if isinstance(value, list):
            for one in value:
                check(one)

    for event in run(Piece(text="a"), CALL):
        check(data(event))


def test_the_last_event_repeats_the_output_and_carries_the_usage_near_its_end() -> None:
    """The tail of the stream is where a reader of usage must look."""
    last = run(Piece(text="a"), Piece(text="b"))[-1]
    response = data(last)["response"]
    assert isinstance(response, dict)
    assert response["output"][0]["content"][0]["text"] == "ab"
    assert response["instructions"] == "be kind"
    assert last.endswith(
        b'"usage":{"input_tokens":7,"input_tokens_details":{"cached_tokens":0},"output_tokens":3,'
        b'"output_tokens_details":{"reasoning_tokens":0},"total_tokens":10}},'
        b'"sequence_number":9,"type":"response.completed"}\n\n'
    )


def test_tool_calls() -> None:
    """A call is an item of its own; the final output holds it."""
    events = [data(event) for event in run(CALL)]
    kinds = [str(event["type"]) for event in events]
    assert "response.function_call_arguments.done" in kinds
    response = events[-1]["response"]
    assert isinstance(response, dict)
    (item,) = response["output"]
    assert (item["name"], item["arguments"], item["call_id"]) == ("f", '{"x":1}', "call_1")


def test_a_single_answer_is_in_struct_order() -> None:
    """The object begins with id and object, not in sorted order, and ends in a newline."""
    whole = Responses(ASK).whole(Piece(text="a", thinking="hm"), FINAL)
    assert list(json.loads(whole))[:5] == ["id", "object", "created_at", "completed_at", "status"]
    assert [item["type"] for item in json.loads(whole)["output"]] == ["reasoning", "message"]
    assert whole.endswith(b"\n")


def test_a_failure_sends_nothing() -> None:
    """Ollama just ends the stream."""
    assert Responses(ASK).broken("boom") == []
