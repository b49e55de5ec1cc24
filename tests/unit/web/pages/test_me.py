"""The page of one person: what is theirs, and nothing else."""

from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from gpushare.core.keys import KeyRing, key_id
from tests.unit.web.browser import browser
from tests.unit.web.site import HOSTILE, KEYS, Site, tags


async def test_who_is_not_signed_in_is_asked_for_a_key(site: Site) -> None:
    """The page leads to the sign-in, which leads back."""
    async with browser(site.url) as person:
        assert (await person.get("/me")).location == "/login?next=/me"
        assert (await person.sign_in(KEYS["alice"])).location == "/me"
        assert (await person.get("/me")).status == 200


def ids(page: str) -> list[str | None]:
    """Returns the ids of the calls that a page can end."""
    return [attrs.get("value") for _, attrs in tags(page) if attrs.get("name") == "id"]


async def test_own_calls_have_a_button(site: Site) -> None:
    """One's own calls can be ended, and nobody else's, not even by an admin on this page."""
    assert ids((await site.get("/me", "alice"))[2]) == ["r_3"]
    assert ids((await site.get("/me", "bob"))[2]) == ["r_1"]
    assert ids((await site.get("/me", "carol"))[2]) == ["r_2"]


async def test_every_own_call_has_a_button_here(site: Site) -> None:
    """The card lists three; the others stand below it."""
    row = next(row for row in site.queue.view.waiting if row.owner == site.owners["alice"])
    more = tuple(replace(row, id=f"r_{number}", position=number) for number in range(4, 9))
    site.queue.view = replace(site.queue.view, waiting=(*site.queue.view.waiting, *more))
    _, _, page = await site.get("/me", "alice")
    assert ids(page) == ["r_3", *(f"r_{number}" for number in range(4, 9))]
    assert "7th in line" in page
    _, _, page = await site.get("/status", "alice")
    assert ids(page) == ["r_3", "r_4", "r_5"]
    assert ("a", {"href": "/me#calls"}) in tags(page)


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
    _, _, page = await site.get("/me?cancelled=hostile", "alice")
    assert "hostile" not in page


async def test_cancelling_needs_a_viewer(site: Site) -> None:
    """Without a session the form leads to the sign-in; a call that is not there leads back with a word."""
    async with browser(site.url) as person:
        here = {"Referer": f"{site.url}/me?cancelled=yes"}
        assert (await person.post("/me/cancel", {"id": "r_3"}, **here)).location == "/login?next=/me"
        await person.sign_in(KEYS["alice"])
        shown = await person.post("/me/cancel", {"id": "nonsense"}, **here)
        assert (shown.status, shown.location) == (303, "/me?cancelled=no")


@pytest.mark.parametrize(
    "referer", ["", "https://evil.example/x", "//evil.example", "http://[", "/admin/../x"]
)
async def test_a_form_leads_back_to_a_page_of_ours(site: Site, referer: str) -> None:
    """Whatever the request says it came from."""
    async with browser(site.url) as person:
        await person.sign_in(KEYS["alice"])
        shown = await person.post("/me/cancel", {"id": "x"}, Referer=referer)
        assert (shown.status, shown.location) == (303, "/status?cancelled=no")
