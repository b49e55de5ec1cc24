"""Native answers: key order, omitted zeros, newlines."""

import re

from gpushare.sim import gojson
from gpushare.sim.asks import Ask
from gpushare.sim.records import Chat, Final, Generate, Piece

ASK = Ask(path="/api/chat", model="M")
FINAL = Final(
    reason="stop", total_ns=9, load_ns=8, prompt_tokens=7, prompt_ns=6, tokens=5, eval_ns=4, context=2
)
METRICS = (
    '"total_duration":9,"load_duration":8,"prompt_eval_count":7,'
    '"prompt_eval_duration":6,"eval_count":5,"eval_duration":4'
)


def without_time(data: bytes) -> str:
    """Returns the text with every valid timestamp replaced by T."""
    text = data.decode()
    return re.sub(r'"created_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"', '"created_at":T', text)


def test_a_chat_record() -> None:
    """One line, model name as asked, message before done."""
    (line,) = Chat(ASK).piece(Piece(text="Hi"))
    expected = '{"model":"M","created_at":T,"message":{"role":"assistant","content":"Hi"},"done":false}\n'
    assert without_time(line) == expected


def test_thinking_and_tool_calls() -> None:
    """They follow the content inside the message."""
    call = {"id": "call_1", "name": "f", "args": {"x": 1}}
    (line,) = Chat(ASK).piece(Piece(thinking="hm", calls=(call,)))
    assert (
        '"message":{"role":"assistant","content":"","thinking":"hm","tool_calls":'
        '[{"id":"call_1","function":{"index":0,"name":"f","arguments":{"x":1}}}]},"done":false'
    ) in line.decode()


def test_the_final_chat_record_ends_with_the_metrics() -> None:
    """Metrics are last in chat."""
    (line,) = Chat(ASK).final(FINAL)
    start = '{"model":"M","created_at":T,"message":{"role":"assistant","content":""},'
    assert without_time(line) == f'{start}"done":true,"done_reason":"stop",{METRICS}}}\n'


def test_the_final_generate_record_has_the_context_before_the_metrics() -> None:
    """The token ids come first and are absent with raw."""
    (line,) = Generate(ASK).final(FINAL)
    end = f'"done":true,"done_reason":"stop","context":[1000,1001],{METRICS}}}\n'
    assert without_time(line) == '{"model":"M","created_at":T,"response":"",' + end
    (raw,) = Generate(Ask(path="/api/generate", model="M", raw=True)).final(FINAL)
    assert b"context" not in raw


def test_zero_metrics_are_left_out_and_single_answers_have_no_newline() -> None:
    """The answer of a call that only loads has no timings and no newline."""
    whole = Chat(ASK).whole(Piece(), Final(reason="load"))
    assert whole.endswith(b'"done":true,"done_reason":"load"}')
    assert b"duration" not in whole


def test_a_failure_of_the_model_is_a_line_of_its_own() -> None:
    """Native streams keep the text of the error."""
    assert Chat(ASK).broken("boom") == [gojson.dump({"error": "boom"}) + b"\n"]
