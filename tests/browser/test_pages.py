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
    "root": ("/status", "/admin", "/admin/keys/new"),
}
PHONE = {"width": 375, "height": 740}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", "viewport": PHONE, "has_touch": True},
}
OVER = """() => [...document.querySelectorAll("th, td")]
  .filter((cell) => cell.clientWidth && cell.scrollWidth > cell.clientWidth)
  .map((cell) => cell.textContent.trim())"""
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
            for path in paths:
                await page.goto(path)
                await settled(page)
                wrong[f"{path} as {who}"] = await findings(page, axe)
    assert {where: what for where, what in wrong.items() if what} == {}


async def test_no_sideways_scroll(gate: Gate, visit: Visit) -> None:
    """At 320 px, the width of a page enlarged to 400 %, everything is within the screen, and in its place."""
    wide, over = {}, {}
    async with waiting(gate, "bob", "alice", "alice"):
        for who, paths in PAGES.items():
            page = await visit(who=who, viewport={"width": 320, "height": 640})
            for path in paths:
                await page.goto(path)
                await settled(page)
                wide[f"{path} as {who}"] = await page.evaluate("() => document.documentElement.scrollWidth")
                over[f"{path} as {who}"] = await page.evaluate(OVER)
    assert {where: width for where, width in wide.items() if width > 320} == {}
    assert {where: what for where, what in over.items() if what} == {}
