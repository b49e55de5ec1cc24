"""From a request body to a classified call."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core.body import FIELDS, OPTIONS, read_call
from gpushare.core.dialects import ENDPOINTS, find_endpoint
from gpushare.core.errors import BadJson, Denied, GpushareError, InvalidRequest, UnsupportedMedia
from gpushare.core.model import Call, Endpoint, Framing, Intent, Kind, Lane
from tests.turns import at_once


def read(
    path: str,
    body: bytes | dict[str, object],
    *,
    content_type: str = "",
    encoding: str = "",
    method: str = "POST",
) -> Call:
    """Returns the call a request becomes."""
    endpoint, target = find_endpoint(method, path)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return at_once(read_call(endpoint, target, raw, content_type=content_type, content_encoding=encoding))


CHAT: dict[str, object] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}

OTHER_FORM = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n'


@pytest.mark.parametrize(
    ("path", "stream", "framing"),
    [
        ("/api/chat", None, Framing.NDJSON),
        ("/api/chat", True, Framing.NDJSON),
        ("/api/chat", False, Framing.SINGLE),
        ("/v1/chat/completions", None, Framing.SINGLE),
        ("/v1/chat/completions", True, Framing.SSE),
        ("/v1/messages", True, Framing.SSE),
        ("/v1/responses", False, Framing.SINGLE),
        ("/api/embed", True, Framing.SINGLE),
    ],
)
def test_framing_follows_route_and_stream(path: str, *, stream: bool | None, framing: Framing) -> None:
    """The route's default holds until the body says otherwise; null says nothing."""
    assert read(path, {**CHAT, "input": "x", "stream": stream}).framing is framing


def test_the_body_passes_unchanged() -> None:
    """The bytes that go upstream are the client's own, spaces and escapes included."""
    body = b' {"model" : "Llama3.2","messages":[{"content":"\\u2028\\u003c"}], "x":1e3}\n'
    call = read("/api/chat", body, content_type="application/x-www-form-urlencoded")
    assert call.body is body
    assert (call.model, call.asked) == ("llama3.2:latest", "Llama3.2")
    assert (call.target, call.content_type, call.lane) == ("/api/chat", "application/json", Lane.GENERATE)


@pytest.mark.parametrize(
    ("path", "body", "intent"),
    [
        ("/api/generate", {"model": "m", "prompt": "x"}, Intent.GENERATE),
        ("/api/generate", {"model": "m", "prompt": "x", "keep_alive": 0}, Intent.GENERATE),
        ("/api/generate", {"model": "m"}, Intent.LOAD),
        ("/api/generate", {"model": "m", "prompt": None}, Intent.LOAD),
        ("/api/generate", {"model": "m", "prompt": "", "images": ["aa"]}, Intent.LOAD),
        ("/api/generate", {"model": "m", "keep_alive": -1}, Intent.LOAD),
        ("/api/generate", {"model": "m", "keep_alive": "-1s"}, Intent.LOAD),
        ("/api/generate", {"model": "m", "keep_alive": "5m"}, Intent.LOAD),
        ("/api/generate", {"model": "m", "keep_alive": 0}, Intent.UNLOAD),
        ("/api/chat", {"model": "m"}, Intent.LOAD),
        ("/api/chat", {"model": "m", "messages": []}, Intent.LOAD),
        ("/api/chat", {"model": "m", "messages": [], "keep_alive": "0s"}, Intent.UNLOAD),
        ("/api/chat", CHAT, Intent.GENERATE),
        ("/api/embed", {"model": "m", "input": []}, Intent.LOAD),
        ("/api/embed", {"model": "m", "input": ["a"], "keep_alive": 0}, Intent.GENERATE),
        ("/api/embed", {"model": "m", "input": "", "keep_alive": 0}, Intent.LOAD),
        ("/api/embeddings", {"model": "m", "prompt": ""}, Intent.LOAD),
        ("/v1/completions", {"model": "m", "prompt": "", "keep_alive": 0}, Intent.LOAD),
        ("/v1/chat/completions", {"model": "m", "messages": []}, Intent.GENERATE),
    ],
)
def test_loading_and_unloading_are_told_from_work(path: str, body: dict[str, object], intent: Intent) -> None:
    """Without content a call loads; Ollama's own two routes unload with a keep-alive of nothing."""
    assert read(path, body).intent is intent


