"""How errors look over HTTP in each dialect."""

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core import errors
from gpushare.core.dialects import find_endpoint
from gpushare.core.errors import (
    BadJson,
    BodyTooLarge,
    GpushareError,
    Internal,
    KeyMissing,
    MethodNotAllowed,
    ModelUnknown,
    OllamaBroken,
    OllamaDown,
    OllamaSilent,
    PersonLimit,
    QueueFull,
    TooManyBadKeys,
    UnknownEndpoint,
    WaitedTooLong,
    render,
    render_event,
    spread_retry_s,
)
from gpushare.core.model import Dialect, Framing, Outcome

ARGUMENTS: dict[str, Any] = {
    "message": "Words.",
    "retry_after_s": 7.2,
    "limit": 32_000_000,
    "waiting": 8,
    "seconds": 150.0,
    "base_url": "http://atlas:11435",
    "host": "atlas",
    "name": "erin",
    "state": "expired on 2026-11-01",
    "model": "qwen3-coder:30b",
    "allowed": ("GET", "HEAD"),
    "estimate_s": 300.0,
    "limit_s": 240.0,
    "waited_s": 240.0,
    "ahead": 2,
    "what": "memory",
    "why": "connection refused",
    "outcome": Outcome.TIMEOUT_FIRST_BYTE,
    "request_id": "r_1",
}


def every_type() -> Iterator[type[GpushareError]]:
    """Yields each concrete error type of the module."""
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, GpushareError) and kind is not GpushareError:
            yield kind


def example(kind: type[GpushareError]) -> GpushareError:
    """Returns an instance with plausible arguments."""
    wanted = inspect.signature(kind).parameters.values()
    return kind(**{p.name: ARGUMENTS[p.name] for p in wanted if p.default is p.empty})


EXAMPLES = [pytest.param(example(kind), id=kind.__name__) for kind in every_type()]


def body(error: GpushareError, dialect: Dialect) -> dict[str, object]:
    """Returns the rendered error object."""
    decoded: dict[str, object] = json.loads(render(error, dialect, request_id="r_1").body)
    return decoded


@pytest.mark.parametrize("error", EXAMPLES)
def test_sentences_follow_the_house_form(error: GpushareError) -> None:
    """No excuses, no exclamation marks, no empty words, one line; a sentence of ours ends in a full stop."""
    assert not re.search(
        r"!|\n|please|oops|sorry|unfortunately|invalid request", error.message, re.IGNORECASE
    )
    ollamas = {"404 page not found", "405 method not allowed", "model 'qwen3-coder:30b' not found"}
    assert error.message in ollamas or re.search(r"[.\])]$|/connect$", error.message)


@pytest.mark.parametrize("error", EXAMPLES)
def test_no_refusal_says_overloaded(error: GpushareError) -> None:
    """One tool repeats a request for that word alone, whatever the status."""
    assert (
        error.status >= 500 or "overloaded" not in render(error, Dialect.OPENAI, request_id="r").body.decode()
    )


@pytest.mark.parametrize("error", EXAMPLES)
def test_every_error_has_the_shape_of_each_dialect(error: GpushareError) -> None:
    """Each dialect's clients find the text where their own server puts it."""
    assert body(error, Dialect.OLLAMA).keys() == {"error"}
    openai = body(error, Dialect.OPENAI)["error"]
    assert isinstance(openai, dict)
    assert openai.keys() == {"message", "type", "param", "code"}
    anthropic = body(error, Dialect.ANTHROPIC)
    assert anthropic["type"] == "error"
    assert anthropic["request_id"] == "r_1"
    assert openai["code"] == error.code
    assert body(error, Dialect.OLLAMA)["error"] == openai["message"]


@pytest.mark.parametrize("error", EXAMPLES)
def test_waiting_errors_say_for_how_long(error: GpushareError) -> None:
    """All 429 and 503 carry whole seconds from 1 to 30; nothing else does."""
    headers = render(error, Dialect.OPENAI, request_id="r_1").headers
    if error.status in {429, 503} and error.retry:
        seconds = int(headers["Retry-After"])
        assert 1 <= seconds <= 30
        assert headers["retry-after-ms"] == str(seconds * 1000)
    else:
        assert "Retry-After" not in headers


