"""The OpenAI dialect."""

import json

import pytest

from gpushare.sim import openai
from gpushare.sim.asks import Ask
from gpushare.sim.openai import ChatCompletions, Completions
from gpushare.sim.records import Final, Piece

FINAL = Final(reason="stop", prompt_tokens=7, tokens=3)
HEAD = (
    'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":5,"model":"m",'
    '"system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":'
)
CALL = Piece(calls=({"id": "call_1", "name": "f", "args": {"x": "<"}},))


def chat(*, usage: bool = False) -> ChatCompletions:
    """Returns a writer with a fixed id and time."""
    return ChatCompletions(Ask(path="/v1/chat/completions", model="m", usage=usage), 1, created=5)


def test_chunks_and_end() -> None:
    """The role is in the first chunk only, the finish reason in a chunk of its own, then the end mark."""
    stream = chat()
    frames = [*stream.piece(Piece(text="Hi")), *stream.piece(Piece(thinking="hm")), *stream.final(FINAL)]
    assert [frame.decode() for frame in frames] == [
        HEAD + '{"role":"assistant","content":"Hi"},"finish_reason":null}]}\n\n',
        HEAD + '{"reasoning":"hm"},"finish_reason":null}]}\n\n',
        HEAD + '{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
    ]


def test_usage_comes_in_a_chunk_without_choices_when_asked_for() -> None:
    """The usage chunk is the last but one frame and its usage the last key."""
    (end,) = chat(usage=True).final(FINAL)
    usage = '"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}'
    assert end.decode().endswith(f"{usage}\n\ndata: [DONE]\n\n")


def test_tool_calls_carry_their_arguments_as_text() -> None:
    """Arguments are a JSON string, escaped as Go does, and change the finish reason."""
    stream = chat()
    (frame,) = stream.piece(CALL)
    (call,) = json.loads(frame[6:])["choices"][0]["delta"]["tool_calls"]
    assert call["function"] == {"name": "f", "arguments": '{"x":"\\u003c"}'}
    assert b'"finish_reason":"tool_calls"' in stream.final(FINAL)[0]


def test_a_single_answer_ends_in_a_newline() -> None:
    """Usage is the last key of the object."""
    whole = chat().whole(Piece(text="Hi"), FINAL)
    assert whole.endswith(b'"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}\n')
    assert json.loads(whole)["choices"][0]["message"] == {"role": "assistant", "content": "Hi"}


def test_completions_repeat_a_zero_usage_when_asked_for() -> None:
    """Every chunk has a zero usage; only the last has the true one."""
    stream = Completions(Ask(path="/v1/completions", model="m", usage=True), 1, created=5)
    (first,) = stream.piece(Piece(text="Hi"))
    (end,) = stream.final(FINAL)
    finish, usage, done, _ = end.split(b"\n\n")
    assert json.loads(first[6:])["usage"]["total_tokens"] == 0
    assert json.loads(finish[6:])["choices"][0] == {"text": "", "index": 0, "finish_reason": "stop"}
    assert json.loads(usage[6:])["usage"]["total_tokens"] == 10
    assert done == b"data: [DONE]"


@pytest.mark.parametrize("cls", [ChatCompletions, Completions])
def test_a_failure_loses_its_text(cls: type[ChatCompletions] | type[Completions]) -> None:
    """Ollama sends one more ordinary chunk with an empty model, without the text of the error."""
    (frame,) = cls(Ask(path="/v1/completions", model="m"), 1).broken("boom")
    assert b"boom" not in frame
    assert json.loads(frame[6:])["model"] == ""


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (404, "not_found_error"), (500, "api_error")]
)
def test_error_types_follow_the_status(status: int, kind: str) -> None:
    """The error object has four keys; code and param are null."""
    error = {"message": "x", "type": kind, "param": None, "code": None}
    assert openai.error(status, "x") == {"error": error}
