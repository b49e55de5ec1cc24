"""Every refusal, in every dialect: status, error object, headers, and a sentence that agrees with them."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpushare.core.keys import new_key
from gpushare.sim import Plan
from tests.conformance.tools import (
    DIALECTS,
    body_of,
    busy,
    calls,
    dial,
    error_of,
    exchange,
    know_models,
    post,
    warm,
)
from tests.harness import Gate, chat, gateway
from tests.unit.web.wire import statuses

Answer = tuple[int, Mapping[str, str], bytes]

TYPES = {
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("authentication_error", "authentication_error"),
    403: ("permission_error", "permission_error"),
    404: ("not_found_error", "not_found_error"),
    405: ("invalid_request_error", "invalid_request_error"),
    408: ("invalid_request_error", "invalid_request_error"),
    413: ("invalid_request_error", "request_too_large"),
    415: ("invalid_request_error", "invalid_request_error"),
    421: ("invalid_request_error", "invalid_request_error"),
    429: ("rate_limit_error", "rate_limit_error"),
    502: ("server_error", "api_error"),
    503: ("server_error", "overloaded_error"),
    504: ("server_error", "api_error"),
}
"""The words of the OpenAI and of the Anthropic error object for each status."""


def check(path: str, answer: Answer, status: int, code: str) -> str:
    """Checks one refusal in the dialect of its path; returns its sentence without the request's id."""
    found, headers, body = answer
    assert found == status, body
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert headers["X-Gpushare-Request"] == headers["X-Request-Id"]
    sentence = error_of(path, body)
    document = json.loads(body)
    openai, anthropic = TYPES[status]
    if path.startswith("/v1/messages"):
        assert document["error"]["type"] == anthropic
        assert document["request_id"] == headers["X-Request-Id"]
    elif path.startswith("/v1/"):
        assert (document["error"]["type"], document["error"]["code"]) == (openai, code)
    check_retry(status, headers, sentence)
    assert ("WWW-Authenticate" in headers) == (status == 401)
    assert ("Allow" in headers) == (status == 405)
    assert not [name for name in headers if name.lower().startswith("access-control")]
    return sentence.replace(headers["X-Request-Id"], "")


def check_retry(status: int, headers: Mapping[str, str], sentence: str) -> None:
    """Checks that a refusal says when to come back, in both headers and the sentence alike, or does not."""
    if status not in (429, 503):
        assert "Retry-After" not in headers
        assert "retry-after-ms" not in headers
        assert (headers.get("x-should-retry") == "false") == (status in (401, 502, 504))
        return
    assert re.fullmatch(r"[1-9]|[12]\d|30", headers["Retry-After"])
    assert headers["retry-after-ms"] == headers["Retry-After"] + "000"
    assert "x-should-retry" not in headers
    assert sentence.endswith(f"Try again in about {headers['Retry-After']} s.")


# --- what is wrong with the request itself ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """A request that is refused before the queue; ``fields`` change the call's body, ``raw`` replaces it."""

    status: int
    code: str
    headers: Mapping[str, str] | None = None
    fields: Mapping[str, Any] | None = None
    raw: bytes | None = None
    who: str | None = "alice"
    method: str = "POST"
    suffix: str = ""


