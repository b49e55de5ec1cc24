"""``core.answers``: what of an answer's head is acceptable and what passes."""

import pytest

from gpushare.core.answers import is_busy, objection, passed_headers
from gpushare.core.model import Call, Dialect, Endpoint, Framing, Kind, Lane


def call(kind: Kind = Kind.QUEUED, framing: Framing = Framing.NDJSON, *, multipart: bool = False) -> Call:
    """Returns a call of the given nature."""
    endpoint = Endpoint(
        method="POST", path="/api/chat", dialect=Dialect.OLLAMA, kind=kind, multipart=multipart
    )
    return Call(
        endpoint=endpoint,
        target="/api/chat",
        body=b"",
        content_type="",
        model="m",
        framing=framing,
        lane=Lane.GENERATE,
    )


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "application/x-ndjson", "Text/Event-Stream"],
)
def test_every_type_of_the_api_is_accepted(content_type: str) -> None:
    """Some routes send another known type than their framing, so all known ones are right."""
    assert objection(call(), 200, {"content-type": content_type}) is None


@pytest.mark.parametrize("status", [101, 204, 206, 301, 302, 304, 307])
def test_a_status_that_is_no_answer_is_refused(status: int) -> None:
    """Redirects are not followed, upgrades and parts of answers were not asked for."""
    assert objection(call(), status, {"content-type": "application/json"}) is not None


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/html"},
        {"content-type": "text/plain"},
        {"content-type": ""},
        {},
        {"content-type": "application/json; x=\x7f"},
        {"content-type": "application/json; x=ä"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
def test_what_is_not_the_api_is_refused(headers: dict[str, str]) -> None:
    """Web pages, unnamed bodies, compressed ones and headers with odd characters never reach a client."""
    assert objection(call(), 200, headers) is not None


def test_a_transcription_may_be_plain_text() -> None:
    """The one route that answers in text is the one that takes a form."""
    assert objection(call(multipart=True), 200, {"content-type": "text/plain"}) is None


def test_a_change_of_the_model_store_needs_no_body() -> None:
    """Copying and deleting answer 200 and nothing else."""
    assert objection(call(Kind.ADMIN), 200, {}) is None


def test_only_named_headers_pass() -> None:
    """Whatever else Ollama sends stays here."""
    sent = {"content-type": "application/x-ndjson", "set-cookie": "a=b", "server": "x", "location": "/"}
    passed = passed_headers(call(), sent)
    assert passed == {"Content-Type": "application/x-ndjson", "X-Accel-Buffering": "no"}


def test_single_documents_may_be_buffered_by_proxies() -> None:
    """Only streams ask front proxies not to buffer; Ollama's own cache rule passes."""
    passed = passed_headers(call(framing=Framing.SINGLE), {"cache-control": "no-cache"})
    assert passed == {"Cache-Control": "no-cache"}


def test_busy_is_told_from_other_503() -> None:
    """Only Ollama's own text for a full queue counts."""
    busy = b'{"error":"server busy, please try again.  maximum pending requests exceeded"}'
    assert is_busy(503, busy)
    assert not is_busy(500, busy)
    assert not is_busy(503, b'{"error":"account unavailable"}')


def test_an_odd_content_type_does_not_pass() -> None:
    """What is not a known type is not repeated to the client, not even with an error."""
    assert "Content-Type" not in passed_headers(call(), {"content-type": "text/html"})
