"""Fixtures of the browser suite: one Chromium for the run, and a gateway and fresh browsers for each test."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from tests.browser.tools import FLAGS, sign_in, visitor
from tests.conformance.tools import know_models
from tests.harness import Gate, gateway, nothing_left

__all__ = ["nothing_left"]

Visit = Callable[..., Awaitable[Page]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium, which fetches nothing by itself."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(FLAGS), handle_sigint=False
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    """A gateway with one slot, whose Ollama's models are known."""
    async with gateway(tmp_path) as running:
        await know_models(running)
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def visit(chromium: Browser, gate: Gate) -> AsyncIterator[Visit]:
    """Opens a page of a fresh browser: ``path``, signed in as ``who``."""
    async with AsyncExitStack() as stack:

        async def open_page(path: str = "/status", *, who: str | None = None, **options: Any) -> Page:
            page = await stack.enter_async_context(visitor(chromium, gate.url, **options))
            if who:
                await sign_in(page, gate.keys[who])
            if not who or path != "/status":
                await page.goto(path)
            return page

        yield open_page