UNKNOWN_KEY = new_key(b"a key that nobody has been given")
BAD = {
    "no key": Bad(status=401, code="key_missing", who=None),
    "unknown key": Bad(status=401, code="key_unknown", headers={"Authorization": f"Bearer {UNKNOWN_KEY}"}),
    "ollama agent": Bad(
        status=401, code="key_missing", who=None, headers={"User-Agent": "ollama/0.33.0 (amd64 linux)"}
    ),
    "two keys": Bad(status=400, code="two_keys", headers={"x-api-key": UNKNOWN_KEY}),
    "not json": Bad(status=400, code="bad_json", raw=b"{"),
    "empty": Bad(status=400, code="bad_json", raw=b""),
    "an array": Bad(status=400, code="bad_json", raw=b"[]"),
    "wrong type": Bad(status=400, code="malformed_body", fields={"model": ["m"]}),
    "wrong wait": Bad(status=400, code="malformed_body", headers={"X-Gpushare-Max-Wait": "soon"}),
    "cloud model": Bad(status=403, code="model_denied", fields={"model": "big:120b-cloud"}),
    "foreign page": Bad(status=403, code="origin_denied", headers={"Origin": "https://evil.example"}),
    "unknown model": Bad(status=404, code="model_unknown", fields={"model": "nobody"}),
    "unknown path": Bad(status=404, code="unknown_endpoint", suffix="/more"),
    "other method": Bad(status=405, code="method_not_allowed", method="PUT"),
    "too large": Bad(status=413, code="body_too_large", fields={"x": "y" * 5000}),
    "compressed": Bad(status=415, code="unsupported_media", headers={"Content-Encoding": "gzip"}),
    "a form": Bad(
        status=415, code="unsupported_media", headers={"Content-Type": "multipart/form-data; boundary=x"}
    ),
    "wrong host": Bad(status=421, code="wrong_host", who=None, headers={"Host": "evil.example"}),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_requests(tmp_path: Path, name: str) -> None:
    """P17: what is wrong with a request is said in its dialect, with one sentence in all."""
    bad = BAD[name]
    sentences = set()
    async with gateway(tmp_path, settings='[server]\nmax_body = "4kB"') as gate:
        await know_models(gate)
        for path in DIALECTS:
            body = (
                json.dumps({**body_of(path), **(bad.fields or {})}).encode() if bad.raw is None else bad.raw
            )
            headers = {"Content-Type": "application/json", **(bad.headers or {})}
            who = None if "Authorization" in headers else bad.who
            answer = await gate.request(bad.method, path + bad.suffix, who=who, data=body, headers=headers)
            if name == "ollama agent":
                assert answer[0] == 403, "the command line throws the body of a 401 away"
                assert "key" in error_of(path, answer[2])
                assert "WWW-Authenticate" not in answer[1]
            else:
                sentences.add(check(path, answer, bad.status, bad.code))
        assert len(sentences) <= 1 or name == "empty", "each API has its own words for no body at all"
        assert calls(gate) == []
        assert not [line for line in gate.logs if line["log_level"] in ("warning", "error")]


@pytest.mark.parametrize("path", DIALECTS)
async def test_revoked_and_expired_keys_may_be_told_so(tmp_path: Path, path: str) -> None:
    """A key whose secret matches is told its state, and only that; its status stays 401."""
    people: dict[str, dict[str, Any]] = {
        "revoked": {"revoked": datetime(2026, 1, 1, tzinfo=UTC)},
        "expired": {"expires": datetime(2026, 1, 1, tzinfo=UTC)},
        "disabled": {"disabled": True},
    }
    states = {"revoked": "was revoked", "expired": "expired on 2026-01-01", "disabled": "is disabled"}
    async with gateway(tmp_path, people=people) as gate:
        for who in people:
            sentence = check(path, await gate.post(path, body_of(path), who=who), 401, "key_expired")
            assert f"The key of {who} {states[who]}." in sentence


@pytest.mark.item(46)
@pytest.mark.parametrize("path", DIALECTS)
async def test_a_late_body_is_408(tmp_path: Path, path: str) -> None:
    """P17: a body that does not come is given up with 408 in the dialect, and takes no place."""
    async with gateway(tmp_path, settings='[server]\nbody_timeout = "100ms"') as gate:
        await know_models(gate)
        async with dial(gate.port) as wire:
            await wire.send(post(gate, path, body_of(path))[:-5])
            head = await wire.until(b"\r\n\r\n")
            assert statuses(head) == [408]
            assert b"connection: close" in head.lower()
            wire.half_close()
            assert "did not arrive" in error_of(path, await wire.rest())
        assert calls(gate) == []


@pytest.mark.item(34)
@pytest.mark.parametrize("path", DIALECTS)
async def test_another_expectation_is_417(gate: Gate, path: str) -> None:
    """P17: an expectation nobody knows is refused in the dialect, and the connection closed."""
    answer = await exchange(gate, post(gate, path, body_of(path), "Expect: a-pony"))
    assert statuses(answer) == [417]
    assert "Expect" in error_of(path, answer.partition(b"\r\n\r\n")[2])


@pytest.mark.item(33)
@pytest.mark.parametrize("path", DIALECTS)
async def test_no_body_is_asked_for_that_would_be_refused(tmp_path: Path, path: str) -> None:
    """P17: with ``Expect: 100-continue`` a bad key and a large body are refused without a 100."""
    async with gateway(tmp_path, settings='[server]\nmax_body = "4kB"') as gate:
        whole = post(gate, path, b"x" * 5000, "Expect: 100-continue")
        too_large = await exchange(gate, whole[:-5000])
        assert statuses(too_large) == [413]
        no_key = whole[:-5000].replace(gate.keys["alice"].encode(), b"none")
        assert statuses(await exchange(gate, no_key)) == [401]


@pytest.mark.item(19)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/pull"),
        ("POST", "/api/push"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/blobs/sha256:" + "0" * 64),
        ("POST", "/api/me"),
        ("POST", "/api/signout"),
        ("POST", "/api/experimental/web_search"),
        ("POST", "/api/experimental/web_fetch"),
        ("DELETE", "/api/user/keys/abc"),
    ],
)
@pytest.mark.parametrize("who", ["alice", "robot"])
async def test_no_person_changes_the_store(gate: Gate, method: str, path: str, who: str) -> None:
    """P29: routes that change models or the operator's account are 403 for every person's key."""
    await know_models(gate)
    answer = await gate.request(method, path, who=who, json={"model": "m"})
    assert check(path, answer, 403, "not_admin")
    assert calls(gate) == []


