"""The route table and the taking apart of targets."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from gpushare.core.dialects import ENDPOINTS, dialect_of, find_endpoint, split_target
from gpushare.core.errors import GpushareError, MethodNotAllowed, UnknownEndpoint
from gpushare.core.model import Dialect, Framing, Kind, Lane

KEY = "gs_7f3a2c_" + "a" * 32
DIGEST = "sha256:" + "0123456789abcdef" * 4


def split(raw: str, *, key_in_path: bool = True) -> tuple[str, str | None]:
    """Returns path and key of a target."""
    target = split_target(raw, key_in_path=key_in_path)
    return target.path, target.key


@pytest.mark.parametrize(
    ("method", "path", "kind", "dialect"),
    [
        ("GET", "/", Kind.LIVE, Dialect.GPUSHARE),
        ("HEAD", "/", Kind.LIVE, Dialect.GPUSHARE),
        ("GET", "/api/version", Kind.PASSED, Dialect.OLLAMA),
        ("HEAD", "/api/tags", Kind.PASSED, Dialect.OLLAMA),
        ("GET", "/api/ps", Kind.PASSED, Dialect.OLLAMA),
        ("POST", "/api/show", Kind.PASSED, Dialect.OLLAMA),
        ("GET", "/v1/models", Kind.PASSED, Dialect.OPENAI),
        ("GET", "/v1/models/llama3.2:1b", Kind.PASSED, Dialect.OPENAI),
        ("POST", "/api/generate", Kind.QUEUED, Dialect.OLLAMA),
        ("POST", "/api/chat", Kind.QUEUED, Dialect.OLLAMA),
        ("POST", "/v1/chat/completions", Kind.QUEUED, Dialect.OPENAI),
        ("POST", "/v1/responses", Kind.QUEUED, Dialect.OPENAI),
        ("POST", "/v1/messages", Kind.QUEUED, Dialect.ANTHROPIC),
        ("POST", "/v1/audio/transcriptions", Kind.QUEUED, Dialect.OPENAI),
        ("POST", "/api/pull", Kind.ADMIN, Dialect.OLLAMA),
        ("DELETE", "/api/delete", Kind.ADMIN, Dialect.OLLAMA),
        ("HEAD", f"/api/blobs/{DIGEST}", Kind.ADMIN, Dialect.OLLAMA),
        ("POST", f"/api/blobs/{DIGEST}", Kind.ADMIN, Dialect.OLLAMA),
        ("POST", "/api/me", Kind.REFUSED, Dialect.OLLAMA),
        ("POST", "/api/experimental/web_fetch", Kind.REFUSED, Dialect.OLLAMA),
        ("DELETE", "/api/user/keys/abc", Kind.REFUSED, Dialect.OLLAMA),
    ],
)
def test_every_class_of_route_has_its_treatment(method: str, path: str, kind: Kind, dialect: Dialect) -> None:
    """A path of the table is found with its kind and dialect, and goes upstream as it is."""
    endpoint, target = find_endpoint(method, path)
    assert (endpoint.kind, endpoint.dialect, target) == (kind, dialect, path)


def test_streaming_defaults_follow_the_dialect() -> None:
    """Ollama's own routes stream unless told not to, the others the other way round, embeddings never."""
    by_path = {row.path: row for row in ENDPOINTS if row.kind is Kind.QUEUED}
    assert by_path["/api/chat"].streams is True
    assert by_path["/api/chat"].framing is Framing.NDJSON
    assert by_path["/v1/messages"].streams is False
    assert by_path["/v1/messages"].framing is Framing.SSE
    for path in ("/api/embed", "/api/embeddings", "/v1/embeddings"):
        assert (by_path[path].streams, by_path[path].lane) == (None, Lane.EMBED)


def test_only_lists_answer_without_a_key() -> None:
    """The rows open to anybody are exactly the lists that pickers ask for without a key."""
    rows = {row.path for row in ENDPOINTS if row.anonymous}
    assert rows == {"/api/version", "/api/tags", "/api/ps", "/v1/models"}
    assert all(row.kind is Kind.PASSED for row in ENDPOINTS if row.anonymous)


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/api",
        "/api/chat/",
        "/API/PULL",
        "/api/pull/",
        "/v1/messages/count_tokens",
        "/v1/images/generations",
        "/v1/models/",
        "/v1/models/a/b",
        "/api/blobs/sha256:short",
        "/api/blobs/" + DIGEST.upper(),
        "/v1/models/{model}",
    ],
)
def test_unknown_paths_do_not_exist(path: str) -> None:
    """What is not in the table is 404, whatever it looks like."""
    with pytest.raises(UnknownEndpoint):
        find_endpoint("POST", path)


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("/chat/completions", ". Put /v1 at the end of the base address."),
        ("/models", ". Put /v1 at the end of the base address."),
        ("/v1/v1/messages", ". Take /v1 off the end of the base address."),
        ("/v1/api/tags", ". Take /v1 off the end of the base address."),
        ("/api/api/chat", ". Take /api off the end of the base address."),
        ("/api/v1/chat/completions", ". Take /api off the end of the base address."),
        ("/v1/v1/messages/count_tokens", ""),
        ("/v1/", ""),
        ("/nope", ""),
    ],
)
def test_a_usual_wrong_address_is_told_apart(path: str, remedy: str) -> None:
    """Tools disagree on whether their base address ends in /v1; who got it wrong reads what to change."""
    with pytest.raises(UnknownEndpoint, match=f"^{re.escape(f'404 page not found{remedy}')}$"):
        find_endpoint("POST", path)


