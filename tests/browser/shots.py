"""Takes the pictures of the README: ``./run shots``.

They show ``gpushare demo`` to sam, who asks something again and again, at the first moment when the page has
something to tell in each of its parts.
"""

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

import aiohttp
from playwright.async_api import Page, async_playwright

from tests.browser.tools import FLAGS, sign_in
from tests.demo import Demo, running_demo

FOLDER = Path(__file__).parents[2] / "docs" / "img"
DESKTOP = {"width": 1180, "height": 820}
PHONE = {"width": 375, "height": 820}
PATIENCE_MS = 600_000
"""Estimates take some finished requests, and the line of the GPU takes its time."""
LARGEST_BYTES = 200_000
LIVELY = """() => {
  const words = (path) => [...document.querySelectorAll(path)].map((found) => found.textContent);
  const people = words("#queue table:last-of-type th[scope=row]").map((who) => who.replace(/^\\d+\\. /, ""));
  const queue = words("#queue").join();
  const line = document.querySelector("#gpu .line path:last-of-type").getAttribute("d");
  return words("#link")[0] === "Live" && words("h1")[0].startsWith("Busy") &&
    /^[23]\\w\\w in line, (about|in a few)/.test(words("#you .big")[0]) &&
    people.length <= 6 && new Set(people).size >= 3 &&
    queue.includes("about") && !queue.includes("no estimate") && !queue.includes("any moment") &&
    words("#day tbody tr").length >= 7 && words("#models tbody tr").length >= 2 &&
    line.split("L").length >= 7;
}"""


async def ask(demo: Demo) -> None:
    """Asks one question after another with sam's key, as an editor does."""
    body = {"model": "qwen3-coder:30b", "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"Authorization": f"Bearer {demo.key}", "User-Agent": "Continue/1.3"}
    async with aiohttp.ClientSession(headers=headers) as session:
        while True:
            async with session.post(f"{demo.url}/api/chat", json=body) as answer:
                await answer.read()
                await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))


async def take(page: Page, name: str) -> None:
    """Takes a picture of what is on the screen, as far as the page goes."""
    path = FOLDER / f"{name}.png"
    await page.screenshot(path=path, full_page=True, animations="disabled")
    size = path.stat().st_size
    sys.stdout.write(f"{path.relative_to(Path.cwd())}: {size // 1000} kB\n")
    if size > LARGEST_BYTES:
        sys.exit(f"{path} is too large: a README is read on telephones too")


async def main(demo: Demo) -> None:
    """Waits for a moment worth a picture, then takes three of it."""
    async with async_playwright() as playwright, asyncio.TaskGroup() as tasks:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        asking = tasks.create_task(ask(demo))
        page = await browser.new_page(base_url=demo.url, viewport=DESKTOP, color_scheme="light")  # type: ignore[arg-type]
        await sign_in(page, demo.key)
        await page.wait_for_function(LIVELY, timeout=PATIENCE_MS)
        await take(page, "status-light")
        await page.emulate_media(color_scheme="dark")
        await take(page, "status-dark")
        await page.emulate_media(color_scheme="light")
        await page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        await take(page, "status-phone")
        asking.cancel()
        await browser.close()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, running_demo(Path(scratch)) as playing:
        asyncio.run(main(playing))