@pytest.mark.parametrize("error", EXAMPLES)
def test_what_would_be_in_vain_or_done_twice_is_not_repeated(error: GpushareError) -> None:
    """500, 504, a broken answer, a cancelled call and a bad key tell clients not to send the request again.

    A failed dial does not.
    """
    headers = render(error, Dialect.OPENAI, request_id="r_1").headers
    told = headers.get("x-should-retry") == "false"
    done = OllamaBroken | OllamaSilent | Internal | errors.Cancelled | errors.ClientSlow
    assert told is isinstance(error, done | errors.KeyProblem)


@pytest.mark.parametrize(
    ("error", "status", "code", "sentence"),
    [
        (
            KeyMissing("http://atlas:11435"),
            401,
            "key_missing",
            (
                'This GPU is shared and needs a key. Send it as "Authorization: Bearer gs_\u2026"; '
                "how for your tool: http://atlas:11435/connect"
            ),
        ),
        (QueueFull(64, 30.0), 429, "queue_full", "The queue is full (64 waiting). Try again in about 30 s."),
        (
            PersonLimit(8, 8, 4.1),
            429,
            "person_limit",
            "You already have 8 requests waiting; one person may have 8 here. Try again in about 5 s.",
        ),
        (
            PersonLimit(1, 1, 4.1),
            429,
            "person_limit",
            "You already have 1 request waiting; one person may have 1 here. Try again in about 5 s.",
        ),
        (
            WaitedTooLong(240.0, 2, 9.0),
            429,
            "waited_too_long",
            "Gave up after waiting 4 min; there were still 2 requests ahead. Try again in about 9 s.",
        ),
        (
            WaitedTooLong(50.0, 1, 9.0),
            429,
            "waited_too_long",
            "Gave up after waiting 50 s; there was still 1 request ahead. Try again in about 9 s.",
        ),
        (
            WaitedTooLong(1.0, 0, 9.0),
            429,
            "waited_too_long",
            "Gave up after waiting 1 s; this request was next. Try again in about 9 s.",
        ),
        (
            BodyTooLarge(32_000_000, 32_000_001),
            413,
            "body_too_large",
            "The request is 32.1 MB; the limit here is 32 MB. Pictures are the usual reason.",
        ),
        (
            BodyTooLarge(1_048_576),
            413,
            "body_too_large",
            "The request is too large; the limit here is 1.1 MB.",
        ),
        (
            OllamaDown("connection refused"),
            502,
            "ollama_down",
            "Ollama does not answer (connection refused). Nothing to fix on your side. [r_1]",
        ),
        (
            OllamaSilent(330.0, Outcome.TIMEOUT_FIRST_BYTE),
            504,
            "ollama_silent",
            (
                "Ollama sent nothing for 5 min 30 s and the request was ended. "
                "The model may not fit into GPU memory. [r_1]"
            ),
        ),
        (
            OllamaSilent(30.0, Outcome.TIMEOUT_IDLE),
            504,
            "ollama_silent",
            "Ollama sent nothing for 30 s and the request was ended. [r_1]",
        ),
        (
            OllamaSilent(900.0, Outcome.TIMEOUT_TOTAL),
            504,
            "ollama_silent",
            "The answer was not finished after 15 min and the request was ended. [r_1]",
        ),
        (ModelUnknown("nope"), 404, "model_unknown", "model 'nope' not found"),
    ],
)
def test_the_agreed_texts(error: GpushareError, status: int, code: str, sentence: str) -> None:
    """Status, code and words are what documentation and clients rely on."""
    rendered = render(error, Dialect.OLLAMA, request_id="r_1")
    assert (rendered.status, error.code) == (status, code)
    assert json.loads(rendered.body) == {"error": sentence}


def test_the_breaker_turns_a_refused_dial_into_a_wait() -> None:
    """While the breaker is open the status is 503 and says when to come back."""
    error = OllamaDown("connection refused", breaker_open=True, retry_after_s=3.0)
    rendered = render(error, Dialect.OPENAI, request_id="r_1")
    assert (rendered.status, rendered.headers["Retry-After"]) == (503, "3")
    assert error.outcome is Outcome.BREAKER_OPEN


