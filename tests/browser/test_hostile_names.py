"""Item 75: names that try to act are text on every page, in the stream, and after a change."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import expect

from gpushare.sim import Script, SimModel
from gpushare.sim.gpu import Runner
from tests.browser.conftest import Visit
from tests.browser.tools import IN_CHROMIUM, is_the_same, live, waiting
from tests.conformance.tools import know_models
from tests.harness import Gate, gateway

pytestmark = IN_CHROMIUM

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)",
    "</section><svg onload=alert(1)>",
    "{{7*7}}",
    "javascript:alert(1)",
)
MADE = "#main img, #main script, #main [onmouseover], #main [onload]"


@pytest_asyncio.fixture(loop_scope="session")
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    """A gateway whose Ollama has models of these names."""
    models = (SimModel(name="m:latest"), *(SimModel(name=name) for name in HOSTILE))
    async with gateway(tmp_path, script=Script(models=models)) as running:
        await know_models(running)
        yield running


def load(gate: Gate, name: str) -> None:
    """Lets Ollama say that a model of this name is in memory; asked for it, it would refuse the name."""
    until = asyncio.get_running_loop().time() + 300
    gate.sim.gpu.resident[name] = Runner(
        SimModel(name=name, size=1_000_000_000), (), asyncio.Semaphore(1), 4096, 300.0, expires_at=until
    )


@pytest.mark.item(75)
async def test_names_do_nothing(gate: Gate, visit: Visit) -> None:
    """Each is read as it is written; that no script of theirs ran is checked for every visit."""
    page = await visit(who="alice")
    await live(page)
    async with waiting(gate, "alice", agent=HOSTILE[0]):
        for name in HOSTILE:
            load(gate, name)
        for name in HOSTILE:
            await expect(page.locator("#models")).to_contain_text(name)
        assert await is_the_same(page)
        for who in (None, "alice", "root"):
            page = await visit(who=who)
            for path in ("/status", "/connect", "/connect/claude-code", "/help"):
                await page.goto(path)
                assert (
                    await page.locator("#main img, #main script, #main [onmouseover], #main [onload]").count()
                    == 0
                )
                if path == "/status":
                    for name in HOSTILE:
                        await expect(page.locator("#models")).to_contain_text(name)


@pytest.mark.item(75)
async def test_addresses_do_nothing(visit: Visit) -> None:
    """What stands in an address is not repeated as markup."""
    page = await visit()
    paths = ("/login?next={}", "/connect?key={}", "/status?{}", "/me?cancelled={}")
    for path in (path.format(name) for path in paths for name in HOSTILE[:3]):
        await page.goto(path)
        assert await page.locator(MADE).count() == 0
