"""Keys made, changed and ended by admins on the pages."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from gpushare.core.keys import KeyRecord, KeyState
from gpushare.core.model import Role
from tests.unit.web.browser import Browser, Shown, browser
from tests.unit.web.pages.test_controls import actions
from tests.unit.web.site import HOSTILE, KEYS, Site, tags, text_of

KEY = re.compile(r"gs_[0-9a-f]{6}_\w{32}")


@pytest.fixture
async def admin(site: Site) -> AsyncIterator[Browser]:
    """A browser of carol's, who is the admin."""
    async with browser(site.url) as visitor:
        await visitor.sign_in(KEYS["carol"])
        yield visitor


def named(site: Site, name: str) -> KeyRecord:
    """Returns the newest key of a name."""
    return max((one for one in site.parts.ring.records if one.name == name), key=lambda one: one.made)


def link_of(shown: Shown) -> str:
    """Returns the path of the link on a page."""
    (path,) = set(re.findall(r"/welcome/[\w-]+", shown.text))
    return str(path)


async def test_a_key_is_handed_over_by_a_link(site: Site, admin: Browser) -> None:
    """The admin never sees the key; whoever opens the link does, once."""
    shown = await admin.post("/admin/keys/new", {"name": "erin", "weight": "2", "models": "m n"})
    assert (shown.status, shown.headers["Cache-Control"]) == (200, "no-store")
    assert KEY.search(shown.text) is None
    assert "gpushare key add erin --weight 2 --model m --model n" in text_of(shown.text)
    made = named(site, "erin")
    assert (made.weight, made.models, made.role, made.owner) == (2.0, ("m", "n"), Role.PERSON, made.id)
    async with browser(site.url) as erin:
        opened = await erin.post(link_of(shown))
        (secret,) = set(KEY.findall(opened.text))
        assert (await erin.post(link_of(shown))).status == 410
    assert site.parts.ring.authenticate(secret, now=datetime.now(UTC), host="h").name == "erin"
    (act,) = await actions(site)
    assert (act.what, act.target, act.detail) == ("key add", made.id, "erin")


async def test_a_key_is_shown_if_asked_for(site: Site, admin: Browser) -> None:
    """Once, next to the link, which makes it void."""
    shown = await admin.post("/admin/keys/new", {"name": "erin", "hand": "key"})
    (secret,) = set(KEY.findall(shown.text))
    now = datetime.now(UTC)
    assert site.parts.ring.authenticate(secret, now=now, host="h").name == "erin"
    assert secret not in (await admin.get(f"/admin/keys/{named(site, 'erin').id}")).text
    async with browser(site.url) as erin:
        await erin.post(link_of(shown))
    with pytest.raises(Exception, match="not valid here"):
        site.parts.ring.authenticate(secret, now=now, host="h")


async def test_what_was_typed_stays(site: Site, admin: Browser) -> None:
    """Each mistake is told at its field, tied to it, and nothing is made; no key is ever in the form."""
    before = site.parts.ring
    typed = {"name": HOSTILE, "weight": "nan", "models": "m", "hand": "key", "role": "admin"}
    shown = await admin.post("/admin/keys/new", typed)
    fields = {attrs.get("name"): attrs for tag, attrs in tags(shown.text) if tag == "input"}
    assert shown.status == 422
    assert fields["name"]["value"] == HOSTILE
    assert (fields["weight"]["value"], fields["models"]["value"]) == ("nan", "m")
    assert fields["name"]["aria-describedby"] == "name-wrong"
    assert ("small", {"id": "name-wrong", "class": "problem"}) in tags(shown.text)
    assert "checked" in fields["hand"]
    assert ("option", {"value": "admin", "selected": None}) in tags(shown.text)
    assert "img" not in {tag for tag, _ in tags(shown.text)}
    assert KEY.search(shown.text) is None
    assert site.parts.ring is before


async def test_a_name_that_is_taken_is_told_at_the_field(site: Site, admin: Browser) -> None:
    """For a new key and for a new name; everything else that was typed is there."""
    for path in ("/admin/keys/new", f"/admin/keys/{site.owners['alice']}"):
        shown = await admin.post(path, {"name": "B0B", "weight": "3"})
        assert shown.status == 422
        assert "bob has a key, and this is the same name or reads like it." in shown.text
        assert ("input", "3") in [(tag, attrs.get("value")) for tag, attrs in tags(shown.text)]
    assert await actions(site) == []


