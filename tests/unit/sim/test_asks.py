"""Bodies as Ollama reads them."""

import json

import pytest

from gpushare.sim.asks import BadAsk, octets, read_ask, tokens_of


def body(**fields: object) -> bytes:
    """Returns a JSON body."""
    return json.dumps(fields).encode()


USER = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("path", "data", "text"),
    [
        ("/api/chat", b"", "missing request body"),
        ("/v1/chat/completions", b"", "EOF"),
        ("/api/chat", b'{"model"', "unexpected EOF"),
        ("/api/chat", b"nonsense", "invalid character 'n' looking for beginning of value"),
        ("/api/chat", b"[]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
        ("/api/chat", b'{"model":NaN}', "invalid character"),
        ("/api/embed", body(model="m", input=[1, 2]), "invalid input type"),
        ("/api/chat", body(model="m", keep_alive="300"), 'time: missing unit in duration "300"'),
        ("/v1/chat/completions", body(model="m"), "[] is too short - 'messages'"),
        ("/v1/embeddings", body(model="m"), "invalid input"),
        ("/v1/messages", body(model="m", messages=USER), "max_tokens is required and must be positive"),
        ("/v1/messages", body(max_tokens=1, messages=USER), "model is required"),
        ("/v1/messages", body(model="m", max_tokens=1), "messages is required"),
    ],
)
def test_refused_bodies_have_go_s_text(path: str, data: bytes, text: str) -> None:
    """Each malformed body is a 400 with the text Ollama gives."""
    with pytest.raises(BadAsk) as caught:
        read_ask(path, data)
    assert caught.value.status == 400
    assert text in caught.value.text


def test_keys_are_read_without_regard_to_case_and_the_last_wins() -> None:
    """Go matches keys case-insensitively, which is what makes such bodies dangerous to a gateway."""
    assert read_ask("/api/chat", b'{"model":"small","MODEL":"huge"}').model == "huge"


def test_what_follows_the_first_value_is_not_read() -> None:
    """Go's decoder stops after one value."""
    assert read_ask("/api/chat", b'{"model":"m"} trailing').model == "m"


@pytest.mark.parametrize(
    ("path", "streams"),
    [("/api/chat", True), ("/api/generate", True), ("/v1/chat/completions", False), ("/v1/responses", False)],
)
def test_the_default_of_stream_depends_on_the_dialect(path: str, streams: bool) -> None:  # noqa: FBT001
    """Native routes stream unless told not to, the others only when told to."""
    assert read_ask(path, body(model="m", messages=USER, input="x")).stream is streams


def test_text_is_found_in_strings_and_in_parts() -> None:
    """The prompt is the text of all messages, whichever form their content has."""
    parts = [{"type": "text", "text": "two"}, {"type": "image_url", "image_url": "data:"}]
    messages = [{"role": "system", "content": "one"}, {"role": "user", "content": parts}]
    assert read_ask("/v1/chat/completions", body(model="m", messages=messages)).text == "one\ntwo"


def test_the_limit_is_each_dialect_s_own_field() -> None:
    """num_predict, max_tokens and max_output_tokens bound the answer; negative means no bound."""
    assert read_ask("/api/generate", body(model="m", options={"num_predict": 5})).limit == 5
    assert read_ask("/api/generate", body(model="m", options={"num_predict": -1})).limit == 0
    assert read_ask("/v1/completions", body(model="m", prompt="x", max_tokens=6)).limit == 6
    assert read_ask("/v1/responses", body(model="m", input="x", max_output_tokens=7)).limit == 7


def test_half_a_surrogate_pair_counts_as_a_character() -> None:
    """A tool may have cut an emoji in two; Go reads on."""
    assert octets("a\ud83d") == b"a?"
    assert tokens_of("\ud83d" * 8) == 2
