"""Who looks at a page: the key in the request wins over the session, and the API knows no session."""

import asyncio

import pytest

from tests.unit.web.browser import browser
from tests.unit.web.site import KEYS, Site


async def test_the_key_in_the_request_wins(site: Site) -> None:
    """Who is signed in and sends another key is the one of the key."""
    async with browser(site.url) as person:
        await person.sign_in(KEYS["alice"])
        shown = await person.get("/status", Authorization=f"Bearer {KEYS['bob']}")
        assert "bob (you)" in shown.text
        assert "alice (you)" not in shown.text


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/api/pull"])
async def test_the_api_takes_no_session(site: Site, path: str) -> None:
    """A browser cannot be made to spend GPU time: with the cookie alone there is no key."""
    async with browser(site.url) as person:
        await person.sign_in(KEYS["carol"])
        assert person.cookie
        shown = await person.post(path, {"model": "m"})
        assert (shown.status, "key_missing" in shown.text or "needs a key" in shown.text) == (401, True)


async def test_the_cancelling_of_scripts_takes_no_session(site: Site) -> None:
    """The JSON address wants the key itself."""
    async with browser(site.url) as person:
        await person.sign_in(KEYS["alice"])
        async with person.session.delete(f"{site.url}/gpushare/v1/queue/r_3") as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (401, "key_missing")


@pytest.mark.parametrize(
    "cookie", ["", "x", "gpushare_session", "gpushare_session=", "gpushare_session=a.b.c", "=;=;,"]
)
async def test_a_cookie_that_proves_nothing_is_nobody_s(site: Site, cookie: str) -> None:
    """The page is the one without a key."""
    status, _, page = await site.get("/status", Cookie=cookie)
    assert (status, "2. somebody" in page) == (200, True)


async def test_a_cookie_of_bytes_is_nobody_s(site: Site) -> None:
    """Bytes that are no text break nothing, even behind an id that exists."""
    key_id = KEYS["alice"].split("_")[1].encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    lines = b"Host: 127.0.0.1", b"Connection: close", b"Cookie: gpushare_session=" + key_id + b".\xff\xfe"
    writer.write(b"GET /status HTTP/1.1\r\n" + b"\r\n".join(lines) + b"\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_session_does_not_open_a_foreign_name(site: Site) -> None:
    """A rebinding page has the browser's cookie of its own name at most, and gets nothing."""
    async with browser(site.url) as person:
        await person.sign_in(KEYS["alice"])
        assert (await person.get("/status", Host="evil.example")).status == 421
        assert (await person.post("/logout", Host="evil.example")).status == 421