async def test_terms_are_changed(site: Site, admin: Browser) -> None:
    """What differs is changed at once and noted in words; the rest stays to the second."""
    alice = site.owners["alice"]
    end = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    site.parts.ring = site.parts.ring.changed([alice], expires=end)
    page = await admin.get(f"/admin/keys/{alice}")
    typed = {
        str(attrs["name"]): str(attrs["value"])
        for tag, attrs in tags(page.text)
        if tag == "input" and "value" in attrs
    }
    shown = await admin.post(f"/admin/keys/{alice}", {**typed, "weight": "2", "max_waiting": "3"})
    assert (shown.status, shown.location) == (303, f"/admin/keys/{alice}?done=changed")
    record = named(site, "alice")
    assert (record.weight, record.max_waiting, record.expires) == (2.0, 3, end)
    assert [act.detail for act in await actions(site)] == ["alice: weight 2, max waiting 3"]
    page = await admin.get(shown.location)
    assert "The key is changed." in page.text
    assert f"gpushare key set {alice} --role person" in text_of(page.text)
    same = await admin.post(f"/admin/keys/{alice}", {"weight": "2"})
    assert same.location.endswith("?done=same")


async def test_a_key_is_turned_off_and_on(site: Site, admin: Browser) -> None:
    """By one form, which says what it will do."""
    alice = site.owners["alice"]
    await admin.post(f"/admin/keys/{alice}/switch")
    assert named(site, "alice").disabled
    assert f"gpushare key set {alice} --enable" in text_of((await admin.get(f"/admin/keys/{alice}")).text)
    await admin.post(f"/admin/keys/{alice}/switch")
    assert not named(site, "alice").disabled
    assert [(act.what, act.detail) for act in await actions(site)] == [
        ("key set", "alice: enabled"),
        ("key disable", "alice"),
    ]


async def test_a_key_is_replaced(site: Site, admin: Browser) -> None:
    """The new one comes by a link, the old one works on for a day; a key that is off is not replaced."""
    alice = site.owners["alice"]
    shown = await admin.post(f"/admin/keys/{alice}/rotate")
    assert "The old key works until" in shown.text
    assert KEY.search(shown.text) is None
    now = datetime.now(UTC)
    old = site.parts.ring.get(alice)
    assert old is not None
    assert old.state(now + timedelta(hours=23)) is KeyState.ACTIVE
    assert old.state(now + timedelta(hours=25)) is KeyState.EXPIRED
    new = named(site, "alice")
    assert (new.id != alice, new.owner) == (True, alice)
    page = text_of((await admin.get(f"/admin/keys/{new.id}")).text)
    assert f"alice has {alice} as well." in page
    await admin.post(f"/admin/keys/{new.id}/switch")
    assert (await admin.post(f"/admin/keys/{new.id}/rotate")).status == 404


async def test_a_key_is_revoked_after_a_question(site: Site, admin: Browser) -> None:
    """The page that asks changes nothing; afterwards nothing more can be done with the key."""
    alice = site.owners["alice"]
    site.go_live()
    asked = await admin.get(f"/admin/keys/{alice}/revoke")
    assert f"Revoke the key {alice} of alice?" in asked.text
    assert "It has 1 request here" in asked.text
    assert named(site, "alice").revoked is None
    shown = await admin.post(f"/admin/keys/{alice}/revoke")
    assert shown.location == f"/admin/keys/{alice}?done=revoked"
    assert named(site, "alice").revoked is not None
    page = await admin.get(shown.location)
    assert "What it may do" not in page.text
    for path in ("", "/switch", "/rotate", "/revoke"):
        assert (await admin.post(f"/admin/keys/{alice}{path}", {"weight": "2"})).status == 404, path
    assert [act.what for act in await actions(site)] == ["key revoke"]


@pytest.mark.parametrize(("path", "fields"), [("", {"role": "person"}), ("/switch", {}), ("/revoke", {})])
async def test_the_last_admin_stays(site: Site, admin: Browser, path: str, fields: dict[str, str]) -> None:
    """It is told why, and nothing is changed."""
    before = site.parts.ring
    shown = await admin.post(f"/admin/keys/{site.owners['carol']}{path}", fields)
    assert (shown.status, "This is the last key of an admin." in shown.text) == (422, True)
    assert site.parts.ring is before


@pytest.mark.parametrize(
    "path", ["/admin/keys/ffffff", "/admin/keys/ffffff/revoke", f"/admin/keys/{HOSTILE}"]
)
async def test_an_unknown_key_is_told(admin: Browser, path: str) -> None:
    """The id is not repeated."""
    shown = await admin.get(path)
    assert shown.status == 404
    assert "img" not in {tag for tag, _ in tags(shown.text)}
