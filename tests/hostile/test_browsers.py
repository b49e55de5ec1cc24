"""Items 26 to 34: names and pages a browser could be made to use, upgrades and expectations."""

import pytest

from gpushare.core.dialects import ENDPOINTS
from tests.conformance.tools import calls, dial, exchange, know_models, nothing_ran
from tests.harness import Gate
from tests.hostile.tools import BODY, OWN, chat_shot, quotes_nothing, refused, sentence, shot
from tests.unit.web.wire import statuses

PAGES = (
    *(*OWN, "/nope"),
    *sorted({endpoint.path for endpoint in ENDPOINTS if "{" not in endpoint.path} - {"/"}),
)
LINE = b"Host: 127.0.0.1\r\n"


@pytest.mark.item(26)
@pytest.mark.parametrize("path", PAGES)
async def test_a_name_of_somebody_elses(gate: Gate, path: str) -> None:
    """Without a key nothing at all is answered under a name that a foreign page could have."""
    await know_models(gate)
    for name in (b"evil.example:8080", b"evil.example", b"127.0.0.1.evil.example", b"EVIL.example."):
        for extra in ([], ["Cookie: gpushare_session=x"], ["Sec-Fetch-Site: same-origin"]):
            request = shot(gate, f"GET {path} HTTP/1.1", *extra, who=None)
            answer = await refused(gate, request.replace(LINE, b"Host: " + name + b"\r\n"), 421)
            assert "server.allowed_hosts" in sentence(answer)
            assert b"access-control" not in answer.lower()


@pytest.mark.item(26)
async def test_a_key_is_good_under_any_name(gate: Gate) -> None:
    """Who holds a key is no page that found this server by a trick, so tools may use any name."""
    request = chat_shot(gate).replace(LINE, b"Host: gpu.example.com\r\n")
    assert statuses(await exchange(gate, request)) == [200]


ODD_HOSTS = (
    b"", b"a/b?", b"x:notaport", b"a@b", "ä".encode(), b"a b", b"[::1", b"::1", b"x:123456", b"<b>", b'"',
    b"a,b",
)  # fmt: skip


@pytest.mark.item(27)
@pytest.mark.parametrize("host", ODD_HOSTS)
@pytest.mark.parametrize("path", ["/", "/status", "/connect", "/api/tags", "/api/chat", "/metrics"])
async def test_a_host_that_is_no_name(gate: Gate, host: bytes, path: str) -> None:
    """It is refused, with a key too, and never a fault of ours."""
    for who in (None, "alice"):
        request = shot(gate, f"GET {path} HTTP/1.1", who=who)
        await refused(gate, request.replace(LINE, b"Host: " + host + b"\r\n"), 400)


@pytest.mark.item(27)
@pytest.mark.parametrize("host", [b"[fe80::1%25eth0]:80", b"[::1]", b"a_b:1", b"1.2.3.4:65535", b"ATLAS."])
async def test_an_unusual_host(gate: Gate, host: bytes) -> None:
    """A name that is one is answered, on every page."""
    for path in ("/", "/status", "/connect", "/api/tags"):
        request = shot(gate, f"GET {path} HTTP/1.1", "Connection: close")
        assert statuses(await exchange(gate, request.replace(LINE, b"Host: " + host + b"\r\n"))) == [200]


@pytest.mark.item(27)
@pytest.mark.parametrize("hosts", [[], [b"127.0.0.1", b"127.0.0.1"], [b"127.0.0.1", b"evil.example"]])
async def test_not_exactly_one_host(gate: Gate, hosts: list[bytes]) -> None:
    """A request has one Host."""
    await refused(
        gate, chat_shot(gate).replace(LINE, b"".join(b"Host: %b\r\n" % host for host in hosts)), 400
    )


@pytest.mark.item(27)
@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/status", "/connect", "/metrics", "/api/tags"])
async def test_http_1_0_needs_no_host(gate: Gate, path: str) -> None:
    """Health checks of proxies send none; a browser, which a foreign page could use, does not speak it."""
    await know_models(gate)
    for who in (None, "alice"):
        for method in ("GET", "HEAD"):
            request = shot(gate, f"{method} {path} HTTP/1.0", who=who).replace(LINE, b"")
            assert statuses(await exchange(gate, request)) == [200]


FOREIGN = (
    "https://evil.example",
    "null",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example",
    "http://evil.example#http://127.0.0.1",
    "https://chat.example.com.evil.example",
    "https://chat.example.com:444",
    "http://chat.example.com",
    "https://CHAT.example.com/",
    "http://[",
    "http://[::1]:99999999",
    "x",
    "",
    "apps://x",
    "127.0.0.1",
)


@pytest.mark.item(28)
@pytest.mark.item(30)
@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/status", "/nope"])
async def test_a_page_that_is_not_listed(gate: Gate, origin: str, path: str) -> None:
    """It changes nothing, even with a key, and cannot read why."""
    request = chat_shot(gate, f"Origin: {origin}").replace(b"/api/chat", path.encode(), 1)
    answer = await refused(gate, request, 403)
    assert b"access-control" not in answer.lower()


@pytest.mark.item(29)
@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_preflight_of_a_page_that_is_not_listed(gate: Gate, origin: str) -> None:
    """Asking for the key's header gets no permission."""
    fields = ["Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization"]
    request = shot(
        gate, "OPTIONS /api/chat HTTP/1.1", f"Origin: {origin}", *fields, "Connection: close", who=None
    )
    answer = await refused(gate, request, 403)
    assert b"access-control" not in answer.lower()


