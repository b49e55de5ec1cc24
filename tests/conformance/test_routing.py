"""Cases 1 to 16: which routes exist, who may use them, and what passes beside the queue."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gpushare.engine.gateway import LIST_TIMEOUT_S
from gpushare.sim import Fault, FaultKind, Plan, Script, SimModel, SimOllama
from tests.conformance.tools import (
    INFERENCE,
    ask,
    body_of,
    busy,
    calls,
    direct,
    error_of,
    nothing_ran,
    only_call,
    served,
)
from tests.harness import Gate, gateway

MIB = 1024 * 1024
DIGEST = "sha256:" + "0" * 64
STORE = (
    ("POST", "/api/pull", {"model": "new"}),
    ("POST", "/api/push", {"model": "m"}),
    ("POST", "/api/create", {"model": "made", "from": "m"}),
    ("POST", "/api/copy", {"source": "m", "destination": "other"}),
    ("DELETE", "/api/delete", {"model": "n"}),
    ("HEAD", f"/api/blobs/{DIGEST}", None),
    ("POST", f"/api/blobs/{DIGEST}", None),
)
ACCOUNT = (
    ("POST", "/api/signout"),
    ("DELETE", "/api/user/keys/x"),
    ("POST", "/api/me"),
    ("POST", "/api/experimental/web_search"),
    ("POST", "/api/experimental/web_fetch"),
)


@pytest.mark.case(1)
async def test_the_root_says_what_ollama_says(gate: Gate) -> None:
    """Without a key ``GET /`` is answered as Ollama answers it."""
    status, headers, body = await gate.request("GET", "/", who=None)
    assert (status, headers["Content-Type"], body) == (200, "text/plain; charset=utf-8", b"Ollama is running")


@pytest.mark.case(2)
async def test_the_probe_of_the_root_needs_no_gpu(gate: Gate) -> None:
    """``HEAD /`` is answered without a key while the GPU is taken."""
    async with busy(gate):
        status, headers, body = await gate.request("HEAD", "/", who=None)
    assert (status, headers["Content-Type"], body) == (200, "text/plain; charset=utf-8", b"")
    assert only_call(gate).path == "/api/chat"


@pytest.mark.case(3)
async def test_the_version_is_ollamas(gate: Gate) -> None:
    """``/api/version`` passes unchanged, without a key."""
    expected = await direct(gate, "GET", "/api/version")
    status, headers, body = await gate.request("GET", "/api/version", who=None)
    assert (status, headers["Content-Type"], body) == (200, expected[1]["Content-Type"], expected[2])


@pytest.mark.case(4)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_model_list_is_not_queued(gate: Gate, method: str) -> None:
    """``/api/tags`` passes unchanged while a generation runs."""
    expected = await direct(gate, method, "/api/tags")
    async with busy(gate) as running:
        status, headers, body = await gate.request(method, "/api/tags")
        assert not running.ended
    assert (status, body) == (200, expected[2])
    assert headers["Content-Type"] == expected[1]["Content-Type"]


@pytest.mark.case(5)
async def test_a_hanging_list_is_given_up(gate: Gate) -> None:
    """While Ollama hangs on ``/api/ps`` the asker gets a 504 in time and everybody else is served."""
    assert LIST_TIMEOUT_S < 3
    gate.sim.script.plans["/api/ps"] = Plan(fault=Fault(FaultKind.STALL))
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(gate.request("GET", "/api/ps"))
        await gate.sim.events.until(
            lambda: [one for one in gate.sim.log if one.path == "/api/ps" and "stalled" in one.at]
        )
        status, _, _ = await ask(gate, "/api/chat")
        assert status == 200
        assert not asked.done()
    status, _, body = asked.result()
    assert status == 504
    assert error_of("/api/ps", body)


@pytest.mark.case(6)
async def test_the_facts_of_a_model_pass_whole(tmp_path: Path) -> None:
    """``/api/show`` takes the old ``name`` and passes an answer of 5 MB."""
    long = SimModel(name="m:latest", parameters="p" * 5_000_000)
    async with gateway(tmp_path, script=Script(models=(long,))) as gate:
        fields = {"name": "m", "verbose": True}
        expected = await direct(gate, "POST", "/api/show", json=fields)
        status, headers, body = await gate.post("/api/show", fields)
        assert (status, headers["Content-Type"]) == (200, expected[1]["Content-Type"])
        assert body == expected[2]
        assert len(body) > 5_000_000


@pytest.mark.case(7)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m:latest"])
async def test_the_openai_lists_pass_unchanged(gate: Gate, path: str) -> None:
    """Both OpenAI model routes answer with Ollama's bytes."""
    expected = await direct(gate, "GET", path)
    status, headers, body = await gate.request("GET", path)
    assert (status, headers["Content-Type"], body) == (200, expected[1]["Content-Type"], expected[2])


@pytest.mark.case(7)
async def test_an_escaped_slash_reaches_no_route(gate: Gate) -> None:
    """``library%2Fm`` is no path here, so it cannot become another route behind the gateway."""
    async with aiohttp.ClientSession() as session:
        from yarl import URL

        target = URL(gate.url + "/v1/models/library%2Fm", encoded=True)
        async with session.get(target, headers=gate.bearer()) as response:
            assert response.status == 404
            assert error_of("/v1/models", await response.read())
    assert calls(gate) == []


@pytest.mark.case(8)
async def test_another_method_is_405_in_the_dialect(gate: Gate) -> None:
    """``GET /api/chat`` is refused in the form of its path, with the methods there are."""
    status, headers, body = await gate.request("GET", "/api/chat")
    assert (status, headers["Allow"]) == (405, "POST")
    assert error_of("/api/chat", body) == "405 method not allowed"
    assert nothing_ran(gate)


