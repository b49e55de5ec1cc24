"""A key on a page: once, for its holder alone, and in no other place."""

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from gpushare.core.keys import KeyRing, key_id, link_token, offered
from tests.unit.web.browser import Shown, browser
from tests.unit.web.site import HOSTILE, KEYS, Site, tags

TOKEN = link_token(b"a token for the tests of links")
LINK = f"/welcome/{TOKEN}"
BOB = key_id(KEYS["bob"])


@pytest.fixture
def link(site: Site) -> str:
    """The address of a link to bob's key."""
    site.parts.ring = offered(site.parts.ring, BOB, TOKEN, datetime.now(UTC))
    return LINK


def shown_key(shown: Shown) -> str:
    """Returns the one key on a page."""
    (key,) = set(re.findall(r"gs_[0-9a-f]{6}_\w{32}", shown.text))
    return str(key)


async def test_a_link_gives_a_key_and_a_session(site: Site, link: str) -> None:
    """The page asks first, then shows the key with everything filled in; the browser is signed in."""
    async with browser(site.url) as person:
        asked = await person.get(link)
        assert (asked.status, "A key for bob" in asked.text, "gs_" in asked.text) == (200, True, False)
        shown = await person.post(link)
        key = shown_key(shown)
        assert shown.headers["Cache-Control"] == "no-store"
        assert site.parts.ring.authenticate(key, now=datetime.now(UTC), host="h").name == "bob"
        assert f"OPENAI_API_KEY={key}" in shown.text
        assert "bob (you)" in (await person.get("/status")).text


async def test_looking_at_a_link_does_not_open_it(site: Site, link: str) -> None:
    """Programs that follow links to show what is behind them use nothing up."""
    async with browser(site.url) as robot:
        for _ in range(3):
            assert (await robot.get(link)).status == 200
        async with robot.session.head(site.url + link) as answer:
            assert answer.status == 200
        assert robot.cookie == ""
        assert (await robot.post(link)).status == 200


async def test_a_link_opens_once(site: Site, link: str) -> None:
    """The second opening says so and what to do, and shows no key."""
    async with browser(site.url) as first, browser(site.url) as second:
        key = shown_key(await first.post(link))
        for shown in (await second.post(link), await second.get(link)):
            assert shown.status == 410
            assert "A link opens once, within 24 hours. Ask whoever sent it for a new one." in shown.text
            assert "gs_" not in shown.text
        assert second.cookie == ""
        assert site.parts.ring.authenticate(key, now=datetime.now(UTC), host="h").name == "bob"


async def test_a_link_runs_out(site: Site) -> None:
    """After a day it is as good as none."""
    site.parts.ring = offered(site.parts.ring, BOB, TOKEN, datetime.now(UTC) - timedelta(hours=24))
    before = site.parts.ring
    async with browser(site.url) as person:
        assert (await person.get(LINK)).status == 410
        assert (await person.post(LINK)).status == 410
    assert site.parts.ring is before


async def test_used_up_and_made_up_look_the_same(site: Site, link: str) -> None:
    """Nobody learns from an answer whether a link ever was."""
    async with browser(site.url) as person:
        await person.post(link)
        made_up = link_token(bytes(24))
        for ask in (person.get, person.post):
            used, none = await ask(link), await ask(f"/welcome/{made_up}")
            assert (used.status, used.text) == (none.status, none.text)


async def test_a_foreign_page_opens_no_link(site: Site, link: str) -> None:
    """Nobody is signed in as somebody else by a page they happen to visit."""
    async with browser(site.url) as person:
        assert (await person.post(link, Origin="https://evil.example")).status == 403
        assert (await person.post(link)).status == 200


async def test_a_hostile_name_stays_text(site: Site) -> None:
    """P34: a name in the key file that no command would have taken is shown, not obeyed."""
    ring = KeyRing(
        msgspec.structs.replace(record, name=HOSTILE) if record.id == BOB else record
        for record in site.parts.ring.records
    )
    site.parts.ring = offered(ring, BOB, TOKEN, datetime.now(UTC))
    async with browser(site.url) as person:
        for shown in (await person.get(LINK), await person.post(LINK)):
            assert shown.status == 200
            assert "&lt;img" in shown.text
            assert "img" not in {tag for tag, _ in tags(shown.text)}


async def test_a_holder_replaces_a_key(site: Site) -> None:
    """The answer shows the new key, the session goes on with it, and the old key has a day."""
    async with browser(site.url) as person:
        await person.sign_in(KEYS["alice"])
        shown = await person.post("/me/key")
        key = shown_key(shown)
        assert (shown.status, shown.headers["Cache-Control"]) == (200, "no-store")
        assert "Your old key works until" in shown.text
        assert person.cookie.startswith(key_id(key))
        ring, now = site.parts.ring, datetime.now(UTC)
        assert ring.authenticate(key, now=now, host="h").owner == site.owners["alice"]
        assert ring.active(key_id(KEYS["alice"]), now + timedelta(hours=23))
        assert not ring.active(key_id(KEYS["alice"]), now + timedelta(hours=24))


async def test_a_key_that_leaked_ends_at_once(site: Site) -> None:
    """The holder may end the old key together with its sessions."""
    async with browser(site.url) as person, browser(site.url) as thief:
        for one in (person, thief):
            await one.sign_in(KEYS["alice"])
        shown = await person.post("/me/key", {"old": "ends"})
        assert "Your old key has ended." in shown.text
        assert "alice (you)" in (await person.get("/status")).text
        assert "somebody" in (await thief.get("/status")).text


async def test_a_replaced_key_makes_no_other(site: Site) -> None:
    """A browser still signed in with the old key is told what to do."""
    async with browser(site.url) as person, browser(site.url) as other:
        for one in (person, other):
            await one.sign_in(KEYS["alice"])
        await person.post("/me/key")
        before = site.parts.ring
        shown = await other.post("/me/key")
        assert shown.status == 403
        assert "has been replaced by a newer one" in shown.text
        assert site.parts.ring is before


async def test_who_is_not_signed_in_replaces_nothing(site: Site) -> None:
    """The form leads to the sign-in; from a foreign page it leads nowhere."""
    before = site.parts.ring
    async with browser(site.url) as person:
        shown = await person.post("/me/key")
        assert (shown.status, shown.location) == (303, "/login?next=/me")
        await person.sign_in(KEYS["alice"])
        assert (await person.post("/me/key", Origin="https://evil.example")).status == 403
    assert site.parts.ring is before
