"""Who a key is, over a real socket."""

import json

from tests.unit.web.site import Site


async def test_a_key_is_told_whose_it_is(site: Site) -> None:
    """Name, role and terms; never the key."""
    _, _, text = await site.get("/gpushare/v1/whoami", "carol")
    found = json.loads(text)
    assert (found["schema"], found["name"], found["role"]) == ("gpushare.whoami/1", "carol", "admin")
    assert (found["class"], found["weight"]) == ("interactive", 1.0)
    assert "gs_" not in text


async def test_without_a_key_nobody_is_told(site: Site) -> None:
    """A missing key is 401, as everywhere."""
    status, _, text = await site.get("/gpushare/v1/whoami")
    assert (status, json.loads(text)["error"]["code"]) == (401, "key_missing")
