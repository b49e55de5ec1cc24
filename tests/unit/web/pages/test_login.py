"""Signing in with a key, and out again."""

from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core.errors import KeysUnwritable
from gpushare.core.keys import KeyRing
from gpushare.web.pages.login import local_page
from tests.harness import every_log_line
from tests.unit.web.browser import Browser, browser
from tests.unit.web.site import KEYS, Site, tags


async def test_a_key_becomes_a_session(site: Site) -> None:
    """Who signs in is led on and seen as the key's person; who signs out is nobody again."""
    async with browser(site.url) as person:
        assert "2. somebody" in (await person.get("/status")).text
        shown = await person.post("/login", {"key": f" {KEYS['alice']}\n", "next": "/connect"})
        assert (shown.status, shown.location) == (303, "/connect")
        assert "2. alice (you)" in (await person.get("/status")).text
        assert (await person.get("/login?next=/connect/zed")).location == "/connect/zed"
        assert (await person.post("/logout")).location == "/status"
        assert person.cookie == ""
        assert "2. somebody" in (await person.get("/status")).text


async def test_a_copy_of_a_session_ends_with_it(site: Site) -> None:
    """Signing out ends the key's sessions in every browser; the key goes on, and so do others' sessions."""
    async with browser(site.url) as person, browser(site.url) as elsewhere, browser(site.url) as other:
        await other.sign_in(KEYS["bob"])
        await elsewhere.sign_in(KEYS["alice"])
        await person.sign_in(KEYS["alice"])
        copy = person.cookie
        await person.post("/logout")
        assert (await person.get("/login", Cookie=f"gpushare_session={copy}")).status == 200
        assert (await elsewhere.get("/login")).status == 200
        assert (await other.get("/login")).status == 303
        assert (await site.get("/gpushare/v1/whoami", "alice"))[0] == 200
        await person.sign_in(KEYS["alice"])
        assert (await person.get("/login")).status == 303


async def test_a_void_session_signs_nobody_out(site: Site) -> None:
    """Who holds no good session, or only a key, ends nobody's."""
    async with browser(site.url) as person, browser(site.url) as stranger:
        await person.sign_in(KEYS["alice"])
        copy = person.cookie
        key = {"Authorization": f"Bearer {KEYS['alice']}"}
        several: tuple[dict[str, str], ...] = ({}, {"Cookie": f"gpushare_session={copy[:-1]}"}, key)
        for headers in several:
            assert (await stranger.post("/logout", None, **headers)).location == "/status"
        assert (await person.get("/login")).status == 303


async def test_who_cannot_be_signed_out_everywhere_is_told_so(site: Site) -> None:
    """The browser forgets its session in any case; that it is good elsewhere is said, and logged."""

    async def fail(_change: object) -> None:
        raise KeysUnwritable

    async with browser(site.url) as person:
        await person.sign_in(KEYS["alice"])
        site.parts.key_store.edit = fail  # type: ignore[union-attr, method-assign]
        with every_log_line() as lines:
            shown = await person.post("/logout")
        assert (shown.status, person.cookie) == (200, "")
        assert "only in this browser" in shown.text
    assert [line["error"] for line in lines if line["event"] == "session.left"] == ["KeysUnwritable"]


def cookie_of(set_cookie: str) -> dict[str, object]:
    """Returns the attributes of a session cookie."""
    morsel = SimpleCookie(set_cookie)["gpushare_session"]
    return {name: value for name, value in morsel.items() if value}


