"""A page that loses its server: it says so, tries again, and is live again without being loaded anew."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from playwright.async_api import Browser, expect

from gpushare.core.config import parse
from gpushare.edge.files import KeyFile
from tests.browser.tools import IN_CHROMIUM, is_the_same, live, visitor, waiting
from tests.harness import Gate, running

pytestmark = IN_CHROMIUM


class Proxy:
    """A reverse proxy on loopback; without a server behind it, it answers 502, as every proxy does."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.up = True
        self.refused = 0
        self.writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection of a browser."""
        self.writers.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            if self.up:
                behind, to_behind = await asyncio.open_connection("127.0.0.1", self.port)
                self.writers.add(to_behind)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._copy(reader, to_behind))
                    both.create_task(self._copy(behind, writer))
            else:
                await reader.readuntil(b"\r\n\r\n")
                self.refused += 1
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
        writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut(self) -> None:
        """Loses the server: what is open ends, and what comes is refused."""
        self.up = False
        for writer in self.writers:
            writer.close()


@asynccontextmanager
async def proxy(port: int) -> AsyncIterator[tuple[Proxy, str]]:
    """Runs a proxy in front of a port; gives it and its address."""
    middle = Proxy(port)
    server = await asyncio.start_server(middle.serve, "127.0.0.1", 0)
    try:
        yield middle, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        middle.cut()
        server.close()
        await server.wait_closed()


async def test_a_proxy_without_its_server(gate: Gate, chromium: Browser) -> None:
    """A 502 ends an EventSource for good; the page tries again by itself until it is live."""
    async with proxy(gate.port) as (middle, url), visitor(chromium, url) as page:
        await page.goto("/status")
        await live(page)
        middle.cut()
        await expect(page.locator("#link")).to_contain_text("No connection since")
        await expect(page.locator("#link")).to_contain_text("trying again in")
        await gate.until(lambda: middle.refused >= 2)
        async with waiting(gate, "bob"):
            middle.up = True
            await expect(page.locator("#link")).to_have_text("Live")
            await expect(page.locator("h1")).to_have_text("Busy: 1 running, 1 waiting")
            assert await is_the_same(page)


async def test_a_restarted_server(tmp_path: Path, gate: Gate, chromium: Browser) -> None:
    """Another process on the same address goes on where the first one ended; the session is still good."""
    config = parse(
        "", source="test", env={"GPUSHARE_OLLAMA__URL": gate.sim.url, "GPUSHARE_GPU__BACKEND": "none"}
    )
    key_file = KeyFile(tmp_path / "other")
    key_file.edit(lambda ring: gate.key_file.load())
    async with running(config, key_file) as first:
        port = first.port
        async with visitor(chromium, first.url) as page:
            await page.goto("/login")
            await page.get_by_label("Your key").fill(gate.keys["alice"])
            await page.get_by_role("button", name="Sign in").click()
            await live(page)
            await first.drain(1)
            await expect(page.locator("#link")).to_contain_text("No connection since")
            async with running(config, key_file, port=port):
                await expect(page.locator("#link")).to_have_text("Live")
                await expect(page.locator("#you h2")).to_have_text("You, alice")
                assert await is_the_same(page)
