"""The page of one person: what is theirs, and nothing else."""

from datetime import UTC, datetime

import msgspec

from gpushare.core.keys import KeyRing, key_id
from tests.unit.web.browser import browser
from tests.unit.web.site import HOSTILE, KEYS, Site, tags


async def test_who_is_not_signed_in_is_asked_for_a_key(site: Site) -> None:
    """The page leads to the sign-in, which leads back."""
    async with browser(site.url) as person:
        assert (await person.get("/me")).location == "/login?next=/me"
        assert (await person.sign_in(KEYS["alice"])).location == "/me"
        assert (await person.get("/me")).status == 200


async def test_the_page_shows_own_calls_alone(site: Site) -> None:
    """One's own calls are there with a button each; nobody else's id is, and names only of those in front."""
    _, _, page = await site.get("/me", "alice")
    fields = [attrs.get("value") for tag, attrs in tags(page) if attrs.get("name") == "id"]
    assert fields == ["r_3"]
    assert "Place 2 in line, about 25 s" in page
    assert not [
        word
        for word in ("r_1", "r_2", *site.owners.values())
        if word in page.replace(site.owners["alice"], "")
    ]
    _, _, page = await site.get("/me", "bob")
    fields = [attrs.get("value") for tag, attrs in tags(page) if attrs.get("name") == "id"]
    assert fields == ["r_1"]
    assert "Running" in page


async def test_the_page_says_what_the_key_is_worth(site: Site) -> None:
    """Weight and end of the key stand there in words."""
    alice = key_id(KEYS["alice"])
    end = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
    site.parts.ring = site.parts.ring.changed([alice], weight=2.0, expires=end)
    _, _, page = await site.get("/me", "alice")
    assert "Your weight is 2: you get twice a normal share when others wait." in page
    assert "ends on 2030-01-02 at 03:04 UTC" in page


async def test_names_and_models_are_text(site: Site) -> None:
    """P34: a hostile model or name is shown, not obeyed."""
    site.parts.ring = KeyRing(
        msgspec.structs.replace(record, name=HOSTILE) for record in site.parts.ring.records
    )
    _, _, page = await site.get("/me", "alice")
    assert "&lt;img src=x" in page
    assert HOSTILE not in page
    assert "img" not in {tag for tag, _ in tags(page)}


async def test_what_came_of_a_form_is_told(site: Site) -> None:
    """Only words of ours are shown, whatever the address says."""
    _, _, page = await site.get("/me?cancelled=yes", "alice")
    assert "The request is cancelled." in page
    _, _, page = await site.get("/me?cancelled=no", "alice")
    assert "had ended before" in page
    _, _, page = await site.get(f"/me?cancelled={'hostile'}", "alice")
    assert "hostile" not in page


async def test_cancelling_needs_a_viewer(site: Site) -> None:
    """Without a session the form leads to the sign-in; a call that is not there leads back with a word."""
    async with browser(site.url) as person:
        assert (await person.post("/me/cancel", {"id": "r_3", "next": "/me"})).location == "/login?next=/me"
        await person.sign_in(KEYS["alice"])
        shown = await person.post("/me/cancel", {"id": "nonsense", "next": "/status"})
        assert (shown.status, shown.location) == (303, "/status?cancelled=no")
        assert (
            await person.post("/me/cancel", {"next": "https://evil.example"})
        ).location == "/status?cancelled=no"