async def test_the_cookie_is_for_the_server_alone(site: Site, public_site: Site) -> None:
    """No script reads it, no foreign form brings it, and with https it is never sent in clear."""
    form = {"key": KEYS["alice"]}
    async with site.client.post("/login", data=form, allow_redirects=False) as answer:
        attributes = cookie_of(answer.headers["Set-Cookie"])
        assert KEYS["alice"] not in answer.headers["Set-Cookie"]
    assert attributes == {"max-age": "2592000", "path": "/", "httponly": True, "samesite": "Lax"}
    async with public_site.client.post("/login", data=form, allow_redirects=False) as answer:
        assert cookie_of(answer.headers["Set-Cookie"])["secure"] is True


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "yours starts with something else"),
        ("sk-1234", "Keys start with gs_ and are 42 characters long; yours starts with something else."),
        ("gs_123456_abc", "Keys start with gs_ and are 42 characters long; yours has 13."),
        ("gs_00ff00_" + "a" * 32, "Copy it once more"),
    ],
    ids=["nothing", "another", "short", "unknown"],
)
async def test_a_wrong_key_is_explained(site: Site, key: str, words: str) -> None:
    """The page says what a key looks like, is tied to its field, and never repeats what was typed."""
    async with browser(site.url) as person:
        shown = await person.post("/login", {"key": key, "next": "/me"})
        assert shown.status == 401
        assert "This key is not known here." in shown.text
        assert words in shown.text
        assert not key or key not in shown.text
        assert person.cookie == ""
        field = next(attrs for tag, attrs in tags(shown.text) if attrs.get("name") == "key")
        assert field["aria-describedby"] == "login-problem"
        assert 'id="login-problem"' in shown.text
        assert ("input", "/me") in [(tag, attrs.get("value")) for tag, attrs in tags(shown.text)]


async def test_wrong_and_unknown_look_the_same(site: Site) -> None:
    """Nobody learns from the page that a key with this id exists."""
    known = KEYS["alice"][:-6]
    async with browser(site.url) as person:
        pages = [
            (await person.post("/login", {"key": key + "zzzzzz"})).text
            for key in (known, "gs_ffffff_" + known[10:])
        ]
    assert pages[0] == pages[1]


async def test_whoever_shows_an_ended_key_is_told_so(site: Site) -> None:
    """The holder of the whole key has proved possession, and learns why it no longer works."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    site.parts.ring = KeyRing(
        msgspec.structs.replace(record, revoked=yesterday) for record in site.parts.ring.records
    )
    async with browser(site.url) as person:
        shown = await person.sign_in(KEYS["alice"])
        assert (shown.status, "The key of alice was revoked." in shown.text) == (401, True)


async def fail(person: Browser, times: int) -> list[int]:
    """Tries a wrong key so many times and returns what came of it."""
    return [(await person.sign_in("gs_wrong")).status for _ in range(times)]


async def test_the_eleventh_wrong_key_within_a_minute_is_told_to_wait(site: Site) -> None:
    """A guesser waits; the right key is taken from the same address all the same."""
    async with browser(site.url) as person:
        assert await fail(person, 11) == [401] * 10 + [429]
        shown = await person.sign_in("gs_wrong")
        told = int(shown.headers["Retry-After"])
        assert f"Too many wrong keys came from this address. Try again in about {told} s." in shown.text
        assert (await person.sign_in(KEYS["alice"])).status == 303


@given(st.text())
def test_no_form_leads_away(path: str) -> None:
    """Only pages of ours are gone to, whatever the form says."""
    assert local_page(path) in {path, "/status"}
    assert local_page(f"//{path}") == "/status"
    assert local_page(f"https://{path}") == "/status"
    assert local_page(f"/connect/../{path}") == "/status"


@pytest.mark.parametrize("path", ["/me", "/status", "/connect", "/connect/open-webui", "/admin", "/help"])
def test_our_pages_are_gone_to(path: str) -> None:
    """Each page that may ask for a key is come back to."""
    assert local_page(path) == path


async def test_a_closed_server_offers_the_form(closed_site: Site) -> None:
    """Where the status page needs a key, the key is asked for there."""
    async with browser(closed_site.url) as person:
        shown = await person.get("/status")
        assert (shown.status, 'action="/login"' in shown.text) == (401, True)
        await person.sign_in(KEYS["alice"])
        assert (await person.get("/status")).status == 200
