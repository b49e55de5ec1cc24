"""A person at a browser: opens pages, signs in, and is watched for what must never happen on any page."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, expect

from gpushare.sim import Entry
from tests.conformance.tools import busy
from tests.harness import Gate, chat

PATIENCE_MS = 30_000
"""Only ends a broken test."""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
IN_CHROMIUM = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="session")]
"""For ``pytestmark`` of each module: the browser lives in the loop of the session."""
MARK = "marked by the test"
_REPORT = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`forbidden by the policy: ${event.violatedDirective} ${event.blockedURI}`));
"""

expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Watched:
    """What a context did that no page may make it do."""

    origins: set[str]
    wrong: list[str] = field(default_factory=list)

    async def watch(self, context: BrowserContext) -> None:
        context.on("console", self._said)
        context.on("weberror", lambda error: self.wrong.append(f"error: {error.error}"))
        context.on("request", self._asked)
        context.on("dialog", self._opened)
        await context.add_init_script(_REPORT)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.wrong.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme != "data" and f"{address.scheme}://{address.netloc}" not in self.origins:
            self.wrong.append(f"request: {request.url}")

    async def _opened(self, dialog: Dialog) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        await dialog.dismiss()


@asynccontextmanager
async def visitor(chromium: Browser, url: str, **options: Any) -> AsyncIterator[Page]:
    """Gives a page of a fresh browser, and checks in the end that nothing forbidden happened.

    That is: a violation of the content security policy, an error of a script, a message on the console, a
    dialog, a request to another server.
    """
    context = await chromium.new_context(base_url=url, **options)
    watched = Watched({url})
    try:
        context.set_default_timeout(PATIENCE_MS)
        await watched.watch(context)
        yield await context.new_page()
    finally:
        await context.close()
    assert watched.wrong == []


async def sign_in(page: Page, key: str) -> None:
    """Signs in by the form, and is on the status page then."""
    await page.goto("/login")
    await page.get_by_label("Your key").fill(key)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url("**/status")


async def live(page: Page) -> None:
    """Waits until the page is connected, then marks it, so that a reload would be noticed."""
    await expect(page.locator("#link")).to_have_text("Live")
    await page.evaluate("mark => { window.mark = mark; }", MARK)


async def is_the_same(page: Page) -> bool:
    """Whether this is still the page that ``live`` marked."""
    return bool(await page.evaluate("() => window.mark") == MARK)


@asynccontextmanager
async def waiting(gate: Gate, *people: str, agent: str = "claude-cli/2.1") -> AsyncIterator[Entry]:
    """Carol's call runs for the length of the block, and one call of each of these people waits, in turn."""
    async with busy(gate) as running, asyncio.TaskGroup() as tasks:
        for number, who in enumerate(people, start=1):
            tasks.create_task(gate.post("/api/chat", chat(), who=who, headers={"User-Agent": agent}))
            await gate.waiting(number)
        yield running
        running.resume()