@pytest.mark.case(8)
async def test_an_unknown_path_is_404(gate: Gate) -> None:
    """Outside ``/api`` and ``/v1`` an unknown path gets text, and Ollama never hears of it."""
    status, headers, body = await gate.post("/nope", {})
    assert (status, body) == (404, b"404 page not found")
    assert headers["Content-Type"].startswith("text/plain")
    assert nothing_ran(gate)


@pytest.mark.case(9)
async def test_what_ollama_does_not_route_is_404(gate: Gate) -> None:
    """``count_tokens`` is answered at once, in the Anthropic form."""
    async with busy(gate):
        path = "/v1/messages/count_tokens"
        status, _, body = await gate.post(path, body_of("/v1/messages"))
        assert status == 404
        assert error_of(path, body)
    assert only_call(gate).path == "/api/chat"


@pytest.mark.case(10)
async def test_a_doubled_slash_is_read_as_one(gate: Gate) -> None:
    """Tools that join a base URL ending in a slash reach the route they mean."""
    status, _, body = await gate.post("//v1/chat/completions", body_of("/v1/chat/completions"))
    assert status == 200
    entry = only_call(gate)
    assert entry.target == "/v1/chat/completions"
    assert body == bytes(entry.answer)


@pytest.mark.case(11)
async def test_the_beta_query_reaches_ollama(gate: Gate) -> None:
    """``?beta=true`` changes nothing about the route and is passed on."""
    status, _, body = await gate.post("/v1/messages?beta=true", body_of("/v1/messages"))
    assert status == 200
    entry = only_call(gate)
    assert entry.target == "/v1/messages?beta=true"
    assert body == bytes(entry.answer)


@pytest.mark.case(12)
async def test_only_admins_pull(gate: Gate) -> None:
    """A person is refused in Ollama's form; an admin sees Ollama's progress lines."""
    status, _, body = await gate.post("/api/pull", {"model": "new"})
    assert status == 403
    assert "admin" in error_of("/api/pull", body)
    assert calls(gate) == []
    status, headers, body = await gate.post("/api/pull", {"model": "new"}, who="root")
    assert (status, headers["Content-Type"]) == (200, "application/x-ndjson")
    assert body == bytes(only_call(gate).answer)
    assert json.loads(body.splitlines()[-1]) == {"status": "success"}


@pytest.mark.case(13)
@pytest.mark.parametrize(("method", "path", "fields"), STORE)
async def test_the_store_is_closed_to_persons(
    gate: Gate, method: str, path: str, fields: dict[str, str] | None
) -> None:
    """Every route that changes the model store is 403 for a person and never forwarded."""
    status, _, body = await gate.request(method, path, json=fields)
    assert status == 403
    assert method == "HEAD" or error_of(path, body)
    assert calls(gate) == []


@pytest.mark.case(13)
async def test_the_store_answers_admins_unchanged(gate: Gate) -> None:
    """An admin gets Ollama's own answers, empty ones and refusals included."""
    for method, path, fields in STORE:
        status, _, body = await gate.request(method, path, who="root", json=fields)
        entry = calls(gate)[-1]
        assert (entry.method, entry.path) == (method, path)
        assert (status, body) == (entry.status, bytes(entry.answer))
    assert [entry.status for entry in calls(gate)] == [200, 200, 200, 200, 200, 404, 400]
    blob = b"model file"
    path = f"/api/blobs/sha256:{hashlib.sha256(blob).hexdigest()}"
    for method, status in (("POST", 201), ("POST", 200), ("HEAD", 200)):
        answer = await gate.request(method, path, who="root", data=blob if method == "POST" else None)
        assert (answer[0], answer[2]) == (status, b"")


@pytest.mark.case(14)
async def test_an_upload_is_never_collected(tmp_path: Path) -> None:
    """A file far larger than the gateway's memory bound arrives byte for byte and leaves no trace there."""
    pieces, piece = 300, bytes(range(256)) * 4096
    sha = hashlib.sha256()
    for _ in range(pieces):
        sha.update(piece)

    async def file() -> AsyncIterator[bytes]:
        for _ in range(pieces):
            yield piece

    sim = SimOllama()
    await sim.start()
    try:
        async with served(tmp_path, sim.url, people={"root": {"role": "admin"}}) as server:
            before = server.memory_bytes()
            async with (
                aiohttp.ClientSession(server.url, headers=server.bearer("root")) as session,
                session.post(f"/api/blobs/sha256:{sha.hexdigest()}", data=file()) as response,
            ):
                assert response.status == 201
            grown = server.memory_bytes("VmHWM") - before
        (entry,) = [one for one in sim.log if one.path.startswith("/api/blobs")]
        assert entry.body_bytes == pieces * MIB
        assert grown < 50 * MIB
    finally:
        await sim.stop()


@pytest.mark.case(15)
@pytest.mark.parametrize(("method", "path"), ACCOUNT)
@pytest.mark.parametrize("who", ["alice", "root"])
async def test_the_operators_account_is_closed(gate: Gate, method: str, path: str, who: str) -> None:
    """Nobody acts on the operator's ollama.com account unless the configuration opens that."""
    status, _, body = await gate.request(method, path, who=who, json={})
    assert status == 403
    assert "ollama.com" in error_of(path, body)
    assert calls(gate) == []


@pytest.mark.case(16)
@pytest.mark.parametrize("model", ["gpt-oss:120b-cloud", "x:cloud"])
@pytest.mark.parametrize("path", INFERENCE)
async def test_cloud_models_are_refused(gate: Gate, path: str, model: str) -> None:
    """A model that would run on ollama.com is 403 in the dialect's form and takes no slot."""
    status, _, body = await ask(gate, path, model=model)
    assert status == 403
    assert model in error_of(path, body)
    assert nothing_ran(gate)
