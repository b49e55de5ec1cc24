"""Items 16 to 25: methods and targets that try to be something else."""

import pytest

from gpushare.core.dialects import ENDPOINTS
from tests.conformance.tools import exchange, nothing_ran, only_call
from tests.harness import CANARY, Gate
from tests.hostile.tools import BODY, OWN, body_of, chat_shot, quotes_nothing, refused, shot
from tests.unit.web.wire import statuses

METHODS = ("TRACE", "PROPFIND", "SEARCH", "QUERY", "FOO", "get", "post", "PO ST", "X" * 100)


@pytest.mark.item(16)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/messages", "/status", "/nope", "/k/gs_x/api/chat"])
async def test_other_methods(gate: Gate, method: str, path: str) -> None:
    """A method that nothing has is refused and never echoed."""
    request = shot(gate, f"{method} {path} HTTP/1.1", "Connection: close", who=None)
    await refused(gate, request, 400, 401, 404, 405)
    key = shot(
        gate, f"{method} {path} HTTP/1.1", f"Content-Length: {len(BODY)}", "Connection: close", body=BODY
    )
    await refused(gate, key, 400, 404, 405)


@pytest.mark.item(16)
@pytest.mark.parametrize("target", ["127.0.0.1:80", "evil.example:443", "/api/chat", "[::1]:22"])
async def test_no_tunnel(gate: Gate, target: str) -> None:
    """CONNECT opens nothing."""
    request = shot(gate, f"CONNECT {target} HTTP/1.1", "Connection: close") + b"SSH-2.0-x\r\n"
    await refused(gate, request, 400, 404, 405)


@pytest.mark.item(17)
@pytest.mark.parametrize("path", [*OWN, *sorted({e.path for e in ENDPOINTS if "{" not in e.path}), "/nope"])
async def test_options_without_an_allowed_origin(gate: Gate, path: str) -> None:
    """A preflight from nowhere, or from a page that is not listed, allows nothing."""
    for origin, allowed in (([], (404, 405)), (["Origin: https://evil.example"], (403,))):
        request = shot(gate, f"OPTIONS {path} HTTP/1.1", "Connection: close", *origin)
        answer = await refused(gate, request, *allowed)
        assert b"access-control" not in answer.lower()


@pytest.mark.item(18)
@pytest.mark.parametrize(
    "name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method", "X-Original-URL"]
)
async def test_overrides_are_ignored(gate: Gate, name: str) -> None:
    """The method and the target in the first line count."""
    fields = [f"{name}: DELETE", "X-Rewrite-URL: /api/delete", "X-Original-URL: /api/pull"]
    request = chat_shot(gate, *fields).replace(b"/api/chat", b"/api/chat?_method=DELETE", 1)
    assert statuses(await exchange(gate, request)) == [200]
    assert (only_call(gate).method, only_call(gate).target) == ("POST", "/api/chat")


DISGUISES = r"""
    /api/%70ull /api/%2e%2e/api/pull /api/chat/../pull /api/./pull //api/pull ///api/pull /api//pull /api\pull
    /API/PULL /api/pull/ /api/pull;x=1 /api/pull%00 /api/pull%20 /api/pull%3Fx /%61pi/pull /api%2fpull
    /api/%252e%252e/pull /api/%c0%ae%c0%ae/pull /api/%c0%ae/pull /api/%e0%80%ae/pull /api/chat/..;/pull
    /api/chat/%2e%2e%2fpull /api/pull?x=/../ /api/pull# /./api/pull /api/pull/. /api/pull/.. /v1/../api/pull
    /k/../api/pull /k/{key}/../api/pull /k/{key}//api/pull /k/{key}/api/%70ull /status/../api/pull
    /static/../api/pull /static/%2e%2e/api/pull /api/blobs/../pull /api/pull:80 /api/pull%0d%0aX:y
""".split()