def test_a_wrong_method_names_the_right_ones() -> None:
    """A known path with another method is 405 and says which methods it has."""
    with pytest.raises(MethodNotAllowed) as caught:
        find_endpoint("GET", "/api/chat")
    assert caught.value.headers["Allow"] == "POST"
    with pytest.raises(MethodNotAllowed) as caught:
        find_endpoint("HEAD", "/api/ps")  # Ollama has it for GET alone
    assert caught.value.headers["Allow"] == "GET"
    with pytest.raises(MethodNotAllowed) as caught:
        find_endpoint("HEAD", "/v1/models")
    assert caught.value.headers["Allow"] == "GET"


@pytest.mark.parametrize("query", ["beta=true", "x=1&beta=true"])
def test_only_the_beta_flag_of_messages_goes_upstream(query: str) -> None:
    """The query stays behind, save the one flag Anthropic clients send to the one route that has it."""
    assert find_endpoint("POST", "/v1/messages", query=query)[1] == "/v1/messages?beta=true"
    assert find_endpoint("POST", "/v1/messages", query="beta=false&model=x")[1] == "/v1/messages"
    assert find_endpoint("POST", "/api/chat", query=query)[1] == "/api/chat"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("/api/chat", ("/api/chat", None)),
        ("//v1/chat/completions", ("/v1/chat/completions", None)),
        ("//api/chat", ("/api/chat", None)),
        ("/api/chat?model=x&stream=false", ("/api/chat", None)),
        ("/api/chat#frag", ("/api/chat", None)),
        (f"/k/{KEY}", ("/", KEY)),
        (f"/k/{KEY}/", ("/", KEY)),
        (f"/k/{KEY}/v1/models", ("/v1/models", KEY)),
        (f"/k/{KEY}//v1/models", ("/v1/models", KEY)),
    ],
)
def test_targets_are_taken_apart(raw: str, expected: tuple[str, str | None]) -> None:
    """Query and fragment go, one doubled slash is forgiven, the key segment becomes the key."""
    assert split(raw) == expected


@pytest.mark.parametrize(
    "raw",
    [
        "/api/%70ull",
        "/api/%2e%2e/api/pull",
        "/api/chat/../pull",
        "/api//pull",
        "///api/pull",
        "//nope",
        "/api\\pull",
        "/api/pull;x=1",
        "/api/pull%00",
        "/%61pi/pull",
        "/api%2fpull",
        "http://other.host/api/chat",
        "*",
        "api/chat",
        "",
        "/api/ch\u00e4t",
        "/api/chat\x7f",
        "/api/chat\n",
        "/k//api/chat",
        "/k/ollama/api/chat",
        f"/k/{KEY}/../x",
        f"/k/{KEY}///v1/models",
        f"/k/{KEY}%20/api/chat",
        f"/K/{KEY}/api/../chat",
    ],
)
def test_unusual_targets_are_unknown(raw: str) -> None:
    """Nothing is decoded or normalised: whatever is not a plain path is 404."""
    with pytest.raises(UnknownEndpoint):
        split_target(raw, key_in_path=True)


def test_the_key_segment_can_be_turned_off() -> None:
    """Without ``key_in_path`` the segment is an unknown path like any other."""
    with pytest.raises(UnknownEndpoint):
        split_target(f"/k/{KEY}/api/chat", key_in_path=False)
    assert split("/api/chat", key_in_path=False) == ("/api/chat", None)


def test_a_target_hides_its_key_when_printed() -> None:
    """Printing a target, as a traceback may, does not print the key."""
    target = split_target(f"/k/{KEY}/api/chat", key_in_path=True)
    assert KEY not in repr(target)
    assert KEY not in pretty_repr(target)


@given(
    st.text(max_size=60)
    | st.from_regex(r"/(k/gs_[a-z]{3}/)?/?(api|v1|[.%;\\])/?[a-z/.%]{0,12}", fullmatch=True)
)
def test_whatever_is_accepted_is_a_row_of_the_table(raw: str) -> None:
    """For any text, either an error of ours or a target whose upstream path the table itself spells."""
    dialect_of(raw)
    try:
        target = split_target(raw, key_in_path=True)
        endpoint, upstream = find_endpoint("POST", target.path)
    except GpushareError:
        return
    head = endpoint.path.partition("{")[0]
    assert upstream.startswith(head)
    assert "/" not in upstream.removeprefix(head)


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/api/nope", Dialect.OLLAMA),
        ("/api", Dialect.OLLAMA),
        ("/apiary", Dialect.GPUSHARE),
        ("/v1/nope", Dialect.OPENAI),
        ("/v1?x", Dialect.OPENAI),
        ("/v1/messages", Dialect.ANTHROPIC),
        ("/v1/messages/count_tokens", Dialect.ANTHROPIC),
        ("/v1/messagesx", Dialect.OPENAI),
        ("//v1/messages", Dialect.ANTHROPIC),
        (f"/k/{KEY}/v1/nope", Dialect.OPENAI),
        (f"/k/{KEY}", Dialect.GPUSHARE),
        ("/status", Dialect.GPUSHARE),
        ("", Dialect.GPUSHARE),
    ],
)
def test_errors_get_the_dialect_of_their_prefix(path: str, dialect: Dialect) -> None:
    """Unknown paths too have a dialect, so that their errors can be read by whoever asked."""
    assert dialect_of(path) is dialect
