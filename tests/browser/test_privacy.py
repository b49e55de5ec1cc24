"""What a viewer may not know of the others is neither in the page nor in what the stream brings."""

import re

import aiohttp
import pytest
from playwright.async_api import expect

from tests.browser.conftest import Visit
from tests.browser.tools import IN_CHROMIUM, live, waiting
from tests.conformance.tools import warm
from tests.harness import PATIENCE, Gate

pytestmark = IN_CHROMIUM

PEOPLE = ("alice", "bob", "carol", "robot", "root")
ALL = {"alice", "bob", "carol", "root"}
TOOL = "Claude Code"


async def streamed(gate: Gate, who: str | None) -> str:
    """Returns all that a fresh live stream tells first."""
    headers = gate.bearer(who) if who else {}
    text = b""
    async with (
        aiohttp.ClientSession(gate.url, headers=headers, timeout=PATIENCE) as session,
        session.get("/events?view=status") as answer,
    ):
        async for line in answer.content:
            text += line
            if b"event: meta" in text and line == b"\n":
                break
    return text.decode()


def named(text: str) -> set[str]:
    """Returns whose names are in a text."""
    return {name for name in PEOPLE if re.search(rf"\b{name}\b", text)}


@pytest.mark.parametrize(
    ("who", "names", "tools"),
    [(None, set(), 0), ("alice", ALL, 1), ("bob", ALL, 1), ("root", ALL, 2)],
    ids=["nobody", "alice", "bob", "root"],
)
async def test_names_and_tools(
    gate: Gate, visit: Visit, who: str | None, names: set[str], tools: int
) -> None:
    """Without a key there are only counts; with one names, but the tool of own calls alone."""
    await warm(gate)
    async with waiting(gate, "bob", "alice"):
        page = await visit(who=who)
        await live(page)
        await expect(page.locator("h1")).to_have_text("Busy: 1 running, 2 waiting")
        html, told = await page.content(), await streamed(gate, who)
    for text in (html, told):
        assert named(text) == names
        assert text.count(TOOL) == tools
        assert text.count("somebody") == (0 if who else 3)
        assert (">Last 24 hours<" in text) == (who is not None)


async def test_how_long_an_answer_is(gate: Gate, visit: Visit) -> None:
    """How many tokens there are so far is for whose call it is."""
    async with waiting(gate, "alice"):
        page = await visit(who="alice")
        await live(page)
        assert "token so far" not in await page.content()
        own = await visit(who="carol")
        await live(own)
        await expect(own.locator("#you .big")).to_contain_text("token so far")
        assert "token so far" not in await streamed(gate, "alice")
