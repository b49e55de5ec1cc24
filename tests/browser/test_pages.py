"""Every page, in light and dark, on a phone and on the narrowest screen: no barrier, no sideways scroll."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from gpushare.core.keys import key_id, link_token, offered
from tests import npm
from tests.browser.conftest import Visit
from tests.browser.tools import IN_CHROMIUM, PATIENCE_MS, waiting
from tests.conformance.tools import know_models
from tests.harness import Gate, gateway

pytestmark = [*IN_CHROMIUM, pytest.mark.needs("node", "npm")]

TOKEN = link_token(b"a token for the pages in a browser")
PAGES: Mapping[str | None, tuple[str, ...]] = {
    None: (
        "/status",
        "/connect",
        "/connect/openai-python",
        "/login",
        f"/welcome/{TOKEN}",
        "/welcome/used",
        "/help",
        "/connect/none",
        "/nowhere",
    ),
    "alice": ("/status", "/me", "/connect/claude-code?key=own"),
    "root": (
        "/status",
        "/admin",
        "/admin/keys/new",
        "/admin/keys/{bob}",
        "/admin/keys/{bob}/revoke",
        "/cancel/{call}",
    ),
}
PHONE = {"width": 375, "height": 740}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", "viewport": PHONE, "has_touch": True},
}
WIDTHS = (320, 601, 1000, 1180)
OVER = """() => [...document.querySelectorAll("th, td, td a")]
  .filter((one) => one.scrollWidth > one.clientWidth || one.matches("a") && one.clientHeight > 30)
  .filter((one) => one.clientWidth)
  .map((one) => one.textContent.trim())"""
"""What runs over its cell, and what is to be clicked there but broken in two."""
SMALL = """() => [...document.querySelectorAll("a, button, select, summary, input:not([type=hidden])")]
  .filter((one) => !one.closest("p:not(.copy, .tools), dd, .skip") || !one.matches("a:not(.button)"))
  .filter((one) => !one.matches(".skip, [type=checkbox]") && one.getClientRects().length)
  .map((one) => [Math.round(one.getBoundingClientRect().height), one.outerHTML])
  .filter(([height]) => height < 44)"""
"""Everything to tap that stands alone, not within a sentence, and is less than 44 px high."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest_asyncio.fixture(loop_scope="session")
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    """A gateway with a simulated GPU, and a link to bob's key."""
    async with gateway(tmp_path, gpu="fake") as running:
        await know_models(running)
        running.key_file.edit(
            lambda ring: offered(ring, key_id(running.keys["bob"]), TOKEN, datetime.now(UTC))
        )
        await running.until(lambda: any(record.link for record in running.parts.ring.records))
        yield running


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    return (npm.install(Path(__file__).parent / "axe") / "axe-core" / "axe.min.js").read_text()


async def findings(page: Page, axe: str) -> list[str]:
    """Returns what axe-core holds against a page, by the rules of levels A and AA."""
    await page.evaluate(axe)
    found = await page.evaluate("rules => axe.run({runOnly: {type: 'tag', values: rules}})", RULES)
    assert len(found["passes"]) > 8, "hardly anything was looked at"
    return [f"{one['id']}: {node['html']}" for one in found["violations"] for node in one["nodes"]]


def addresses(gate: Gate, paths: tuple[str, ...]) -> list[str]:
    """Returns the paths with what is in this gateway filled in."""
    bob, call = key_id(gate.keys["bob"]), next(iter(gate.parts.gateway.live))
    return [path.format(bob=bob, call=call) for path in paths]


async def settled(page: Page) -> None:
    """Waits until a page that lives has been told everything."""
    if await page.locator("body[data-view]").count():
        await expect(page.locator("#link")).to_have_text("Live", timeout=PATIENCE_MS)


@pytest.mark.parametrize("look", LOOKS)
async def test_no_barriers(gate: Gate, visit: Visit, axe: str, look: str) -> None:
    """axe-core has nothing to say about any page, with a queue as lively as it gets."""
    wrong = {}
    async with waiting(gate, "bob", "alice", "alice"):
        for who, paths in PAGES.items():
            page = await visit(who=who, **LOOKS[look])
            for path in addresses(gate, paths):
                await page.goto(path)
                await settled(page)
                wrong[f"{path} as {who}"] = await findings(page, axe)
    assert {where: what for where, what in wrong.items() if what} == {}


async def test_no_sideways_scroll(gate: Gate, visit: Visit) -> None:
    """At 320 px, the width of a page enlarged to 400 %, everything is within the screen, and in its place.

    So it is in its place at the other widths at which the layout is at its tightest.
    """
    wide, over = {}, {}
    async with waiting(gate, "bob", "alice", "alice"):
        for who, paths in PAGES.items():
            page = await visit(who=who)
            for path in addresses(gate, paths):
                await page.goto(path)
                await settled(page)
                for width in WIDTHS:
                    await page.set_viewport_size({"width": width, "height": 640})
                    scrolled = await page.evaluate("() => document.documentElement.scrollWidth")
                    wide[f"{path} as {who} at {width}"] = scrolled - width
                    over[f"{path} as {who} at {width}"] = await page.evaluate(OVER)
    assert {where: beyond for where, beyond in wide.items() if beyond > 0} == {}
    assert {where: what for where, what in over.items() if what} == {}


async def test_fingers_find_what_they_want(gate: Gate, visit: Visit) -> None:
    """On a touch screen everything to tap is at least 44 px high."""
    small = {}
    async with waiting(gate, "bob", "alice", "alice"):
        for who, paths in PAGES.items():
            page = await visit(who=who, **LOOKS["phone"])
            for path in addresses(gate, paths):
                await page.goto(path)
                await settled(page)
                small[f"{path} as {who}"] = await page.evaluate(SMALL)
    assert {where: what for where, what in small.items() if what} == {}
