"""The status page, and the same as JSON."""

import json
from dataclasses import replace

import pytest

from gpushare.core.views import Delay, Reason
from tests.unit.web.site import HOSTILE, PEOPLE, Site, tags, text_of


async def test_page_shows_the_queue(site: Site) -> None:
    """The first line answers what is going on, the card where one is, the tables tell who and when."""
    status, _, page = await site.get("/status", "alice")
    shown = text_of(page)
    assert status == 200
    for words in (
        "(you: 2) Busy · gpushare on",
        "Busy: 1 running, 2 waiting A new request would start in about 1 min 30 s · host",
        "You, alice 2nd in line, about 25 s",
        "bob qwen3-coder:30b 31 s",
        "1. carol",
        "2. alice (you)",
        "loads the model first about 25 s",
    ):
        assert words in shown


async def test_page_offers_to_sign_in(site: Site) -> None:
    """Without a key the card is a form with one field, which no address and no history keeps."""
    _, _, page = await site.get("/status")
    form, field = (next(attrs for tag, attrs in tags(page) if tag == name) for name in ("form", "input"))
    assert (form["method"], form["action"]) == ("post", "/login")
    assert (field["type"], field["autocomplete"]) == ("password", "current-password")
    assert "Your key Show my place" in text_of(page)


async def test_page_says_why_an_estimate_grew(site: Site) -> None:
    """The reason stands in the row, with the name as this viewer sees it."""
    row = replace(site.queue.view.waiting[0], reason=Reason(delay=Delay.LONGER, owner=site.owners["bob"]))
    site.queue.view = replace(site.queue.view, waiting=(row,))
    _, _, own = await site.get("/status", "alice")
    _, _, anonymous = await site.get("/status")
    assert "bob&#39;s answer is longer than usual" in own
    assert "somebody&#39;s answer is longer than usual" in anonymous


async def test_page_without_a_key_names_nobody(site: Site) -> None:
    """The anonymous page and document hold no person's name and no key id."""
    for path in ("/status", "/gpushare/v1/status"):
        _, _, text = await site.get(path)
        assert "somebody" in text
        assert not [word for word in (*PEOPLE, *site.owners.values()) if word in text]


@pytest.mark.item(75)
async def test_page_escapes_what_it_shows(site: Site) -> None:
    """P34: a hostile name is text, not markup."""
    _, _, page = await site.get("/status")
    assert HOSTILE not in page
    assert "&lt;img src=x" in page
    assert not [attrs for tag, attrs in tags(page) if tag == "img" or any(n.startswith("on") for n in attrs)]


async def test_page_renews_itself_until_paused(site: Site) -> None:
    """Without a script the page reloads every ten seconds, and a link stops that."""
    _, _, page = await site.get("/status")
    assert '<noscript><meta http-equiv="refresh" content="10; url=/status"></noscript>' in page
    _, _, page = await site.get("/status?paused")
    assert "http-equiv" not in page


async def test_document_is_the_page_in_json(site: Site) -> None:
    """The JSON has the schema's name and what the viewer may see."""
    status, headers, text = await site.get("/gpushare/v1/status", "alice")
    document = json.loads(text)
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert document["schema"] == "gpushare.status/1"
    assert [row["who"] for row in document["waiting"]] == ["carol", "alice"]
    assert document["day"]["requests"] == 0


async def test_closed_server_asks_for_a_key(closed_site: Site) -> None:
    """With ``status.anonymous = "off"`` the page explains itself and the JSON is a 401; a key opens both."""
    status, _, page = await closed_site.get("/status")
    assert (status, "needs a key" in page, "qwen3" in page) == (401, True, False)
    status, _, text = await closed_site.get("/gpushare/v1/status")
    assert (status, json.loads(text)["error"]["code"]) == (401, "key_missing")
    assert (await closed_site.get("/status", "alice"))[0] == 200


async def test_wrong_key_is_refused(site: Site) -> None:
    """A key that is not valid is told so, not shown the anonymous page."""
    headers = {"Authorization": "Bearer gs_000000_wrong"}
    status, _, text = await site.get("/gpushare/v1/status", **headers)
    assert (status, json.loads(text)["error"]["code"]) == (401, "key_unknown")
