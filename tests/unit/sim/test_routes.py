"""Every route's sound answer and its refusals."""

import hashlib

import pytest

from gpushare.sim import Plan, SimOllama

from .conftest import Ask, chat


@pytest.mark.parametrize(
    ("method", "path", "content_type", "body"),
    [
        ("GET", "/", "text/plain; charset=utf-8", b"Ollama is running"),
        ("HEAD", "/", "text/plain; charset=utf-8", b""),
        ("GET", "/api/version", "application/json; charset=utf-8", b'{"version":"0.33.0"}'),
        ("GET", "/api/ps", "application/json; charset=utf-8", b'{"models":[]}'),
        ("GET", "/nope", "text/plain", b"404 page not found"),
        ("GET", "/api/chat", "text/plain", b"405 method not allowed"),
        ("POST", "/v1/messages/count_tokens", "text/plain", b"404 page not found"),
        ("POST", "//v1/chat/completions", "text/plain", b"404 page not found"),
    ],
)
async def test_short_answers(ask: Ask, method: str, path: str, content_type: str, body: bytes) -> None:
    """Status text, content type and body are Ollama's."""
    reply = await ask(method, path)
    assert (reply.headers["Content-Type"], reply.body) == (content_type, body)


async def test_405_names_the_methods_and_a_trailing_slash_redirects(ask: Ask) -> None:
    """Gin tells which methods a path has, and drops a trailing slash."""
    assert (await ask("GET", "/api/chat")).headers["Allow"] == "POST"
    reply = await ask("POST", "/api/chat/", chat())
    assert (reply.status, reply.headers["Location"]) == (307, "/api/chat")
    assert (await ask("GET", "/api/tags/")).status == 301


async def test_head_has_the_headers_of_get(ask: Ask) -> None:
    """HEAD answers with the length and no body."""
    head, get = await ask("HEAD", "/api/tags"), await ask("GET", "/api/tags")
    assert (head.headers["Content-Length"], head.body) == (str(len(get.body)), b"")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Host: gpu.example.com\r\n", 403),
        ("Host: localhost:11434\r\n", 200),
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: http://localhost:3000\r\n", 200),
    ],
)
async def test_host_and_origin_are_checked(ask: Ask, headers: str, status: int) -> None:
    """A foreign Host or Origin is a 403 with an empty body."""
    reply = await ask("GET", "/api/version", headers=headers)
    assert reply.status == status
    assert (reply.body == b"") is (status == 403)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/api/chat", '{"error":"model \'x\' not found"}'),
        ("/api/show", '{"error":"model \'x\' not found"}'),
        ("/api/embed", '{"error":"model \\"x\\" not found, try pulling it first"}'),
        ("/v1/chat/completions", '{"error":{"message":"model \'x\' not found","type":"not_found_error",'),
    ],
)
async def test_unknown_models(ask: Ask, path: str, text: str) -> None:
    """Each route has its own sentence and quotes."""
    reply = await ask("POST", path, chat(model="x", input="a"))
    assert reply.status == 404
    assert reply.body.decode().startswith(text)


async def test_early_refusals_on_v1_have_no_newline(ask: Ask) -> None:
    """What the checks in front of the handler refuse looks slightly different."""
    early = await ask("POST", "/v1/chat/completions", {"model": "m"})
    late = await ask("POST", "/v1/chat/completions", chat(model="x"))
    assert early.headers["Content-Type"] == "application/json; charset=utf-8"
    assert late.headers["Content-Type"] == "application/json"
    assert (early.body[-1:], late.body[-1:]) == (b"}", b"\n")


async def test_embeddings_of_all_three_routes_agree(ask: Ask) -> None:
    """The vector depends on the text alone; only /api/embed has metrics."""
    new = await ask("POST", "/api/embed", {"model": "embed", "input": ["a", "b"]})
    old = await ask("POST", "/api/embeddings", {"model": "embed", "prompt": "a"})
    openai = await ask("POST", "/v1/embeddings", {"model": "embed", "input": "a"})
    assert list(new.json)[:2] == ["model", "embeddings"]
    assert list(new.json)[-1] == "prompt_eval_count"
    vectors = new.json["embeddings"]
    assert isinstance(vectors, list)
    assert old.json == {"embedding": vectors[0]}
    data = openai.json["data"]
    assert isinstance(data, list)
    assert data[0]["embedding"] == vectors[0]


async def test_an_embedding_model_does_not_chat(ask: Ask) -> None:
    """A capability the model lacks is a 400."""
    reply = await ask("POST", "/api/chat", chat(model="embed"))
    assert (reply.status, reply.body) == (400, b'{"error":"\\"embed\\" does not support chat"}')


async def test_models_come_and_go(ask: Ask) -> None:
    """Pull reports progress, copy and delete answer an empty 200."""
    pulled = await ask("POST", "/api/pull", {"model": "new"})
    assert pulled.headers["Content-Type"] == "application/x-ndjson"
    assert pulled.lines[-1] == {"status": "success"}
    copied = await ask("POST", "/api/copy", {"source": "new", "destination": "other"})
    gone = await ask("DELETE", "/api/delete", {"model": "new"})
    assert [(one.status, one.body) for one in (copied, gone)] == [(200, b""), (200, b"")]
    names = (await ask("GET", "/v1/models")).body
    assert b'"other:latest"' in names
    assert b'"new:latest"' not in names


async def test_blobs(ask: Ask, sim: SimOllama) -> None:
    """A blob is 404, then 201, then 200; a wrong digest is 400; the body is not kept."""
    digest = hashlib.sha256(b"data").hexdigest()
    path = f"/api/blobs/sha256:{digest}"
    statuses = [
        (await ask("HEAD", path)).status,
        (await ask("POST", path, b"other")).status,
        (await ask("POST", path, b"data")).status,
        (await ask("POST", path, b"data")).status,
        (await ask("HEAD", path)).status,
    ]
    assert statuses == [404, 400, 201, 200, 200]
    assert sim.log[2].body_bytes == 4


async def test_transcription_reads_the_model_from_the_form(ask: Ask) -> None:
    """The model is a form field; the answer is JSON or text."""
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
    reply = await ask("POST", "/v1/audio/transcriptions", form)
    assert reply.body == b'{"text":"simulated words"}\n'


@pytest.mark.parametrize(
    "path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/api/embed", "/api/tags"]
)
async def test_a_planned_status(ask: Ask, sim: SimOllama, path: str) -> None:
    """Any route can be told to fail before its first byte."""
    sim.next(Plan(status=503), path=path)
    reply = await ask("GET" if path == "/api/tags" else "POST", path, chat(max_tokens=1))
    assert reply.status == 503
    assert b"server busy, please try again.  maximum pending requests exceeded" in reply.body


async def test_a_marker_can_ask_for_a_status(ask: Ask) -> None:
    """The prompt can plan a refusal too."""
    assert (await ask("POST", "/api/chat", chat("#sim:status=500"))).status == 500


async def test_account_routes_are_signed_out(ask: Ask) -> None:
    """A server nobody signed in answers 401 with a link."""
    reply = await ask("POST", "/api/me")
    assert (reply.status, "signin_url" in reply.json) == (401, True)