@pytest.mark.item(20)
@pytest.mark.parametrize(
    "target",
    """/api/%70ull /api/%2e%2e/api/pull /api/chat/../pull /api/./pull //api//pull /api\\pull /API/PULL
    /api/pull/ /api/pull;x=1 /api/pull%00 /api/pull%20 /api/pull%3Fx /%61pi/pull /api%2fpull
    /api/%252e%252e/pull /api/%c0%ae%c0%ae/pull /api/nope /v1/nope /v1/messages/nope /jobs /nope
    /k/x/api/pull /api/chat/ /v1/models/a/b /api/blobs/../pull /static/../../etc/passwd""".split(),
)
@pytest.mark.parametrize("who", ["alice", "root"])
async def test_only_listed_routes_exist(gate: Gate, target: str, who: str) -> None:
    """P28: any other spelling of a path is 404 for everybody, admins included, and reaches nothing."""
    await know_models(gate)
    answer = await exchange(gate, post(gate, target, {"model": "m"}, "Connection: close", who=who))
    assert statuses(answer) == [404]
    assert calls(gate) == []


# --- what the server cannot take now ----------------------------------------------------------------------


@asynccontextmanager
async def full(folder: Path, settings: str, *waiters: str) -> AsyncIterator[Gate]:
    """Runs a gateway whose slot is taken, with a waiting call of each of the waiters."""
    async with gateway(folder, settings=settings) as gate:
        await know_models(gate)
        async with busy(gate), calls_waiting(gate, *waiters):
            yield gate


@asynccontextmanager
async def calls_waiting(gate: Gate, *waiters: str, text: str = "waits") -> AsyncIterator[None]:
    """Keeps a call of each of these people waiting for the length of the block."""
    async with AsyncExitStack() as stack:
        for number, who in enumerate(waiters):
            wire = await stack.enter_async_context(dial(gate.port))
            await wire.send(post(gate, "/api/chat", chat(text), who=who))
            await gate.waiting(number + 1)
        yield
    await gate.waiting(0)


PERSON = "[queue]\nmax_waiting_per_person = 1"
WHOLE = "[queue]\nmax_waiting = 2\nmax_waiting_per_person = 2"
SOON = '[queue]\nmax_wait = "100ms"'
MEMORY = '[server]\nmax_body = "2kB"\nbody_memory = "4kB"'


@pytest.mark.parametrize("path", DIALECTS)
async def test_ones_own_limit(tmp_path: Path, path: str) -> None:
    """P8, P17: who has as many calls waiting as one may have is told so, with both numbers."""
    async with full(tmp_path, PERSON, "alice") as gate:
        sentence = check(path, await gate.post(path, body_of(path)), 429, "person_limit")
        assert "already have 1 request waiting; one person may have 1" in sentence
        assert gate.parts.stats.requests[path, "rejected_key_limit"] == 1  # type: ignore[index]


@pytest.mark.parametrize("path", DIALECTS)
async def test_the_whole_queue_is_full(tmp_path: Path, path: str) -> None:
    """P8: a full queue refuses who waits in it already, and lets in who does not."""
    async with full(tmp_path, WHOLE, "alice", "bob") as gate:
        check(path, await gate.post(path, body_of(path)), 429, "queue_full")
        assert gate.parts.stats.requests[path, "rejected_queue_full"] == 1  # type: ignore[index]
        async with dial(gate.port) as wire:
            await wire.send(post(gate, "/api/chat", chat("is let in"), who="root"))
            await gate.waiting(3)
        await gate.waiting(2)