def test_the_ollama_command_gets_403_for_401() -> None:
    """It throws the body of a 401 away, so it gets the same words with another status."""
    error = KeyMissing("http://atlas")
    plain = render(error, Dialect.OLLAMA, request_id="r_1")
    shown = render(error, Dialect.OLLAMA, request_id="r_1", hide_401=True)
    assert (plain.status, shown.status, plain.body) == (401, 403, shown.body)
    assert "WWW-Authenticate" in plain.headers
    assert "WWW-Authenticate" not in shown.headers
    assert render(ModelUnknown("m"), Dialect.OLLAMA, request_id="r", hide_401=True).status == 404


@pytest.mark.parametrize("error", [UnknownEndpoint(), MethodNotAllowed(("GET", "HEAD"))])
def test_routing_errors_are_text_on_pages_and_json_on_apis(error: GpushareError) -> None:
    """A browser gets a line of text, an API client its dialect."""
    page = render(error, Dialect.GPUSHARE, request_id="r_1")
    assert page.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert page.body == error.message.encode()
    assert body(error, Dialect.OLLAMA) == {"error": error.message}


def test_a_wrong_method_names_the_right_ones() -> None:
    """405 lists the methods in ``Allow``."""
    assert (
        render(MethodNotAllowed(("GET", "HEAD")), Dialect.OPENAI, request_id="r").headers["Allow"]
        == "GET, HEAD"
    )


def test_an_address_with_bad_keys_reads_what_its_client_is_told() -> None:
    """Sentence and header say the same."""
    rendered = render(TooManyBadKeys(24.2), Dialect.OLLAMA, request_id="r_1")
    assert "Try again in about 25 s." in rendered.body.decode()
    assert rendered.headers["Retry-After"] == "25"


@pytest.mark.parametrize(
    ("path", "framing", "start", "end"),
    [
        ("/api/chat", Framing.NDJSON, b'{"error":"', b'"}\n'),
        ("/v1/chat/completions", Framing.SSE, b'data: {"error":{"message":"', b"}}\n\n"),
        ("/v1/responses", Framing.SSE, b'event: response.failed\ndata: {"type":"response.f', b"}}\n\n"),
        ("/v1/messages", Framing.SSE, b'event: error\ndata: {"type":"error",', b"}\n\n"),
    ],
)
def test_errors_within_a_stream_are_one_record(path: str, framing: Framing, start: bytes, end: bytes) -> None:
    """After the first byte the error is a whole record of the stream's own kind, and no end mark follows."""
    endpoint, _ = find_endpoint("POST", path)
    record = render_event(BadJson("A line\u2028break \u00e4\n."), endpoint, framing, request_id="r_1")
    assert record.startswith(start)
    assert record.endswith(end)
    assert record.isascii()
    assert record.count(b"\n") == end.count(b"\n") + start.count(b"\n")
    assert b"[DONE]" not in record


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OllamaBroken("broke off"), "server_error"),
        (errors.Draining(), "server_error"),
        (errors.Cancelled(), "invalid_prompt"),
        (errors.KeyRevoked(), "invalid_prompt"),
    ],
)
def test_a_failed_response_is_what_agents_and_libraries_read(error: GpushareError, code: str) -> None:
    """Codex reads the error of the response, and one code ends its attempts; libraries raise the other."""
    endpoint, _ = find_endpoint("POST", "/v1/responses")
    record = render_event(error, endpoint, Framing.SSE, request_id="r_1").decode()
    event = json.loads(record.partition("data: ")[2])
    assert event["error"] == body(error, Dialect.OPENAI)["error"]
    assert event["type"] == "response.failed"
    assert event["response"]["status"] == "failed"
    assert event["response"]["error"] == {"code": code, "message": event["error"]["message"]}


@given(st.floats(0, 1e9), st.floats(0, 1, exclude_max=True))
def test_retry_times_are_bounded_and_spread(base_s: float, jitter: float) -> None:
    """Any base gives whole seconds from 1 to 30, no earlier than 0.8 of a base within that range."""
    seconds = spread_retry_s(base_s, jitter)
    assert 1 <= seconds <= 30
    assert seconds >= min(30.0, 0.8 * base_s)


def test_retry_times_differ_with_the_jitter() -> None:
    """Clients refused together come back apart."""
    assert {spread_retry_s(10.0, jitter / 10) for jitter in range(10)} == {8, 9, 10, 11, 12, 13}
