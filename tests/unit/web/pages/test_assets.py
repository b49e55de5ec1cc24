"""The static files."""

import re

from tests.unit.web.site import Site, tags


async def test_assets_may_be_kept_for_ever(site: Site) -> None:
    """Style sheet, script and icon are found under the page's names for them, which change with them."""
    _, _, page = await site.get("/status")
    files = [
        attrs.get("href") or attrs.get("src") or "" for tag, attrs in tags(page) if tag in ("link", "script")
    ]
    assert len(files) == 3
    for file in files:
        assert re.fullmatch(r"/static/\w+\.[0-9a-f]{8}\.(css|js|svg)", file)
        status, headers, _ = await site.get(file)
        assert status == 200
        assert "immutable" in headers["Cache-Control"]
    assert (await site.get("/static/style.css"))[0] == 404
