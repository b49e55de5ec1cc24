"""The page of answers."""

import inspect
import re

import pytest

from gpushare.core import gpu_status, notices
from gpushare.core.document import Notice
from tests.unit.core.test_errors import every_type
from tests.unit.web.site import Site, tags


async def anchors(site: Site) -> list[str]:
    """Returns the ids of the page."""
    status, _, page = await site.get("/help")
    assert status == 200
    return [attrs["id"] or "" for _, attrs in tags(page) if "id" in attrs]


async def test_every_error_has_an_answer(site: Site) -> None:
    """``/help#code`` exists for every code, and nothing is there twice."""
    found = await anchors(site)
    assert {kind.code for kind in every_type()} - set(found) == set()
    assert len(found) == len(set(found))


async def test_every_notice_has_an_answer(site: Site) -> None:
    """The link of a notice leads somewhere."""
    codes = {notice.code for notice in vars(notices).values() if isinstance(notice, Notice)}
    made = inspect.getsource(gpu_status)
    codes |= set(re.findall(r'"(gpu-\w+)"', made))
    assert {"gpu-hot", "gpu-lost", "paused"} <= codes
    assert codes - set(await anchors(site)) == set()


async def test_links_within_the_page_lead_somewhere(site: Site) -> None:
    """Every ``#`` finds its anchor."""
    found = await anchors(site)
    _, _, page = await site.get("/help")
    assert set(re.findall(r'href="#([^"]+)"', page)) - set(found) == set()


@pytest.mark.parametrize(("who", "linked"), [("", False), ("alice", False), ("carol", True)])
async def test_admins_are_led_to_the_answer(site: Site, who: str, linked: bool) -> None:  # noqa: FBT001
    """A notice has its link for those who can do something about it."""
    site.parts.monitor.view = site.parts.monitor.view.changed(up=False)
    _, _, page = await site.get("/status", who)
    assert "Ollama does not answer. Requests" in page
    assert ('href="/help#ollama-down"' in page) is linked
