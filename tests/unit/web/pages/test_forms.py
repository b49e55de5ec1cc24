"""Forms are taken from our own pages alone, small, and refused in words."""

import json

import aiohttp
import pytest

from gpushare.web.pages.forms import FORM_MAX_BYTES, FORM_MAX_FIELDS, FORM_TYPE
from tests.unit.web.browser import browser
from tests.unit.web.site import KEYS, Site

FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_a_form_of_another_page_is_refused(site: Site, headers: dict[str, str]) -> None:
    """Neither another origin, nor another port, nor a sibling name may use the session of a browser."""
    async with browser(site.url) as person:
        await person.sign_in(KEYS["alice"])
        shown = await person.post("/logout", {}, **headers)
        assert shown.status == 403
        assert person.cookie, "the session is as it was"


async def test_a_form_of_a_listed_origin_is_refused_too(listed_site: Site) -> None:
    """An origin that may use the API may not use the pages."""
    async with browser(listed_site.url) as person:
        await person.sign_in(KEYS["alice"])
        shown = await person.post("/logout", Origin="https://chat.example")
        assert shown.status == 403
        assert "not sent from a page of this server" in shown.text
        assert "<h1>Not done</h1>" in shown.text


async def test_a_form_that_comes_from_nowhere_has_no_session(site: Site) -> None:
    """Without a word of where it comes from a form is a program's, which may not use a session."""
    async with browser(site.url) as person:
        await person.sign_in(KEYS["alice"])
        cookies = {"Cookie": f"gpushare_session={person.cookie}"}
        async with aiohttp.ClientSession(site.url) as program:
            async with program.post("/logout", headers=cookies, data={}, allow_redirects=False) as answer:
                assert answer.status == 403
                assert (await answer.json())["error"]["code"] == "origin_denied"
            async with program.post("/logout", data={}, allow_redirects=False) as answer:
                assert answer.status == 303


async def test_a_form_behind_a_proxy_is_ours(public_site: Site) -> None:
    """A proxy may hand on another Host: the public address is ours as well."""
    async with browser(public_site.url) as person:
        shown = await person.post("/login", {"key": KEYS["alice"]}, Origin="https://gpu.example.lan")
        assert shown.status == 303


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"key=" + b"x" * FORM_MAX_BYTES, FORM_TYPE, 413, "body_too_large"),
        (b"a=&" * (FORM_MAX_FIELDS + 1), FORM_TYPE, 400, "malformed_body"),
        (b"key=%ff", FORM_TYPE, 400, "malformed_body"),
        (b"\xff", FORM_TYPE, 400, "malformed_body"),
        (b'{"key":"x"}', "application/json", 415, "unsupported_media"),
        (b"", "multipart/form-data; boundary=x", 415, "unsupported_media"),
    ],
    ids=["large", "many", "coded", "bytes", "json", "multipart"],
)
async def test_what_is_no_form_of_ours_is_refused(
    site: Site, body: bytes, content_type: str, status: int, code: str
) -> None:
    """Large, overfull, unreadable or in another form: an error object for programs."""
    headers = {"Content-Type": content_type}
    async with (
        aiohttp.ClientSession(site.url) as program,
        program.post("/login", data=body, headers=headers) as answer,
    ):
        assert (answer.status, json.loads(await answer.read())["error"]["code"]) == (status, code)


async def test_an_address_without_a_page_takes_forms_alone(site: Site) -> None:
    """Following a link to it changes nothing."""
    status, headers, _ = await site.get("/logout")
    assert (status, headers["Allow"]) == (405, "POST")
    async with site.client.delete("/login") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, POST")