@pytest.mark.item(29)
@pytest.mark.parametrize("value", [b"x\xff", b"x\xc3\xa4", b"a\tb", b"<script>", b"x" * 8000, b""])
async def test_what_an_allowed_page_asks_for(gate: Gate, value: bytes) -> None:
    """Odd characters in a preflight, or in the origin itself, are no fault of ours."""
    preflight = "OPTIONS /api/chat HTTP/1.1"
    method = "Access-Control-Request-Method: POST"
    asked: tuple[list[str | bytes], ...] = (
        ["Origin: app://x", method, b"Access-Control-Request-Headers: " + value],
        [b"Origin: app://" + value, method],
    )
    for fields in asked:
        answer = await exchange(gate, shot(gate, preflight, *fields, "Connection: close", who=None))
        assert statuses(answer)[0] in (204, 400, 403)
        assert answer.partition(b"\r\n\r\n")[2] == b"" or statuses(answer) != [204]


@pytest.mark.item(31)
@pytest.mark.parametrize("path", ["/status", "/gpushare/v1/status", "/api/tags", "/api/ps", "/metrics"])
@pytest.mark.parametrize("mode", ["cors", "no-cors", "websocket", ""])
async def test_another_site_reads_nothing(gate: Gate, path: str, mode: str) -> None:
    """What a page of another site loads behind its visitor's back is refused."""
    fields = ["Sec-Fetch-Site: cross-site", f"Sec-Fetch-Mode: {mode}", "Connection: close"]
    await refused(gate, shot(gate, f"GET {path} HTTP/1.1", *fields), 403)
    await refused(gate, shot(gate, f"GET {path} HTTP/1.1", *fields, who=None), 403)


@pytest.mark.item(32)
@pytest.mark.parametrize("upgrade", ["websocket", "h2c", "TLS/1.0", "websocket, h2c"])
@pytest.mark.parametrize("path", ["/api/chat", "/status", "/gpushare/v1/status", "/", "/nope"])
async def test_no_upgrade(gate: Gate, upgrade: str, path: str) -> None:
    """The request is answered as if nobody had asked for another protocol."""
    fields = ["Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", "HTTP2-Settings: AAMAAABkAAQ"]
    key = ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    method = "POST" if path == "/api/chat" else "GET"
    body = BODY if method == "POST" else b""
    request = shot(
        gate, f"{method} {path} HTTP/1.1", f"Content-Length: {len(body)}", *fields, *key, body=body
    )
    answer = await exchange(gate, request)
    plain = shot(
        gate, f"{method} {path} HTTP/1.1", f"Content-Length: {len(body)}", "Connection: close", body=body
    )
    assert statuses(answer) == statuses(await exchange(gate, plain))
    assert b"\r\nupgrade:" not in answer.lower()


@pytest.mark.item(33)
@pytest.mark.parametrize(
    ("key", "length", "status"),
    [
        ("Authorization: Bearer gs_abc123_" + "x" * 32, 100, 401),
        ("X-Nothing: x", 100, 401),
        (None, 10**9, 413),
        (None, 10**18, 413),
    ],
)
async def test_an_unwelcome_body_is_not_asked_for(
    gate: Gate, key: str | None, length: int, status: int
) -> None:
    """The final answer comes without a 100, and the connection closes."""
    fields = [f"Content-Length: {length}", "Expect: 100-continue"]
    who = None if key else "alice"
    request = shot(gate, "POST /api/chat HTTP/1.1", *fields, *([key] if key else []), who=who)
    await refused(gate, request, status)


@pytest.mark.item(34)
@pytest.mark.parametrize("expect", ["something-else", "100-continue, x", "200-ok", "", "100-continued"])
async def test_another_expectation(gate: Gate, expect: str) -> None:
    """Nothing else can be expected."""
    await refused(gate, chat_shot(gate, f"Expect: {expect}"), 417)


@pytest.mark.parametrize("path", OWN)
@pytest.mark.parametrize("who", [None, "alice"])
async def test_what_every_answer_forbids_a_browser(gate: Gate, path: str, who: str | None) -> None:
    """No answer of ours is kept, guessed to be of another type, framed or given to another site."""
    for method, accept in (("GET", "text/html"), ("GET", "*/*"), ("HEAD", "*/*"), ("POST", "text/html")):
        async with dial(gate.port) as wire:
            await wire.send(
                shot(gate, f"{method} {path} HTTP/1.1", f"Accept: {accept}", "Connection: close", who=who)
            )
            head = (await wire.until(b"\r\n\r\n")).decode().lower()
        fields = dict(line.split(": ", 1) for line in head.splitlines()[1:] if line)
        assert fields["x-content-type-options"] == "nosniff"
        assert fields["server"] == "gpushare"
        assert "no-store" in fields["cache-control"] or path.startswith("/static/")
        if "html" in fields.get("content-type", ""):
            policy = fields["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert fields["referrer-policy"] == "same-origin"
            assert fields["cross-origin-resource-policy"] == "same-origin"
            assert fields["cross-origin-opener-policy"] == "same-origin"


async def test_two_expectations(gate: Gate) -> None:
    """Two are judged like one that is unknown, or answered; the call runs at most once."""
    answer = await exchange(gate, chat_shot(gate, "Expect: 100-continue", "Expect: x"))
    assert statuses(answer)[-1:] in ([200], [417])
    quotes_nothing(gate, answer)
    assert len(calls(gate)) <= 1
    assert statuses(answer)[-1] == 200 or nothing_ran(gate)
