"""Why a call waits, over a real socket."""

import json

from msgspec import structs

from tests.unit.web.site import HOSTILE, PEOPLE, Site, tags


async def test_nobody_is_told_without_a_key(site: Site) -> None:
    """It is about own calls."""
    status, _, text = await site.get("/gpushare/v1/queue")
    assert (status, json.loads(text)["error"]["code"]) == (401, "key_missing")


async def test_a_person_is_told_of_own_calls(site: Site) -> None:
    """With everybody before them, and no key id of anybody."""
    status, headers, text = await site.get("/gpushare/v1/queue", "alice")
    told = json.loads(text)
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert [place["who"] for place in told["line"]] == ["bob", "carol", "alice"]
    assert [(call["id"], call["position"]) for call in told["calls"]] == [("r_3", 2)]
    assert not [owner for owner in site.owners.values() if owner in text]


async def test_an_admin_is_told_of_all(site: Site) -> None:
    """Each waiting call."""
    _, _, text = await site.get("/gpushare/v1/queue", "carol")
    assert [call["who"] for call in json.loads(text)["calls"]] == ["carol", "alice"]


async def test_names_are_hidden_if_the_configuration_says_so(site: Site) -> None:
    """Neither the document nor the page has them."""
    config = site.parts.config
    site.parts.config = structs.replace(config, status=structs.replace(config.status, people="hidden"))
    for path in ("/gpushare/v1/queue", "/me"):
        _, _, text = await site.get(path, "alice")
        assert "somebody" in text
        assert not [name for name in PEOPLE if name != "alice" and name in text]


async def test_ones_own_page_says_why(site: Site) -> None:
    """Under a fold for each own waiting call; models of others are text."""
    _, _, page = await site.get("/me", "alice")
    assert ("ul", {"id": "why-r_3"}) in tags(page)
    assert "<h2>Why you wait</h2>" in page
    assert "<summary>2nd in line, " in page
    assert "GPU time since the start: 5 s used" in page
    assert HOSTILE not in page
    _, _, page = await site.get("/me", "bob")
    assert "<h2>Why you wait</h2>" not in page
    _, _, page = await site.get("/me", "carol")
    assert [attrs["id"] for tag, attrs in tags(page) if str(attrs.get("id")).startswith("why-")] == [
        "why-r_2"
    ]


async def test_the_card_leads_there(site: Site) -> None:
    """The card of the status page is sent at each change, so it holds a link and not the whole."""
    _, _, page = await site.get("/status", "alice")
    assert ("a", {"href": "/me#why-r_3"}) in tags(page)
    _, _, page = await site.get("/status", "bob")
    assert "Why am I waiting?" not in page