@pytest.mark.parametrize(
    "keep_alive",
    [
        "0",
        "0.0",
        "-0",
        "0e9",
        '"0"',
        '"0s"',
        '"0m"',
        '"0h0m0.0s"',
        '"-0s"',
        '"+0"',
        '"1ns"',
        '"0.1us"',
        "0.5",
    ],
)
def test_every_spelling_of_at_once_unloads(keep_alive: str) -> None:
    """Numbers and Go durations that come to nothing, or to less than a second, are the unload form."""
    body = b'{"model":"m","keep_alive":' + keep_alive.encode() + b"}"
    assert read("/api/generate", body).intent is Intent.UNLOAD


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_a_load_is_answered_by_one_document(path: str) -> None:
    """Ollama answers loads and rendered prompts with a single object even when asked to stream."""
    assert read(path, {"model": "m", "stream": True}).framing is Framing.SINGLE
    debug = {**CHAT, "prompt": "x", "stream": True, "_debug_render_only": True}
    assert read(path, debug).framing is Framing.SINGLE


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("model", ["a"], "model.* text"),
        ("model", 1, "model.* text"),
        ("model", "", "model is required"),
        ("model", None, "model is required"),
        ("model", "a" * 10_240, "model name"),
        ("model", "a/../b", "model name"),
        ("model", "a\nb", "model name"),
        ("model", "\u202ea", "model name"),
        ("stream", "false", "stream.* true or false"),
        ("stream", 0, "stream"),
        ("messages", {}, "messages.* list"),
        ("messages", "hi", "messages"),
        ("options", [], "options.* object"),
        ("options", "x", "options"),
        ("options", {"NUM_CTX": 1}, "num_ctx"),
        ("keep_alive", True, "keep_alive"),
        ("keep_alive", [], "keep_alive"),
        ("keep_alive", "300", "keep_alive"),
        ("keep_alive", "", "keep_alive"),
        ("keep_alive", "5 m", "keep_alive"),
        ("keep_alive", "1" * 100 + "s", "keep_alive"),
        ("_debug_render_only", "yes", "_debug_render_only"),
    ],
)
def test_wrong_values_are_named(field: str, value: object, words: str) -> None:
    """A wrong type in a field that decides something is 400 and names the field."""
    with pytest.raises(InvalidRequest, match=words):
        read("/api/chat", {**CHAT, field: value})


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"9" * 10_000, b"0." + b"1" * 10_000])
@pytest.mark.parametrize("place", [b'"seed":%s', b'"options":{"seed":%s}', b'"keep_alive":%s'])
def test_numbers_out_of_range_are_refused(number: bytes, place: bytes) -> None:
    """No number that would become infinite, or take long to read, passes where it is looked at."""
    with pytest.raises(InvalidRequest, match="out of range"):
        read("/api/chat", b'{"model":"m","messages":[],' + place % number + b"}")


def test_repeated_options_are_refused() -> None:
    """The last of two equal options would win in Ollama, so neither may pass."""
    with pytest.raises(InvalidRequest, match="num_ctx"):
        read("/api/chat", b'{"model":"m","options":{"num_ctx":1,"num_ctx":2}}')


def test_fields_a_dialect_does_not_read_are_left_alone() -> None:
    """On the compatible routes Ollama reads no options and no keep-alive, so their values are free."""
    call = read("/v1/chat/completions", {**CHAT, "options": [], "keep_alive": "whenever"})
    assert call.intent is Intent.GENERATE


@pytest.mark.parametrize("body", [b"", b" \n"])
def test_an_empty_body_gets_ollamas_words(body: bytes) -> None:
    """Clients of Ollama know its text for a missing body."""
    with pytest.raises(BadJson, match=r"^missing request body$"):
        read("/api/chat", body)
    with pytest.raises(BadJson, match="empty"):
        read("/v1/chat/completions", body)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "identity, gzip", "GZIP"])
def test_compressed_bodies_are_refused(encoding: str) -> None:
    """Nothing is decompressed and nothing unread is forwarded."""
    with pytest.raises(UnsupportedMedia) as caught:
        read("/api/chat", CHAT, encoding=encoding)
    assert caught.value.status == 415
    assert read("/api/chat", CHAT, encoding=" Identity ").model == "m:latest"


def test_codex_is_told_how_to_turn_compression_off() -> None:
    """The one client that compresses by itself gets the name of its setting."""
    with pytest.raises(UnsupportedMedia, match="enable_request_compression = false"):
        read("/v1/responses", b"\x28\xb5\x2f\xfd", encoding="zstd")


@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=x", " Multipart/mixed"])
def test_forms_are_refused_where_json_is_needed(content_type: str) -> None:
    """A form on a JSON route is 415, whatever is in it."""
    with pytest.raises(UnsupportedMedia):
        read("/api/chat", CHAT, content_type=content_type)


def test_show_takes_the_old_name_of_its_field() -> None:
    """Old clients ask for a model's details by ``name``; routes that generate know only ``model``."""
    assert read("/api/show", {"name": "M"}).model == "m:latest"
    assert read("/api/show", {"model": "a", "name": "b"}).model == "a:latest"
    with pytest.raises(InvalidRequest, match="model is required"):
        read("/api/show", {})
    with pytest.raises(InvalidRequest, match="model is required"):
        read("/api/chat", {"name": "m", "messages": [1]})