@pytest.mark.parametrize("path", DIALECTS)
async def test_would_wait_too_long(tmp_path: Path, path: str) -> None:
    """A call that, by what calls have cost so far, cannot start within its own limit is refused at once."""
    async with gateway(tmp_path) as gate:
        await warm(gate)
        assert (await gate.post("/api/chat", chat("#sim:ttft_ms=500,tokens=1")))[0] == 200
        async with busy(gate), calls_waiting(gate, *["alice"] * 7):
            answer = await gate.post(path, body_of(path), headers={"X-Gpushare-Max-Wait": "1"})
            check(path, answer, 429, "would_wait_too_long")


@pytest.mark.parametrize("path", DIALECTS)
async def test_waited_too_long(tmp_path: Path, path: str) -> None:
    """A call that waited for its limit is 429, and Ollama has not seen it."""
    async with full(tmp_path, SOON) as gate:
        check(path, await gate.post(path, body_of(path)), 429, "waited_too_long")
        assert len(calls(gate)) == 1
        assert gate.parts.stats.requests[path, "queue_timeout"] == 1  # type: ignore[index]


@pytest.mark.parametrize("path", DIALECTS)
async def test_paused(tmp_path: Path, path: str) -> None:
    """A call that waited for its limit while the queue was paused is told that."""
    async with gateway(tmp_path, settings=SOON) as gate:
        await know_models(gate)
        gate.parts.slots.pause()
        check(path, await gate.post(path, body_of(path)), 503, "paused")
        assert calls(gate) == []
        gate.parts.slots.resume()
        assert (await gate.post(path, body_of(path)))[0] == 200


@pytest.mark.parametrize("path", DIALECTS)
async def test_no_memory_for_another_body(tmp_path: Path, path: str) -> None:
    """P8: one person's bodies fill at most half of the memory for them; others are still let in."""
    async with gateway(tmp_path, settings=MEMORY) as gate:
        await know_models(gate)
        async with busy(gate), calls_waiting(gate, "alice", text="x" * 1500):
            large = {**body_of(path), "x": "y" * 900}
            check(path, await gate.post(path, large), 503, "overloaded")
            async with dial(gate.port) as wire:
                await wire.send(post(gate, path, large, who="bob"))
                await gate.waiting(2)
            await gate.waiting(1)


@pytest.mark.item(41)
@pytest.mark.parametrize("path", DIALECTS)
async def test_too_many_wrong_keys(gate: Gate, path: str) -> None:
    """P8: after 20 wrong keys an address waits, while valid keys from there still work."""
    wrong = {"Authorization": f"Bearer {UNKNOWN_KEY}"}
    for _ in range(20):
        check(path, await gate.post(path, body_of(path), who=None, headers=wrong), 401, "key_unknown")
    status, headers, body = await gate.post(path, body_of(path), who=None, headers=wrong)
    assert (status, headers["Retry-After"], headers["retry-after-ms"]) == (429, "30", "30000")
    assert error_of(path, body).endswith("Try again in about 30 s.")
    assert (await gate.post(path, body_of(path)))[0] == 200


@pytest.mark.parametrize("path", DIALECTS)
async def test_a_busy_ollama(gate: Gate, path: str) -> None:
    """Ollama's own "busy" becomes 503 with a time to come back."""
    for _ in range(2):  # once the call goes back to where it waited
        gate.sim.next(Plan(status=503), path=path)
    check(path, await gate.post(path, body_of(path)), 503, "ollama_busy")


@pytest.mark.parametrize("path", DIALECTS)
async def test_closing_down(gate: Gate, path: str) -> None:
    """P22: while the server closes down, new and waiting calls are 503 and the connection closes."""
    await know_models(gate)
    async with busy(gate) as running, dial(gate.port) as wire:
        await wire.send(post(gate, path, body_of(path)))
        await gate.waiting(1)
        gate.parts.slots.close()
        evicted = await wire.until(b'"}')
        answer = await gate.post(path, body_of(path))
        check(path, answer, 503, "draining")
        assert answer[1]["Connection"] == "close"
        assert not running.ended
    assert statuses(evicted) == [503]
    assert running.records == 4


async def test_no_connection_left(tmp_path: Path) -> None:
    """P8: a connection above the limit is told so and closed; its dialect is not known yet."""
    settings = "[server]\nmax_connections = 1\nmax_connections_per_address = 1"
    async with gateway(tmp_path, settings=settings) as gate, dial(gate.port) as held:
        await held.send(b"POST ")
        refused = await exchange(gate, b"")
        assert statuses(refused) == [503]
        head, _, body = refused.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        check_retry(503, fields, json.loads(body)["error"]["message"])
