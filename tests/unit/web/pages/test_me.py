"""The page of one person: what is theirs, and nothing else."""

import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from typing import cast

import msgspec
import pytest

from gpushare.core.keys import KeyRing, key_id
from gpushare.core.model import Outcome
from gpushare.edge.store import Store
from tests.unit.records import CALL
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


@pytest.fixture
async def used(site: Site) -> Site:
    """A site whose ledger has two calls of alice's, one of bob's, and refusals of both."""
    store = cast("Store", site.parts.ledger)
    now = time.time()
    for number, (name, outcome) in enumerate(
        [("alice", Outcome.OK), ("alice", Outcome.CANCELLED), ("bob", Outcome.OK)]
    ):
        store.append(
            msgspec.structs.replace(
                CALL,
                request_id=f"r_u{number}",
                person=name,
                owner=site.owners[name],
                model=f"model-of-{name}",
                tool=HOSTILE,
                outcome=outcome,
                ended_at=now - 60 * number,
            )
        )
    for name, count in (("alice", 3), ("bob", 4)):
        for number in range(count):
            store.append(
                msgspec.structs.replace(
                    CALL,
                    request_id=f"r_{name}{number}",
                    person=name,
                    owner=site.owners[name],
                    key_id=site.owners[name],
                    outcome=Outcome.REJECTED_KEY_LIMIT,
                    admitted=False,
                    ended_at=now,
                )
            )
    await store.flush()
    return site


async def test_the_page_tells_what_was_used(used: Site) -> None:
    """Sums, each call of the last day with its times and its end, and who was turned away why."""
    _, _, page = await used.get("/me", "alice")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    assert "Today: 8 s of GPU time, 2 requests, 20 tokens in, 40 out" in text
    assert "7 days: 8 s of GPU time, 2 requests" in text
    assert text.count("model-of-alice") == 2
    assert "ran 4 s waited 2 s 10 in, 20 out answered" in text
    assert "20 out cancelled" in text
    assert re.search(r"you had as many waiting as one person may have [\dmins ]+ ago 3 requests", text)
    bars = [attrs["width"] for tag, attrs in tags(page) if tag == "rect" and "fill-opacity" not in attrs]
    assert bars == ["100.0", *["0.0"] * 6]


async def test_nobody_else_s_use_is_there(used: Site) -> None:
    """Not even an admin's page has it, nor the table behind its link; a hostile tool is text."""
    for who in ("alice", "carol"):
        _, _, page = await used.get("/me", who)
        assert "model-of-bob" not in page
        assert HOSTILE not in page
        assert (f"<small>from {escape(HOSTILE)}, " in page) == (who == "alice")
        (link,) = [str(attrs["href"]) for tag, attrs in tags(page) if "csv" in str(attrs.get("href"))]
        status, headers, table = await used.get(link, who)
        assert (status, headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
        assert len(table.splitlines()) == (2 if who == "alice" else 1)


async def test_the_page_lives_without_the_ledger(site: Site) -> None:
    """When the figures cannot be read, the requests and the key are there all the same."""
    await cast("Store", site.parts.ledger).close()
    status, _, page = await site.get("/me", "alice")
    assert status == 200
    assert "The figures cannot be read now." in page
    assert ids(page) == ["r_3"]