def test_a_model_in_the_path_is_the_calls_model() -> None:
    """One entry of the OpenAI list names its model in the address; lists name none."""
    assert read("/v1/models/M:7b", b"ignored", method="GET").model == "m:7b"
    call = read("/api/tags", b"ignored", method="GET")
    assert (call.model, call.body, call.framing) == ("", b"", Framing.SINGLE)


def test_admin_routes_need_no_model_and_stream() -> None:
    """Downloads report their progress as a stream; copies name two models and no ``model``."""
    assert read("/api/pull", {"model": "m"}).framing is Framing.NDJSON
    assert read("/api/pull", {"model": "m", "stream": False}).framing is Framing.SINGLE
    assert read("/api/copy", {"source": "a", "destination": "b"}).model == ""


def test_downloads_without_certificate_checks_are_denied() -> None:
    """An admin's key cannot make the server fetch from an unverified address."""
    assert read("/api/pull", {"model": "m", "insecure": False}).model == "m:latest"
    with pytest.raises(Denied):
        read("/api/pull", {"model": "m", "insecure": True})


def test_account_routes_may_come_without_a_body() -> None:
    """Where the configuration opens them, they are called with nothing and with JSON."""
    assert read("/api/me", b"").body == b""
    assert read("/api/experimental/web_search", {"query": "x"}).model == ""


@pytest.mark.parametrize(
    ("tools", "offered"),
    [
        ([{"type": "web_search_20250305", "name": "web_search"}], True),
        ([{"type": "function"}, {"type": "web_search"}], True),
        ([{"TYPE": "web_search"}], True),
        ([{"type": "function", "name": "web_search"}], False),
        ([{"name": "Bash", "description": "never web_search"}], False),
        ([], False),
        (None, False),
        ("web_search", False),
        ([["web_search"]], False),
    ],
)
def test_ollamas_own_web_search_is_seen(tools: object, *, offered: bool) -> None:
    """A tool that makes Ollama search by itself is told from a function of that name."""
    for path in ("/v1/messages", "/v1/responses"):
        assert read(path, {**CHAT, "tools": tools}).web_search is offered
    assert not read("/api/chat", {**CHAT, "tools": tools}).web_search


def test_an_escaped_web_search_is_seen() -> None:
    """Spelling the word with escapes does not hide it."""
    body = b'{"model":"m","messages":[1],"tools":[{"ty\\u0070e":"web\\u005fsearch"}]}'
    assert read("/v1/messages", body).web_search


def test_a_form_passes_with_its_model_read() -> None:
    """A transcription is forwarded byte for byte with its boundary, and queued for its model."""
    part = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nWhisper\r\n--b--\r\n'
    call = read("/v1/audio/transcriptions", part, content_type="multipart/form-data; boundary=b")
    assert (call.body, call.model, call.framing) == (part, "whisper:latest", Framing.SINGLE)
    assert call.content_type == 'multipart/form-data; boundary="b"'


@pytest.mark.parametrize(
    ("content_type", "error"),
    [("application/json", UnsupportedMedia), ("", UnsupportedMedia), ("multipart/form-data", InvalidRequest)],
)
def test_a_transcription_needs_a_form(content_type: str, error: type[GpushareError]) -> None:
    """JSON on the form route is 415, a form without boundary or model is 400."""
    with pytest.raises(error):
        read("/v1/audio/transcriptions", b"{}", content_type=content_type)
    with pytest.raises(InvalidRequest, match="model is required"):
        read("/v1/audio/transcriptions", OTHER_FORM, content_type="multipart/form-data; boundary=b")


def test_known_names_are_in_lower_case() -> None:
    """The check for another case relies on it."""
    assert all(name == name.casefold() for name in FIELDS | OPTIONS)


scalars = st.sampled_from(
    [
        b"0",
        b"-0.0",
        b"1e400",
        b"true",
        b"null",
        b'""',
        b'"0s"',
        b'"m"',
        b"[]",
        b"{}",
        b'[""]',
        b'{"num_ctx":1}',
        b'"\\u0000"',
    ]
)
fields = st.sampled_from(
    [
        b"model",
        b"name",
        b"stream",
        b"keep_alive",
        b"options",
        b"messages",
        b"prompt",
        b"input",
        b"tools",
        b"insecure",
    ]
)


@given(
    st.dictionaries(fields, scalars),
    st.sampled_from(ENDPOINTS),
    st.sampled_from([b"", b"}", b"\xff"]),
    st.sampled_from([{}, {b"model": b'"m"'}]),
)
def test_any_values_give_a_call_or_a_refusal(
    found: dict[bytes, bytes], row: Endpoint, tail: bytes, named: dict[bytes, bytes]
) -> None:
    """Whatever the fields hold on whatever route, the outcome is a call or an error of ours."""
    body = b"{" + b",".join(b'"%s":%s' % pair for pair in (found | named).items()) + b"}" + tail
    try:
        call = at_once(read_call(row, row.path, body, content_type="", content_encoding=""))
    except (InvalidRequest, Denied):
        return
    assert call.model or row.kind is not Kind.QUEUED