@pytest.mark.item(20)
@pytest.mark.parametrize("target", DISGUISES)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_no_disguise_reaches_the_store(gate: Gate, target: str, version: str) -> None:
    """P28, P29: however the path is written, a person's key does not reach a route that changes models."""
    target = target.format(key=gate.keys["alice"])
    line = f"POST {target} HTTP/{version}"
    request = shot(gate, line, f"Content-Length: {len(BODY)}", "Connection: close", body=BODY)
    await refused(gate, request, 400, 403, 404)


@pytest.mark.item(21)
@pytest.mark.parametrize("path", ["/api/chat/", "/v1/messages/", "/api/tags/", "/status/", "/metrics/"])
async def test_a_slash_at_the_end(gate: Gate, path: str) -> None:
    """Another path is another path: there is no redirect to the one that was meant."""
    request = shot(gate, f"GET {path} HTTP/1.1", "Connection: close")
    answer = await refused(gate, request, 404)
    assert b"\r\nlocation:" not in answer.lower()


@pytest.mark.item(22)
@pytest.mark.parametrize(
    "tail",
    ["#frag", "?model=evil&stream=true", "?stream=true#x", "?beta=true", "?a=%zz&%00", "?" + "x" * 3000],
)
async def test_only_the_body_decides(gate: Gate, tail: str) -> None:
    """P28: query and fragment change nothing and stay here."""
    request = chat_shot(gate).replace(b"/api/chat", b"/api/chat" + tail.encode(), 1)
    assert statuses(await exchange(gate, request)) == [200]
    entry = only_call(gate)
    assert (entry.target, entry.body) == ("/api/chat", BODY)


@pytest.mark.item(23)
@pytest.mark.parametrize(
    "target",
    [
        "http://other.host/api/chat",
        "https://127.0.0.1/api/chat",
        "http://user:pw@h/api/chat",
        "http://127.0.0.1/api/chat",
        "HTTP://127.0.0.1/",
        "ftp://127.0.0.1/",
        "http:///api/chat",
    ],
)
async def test_an_absolute_target(gate: Gate, target: str) -> None:
    """This is no forward proxy."""
    await refused(gate, chat_shot(gate).replace(b"/api/chat", target.encode(), 1), 400)


@pytest.mark.item(24)
@pytest.mark.parametrize(
    "target",
    [b"*", b"api/chat", b"", b"/api/ch\xc3\xa4t", b"/api/chat\x7f", b"/api/chat\xff", b"/\x01", b"?x"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_an_odd_target(gate: Gate, target: bytes, method: str) -> None:
    """A target is a path in plain characters."""
    await refused(gate, shot(gate, method.encode() + b" " + target + b" HTTP/1.1"), 400)


@pytest.mark.item(25)
@pytest.mark.parametrize(
    "target", ["/jobs/%2e%2e%2f1", "/jobs/a%2fb", "/jobs/" + "x" * 500, "/jobs", "/jobs/00000000"]
)
async def test_jobs_do_not_exist(gate: Gate, target: str) -> None:
    """Whatever a job might be called, the answer is the same."""
    answer = await refused(gate, shot(gate, f"GET {target} HTTP/1.1", "Connection: close"), 404)
    assert body_of(answer) == b"404 page not found"


async def test_a_canary_in_every_part_of_a_target(gate: Gate) -> None:
    """P31: paths and queries are in no log line: they can hold keys."""
    for target in (
        f"/{CANARY}",
        f"/api/{CANARY}",
        f"/status?{CANARY}",
        f"/k/{CANARY}/x",
        f"/static/{CANARY}",
    ):
        answer = await exchange(gate, shot(gate, f"GET {target} HTTP/1.1", "Connection: close"))
        quotes_nothing(gate, answer)
    for secret in list(gate.keys.values()):
        await exchange(gate, shot(gate, f"GET /k/{secret}/{secret} HTTP/1.1", "Connection: close"))
        answer = await exchange(gate, shot(gate, f"GET /{secret} HTTP/1.1", "Connection: close"))
        quotes_nothing(gate, answer)
    assert nothing_ran(gate)
