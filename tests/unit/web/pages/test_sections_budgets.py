"""What the pages may weigh: whoever waits for a GPU on a phone should not wait for the page."""

import gzip
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gpushare.edge.files import asset
from tests.unit.web.pages.test_hub import join
from tests.unit.web.site import Site, tags

STATIC = asset("static")
SCRIPTS_BYTES = 3000
SHEET_BYTES = 4000
PAGE_BYTES = 8000
FIRST_VIEW_REQUESTS = 4
STREAM_BYTES_PER_S = 3000


def weight(*files: Path) -> int:
    """Returns how many bytes travel for files."""
    return sum(len(gzip.compress(file.read_bytes())) for file in files)


def fill(site: Site, count: int) -> None:
    """Lets so many calls wait, under names and models of an ordinary length."""
    row = site.queue.view.waiting[0]
    names = list(site.owners.values())
    rows = tuple(
        replace(row, id=f"r_{n}", owner=names[n % 3], position=n + 1, model="qwen3-coder:30b", eta_s=9.0 * n)
        for n in range(count)
    )
    site.queue.view = replace(site.queue.view, waiting=rows)


def test_scripts_are_small() -> None:
    """All pages together."""
    assert 0 < weight(*STATIC.glob("*.js")) <= SCRIPTS_BYTES


def test_the_sheet_is_small() -> None:
    """One for every page."""
    assert 0 < weight(STATIC / "style.css") <= SHEET_BYTES


@pytest.mark.parametrize("who", ["", "alice", "carol"])
async def test_the_page_is_small(site: Site, who: str) -> None:
    """With ten waiting; and what it loads besides is the sheet, the script and the icon."""
    fill(site, 10)
    _, _, page = await site.get("/status", who)
    assert len(gzip.compress(page.encode())) <= PAGE_BYTES
    assert page.count("<td") >= 30
    loaded = [attrs for tag, attrs in tags(page) if tag in ("script", "img", "link")]
    assert 1 + len(loaded) <= FIRST_VIEW_REQUESTS


def test_the_sheet_loads_nothing() -> None:
    """No font, no picture, no other sheet: nothing that a network of its own would lack."""
    assert re.findall(r"url\(|@import|https?:", (STATIC / "style.css").read_text()) == []


@pytest.mark.parametrize("who", ["", "alice", "carol"])
async def test_a_busy_hour_is_cheap(site: Site, who: str) -> None:
    """A quarter of an hour with about ten waiting, a change every two seconds, and tokens all the time.

    Bytes of the stream, which is not compressed, for each second and viewer.
    """
    chance = random.Random(7)
    fill(site, 10)
    answers = site.go_live()
    sink, _ = join(site, who)
    seconds = 900
    for step in range(2 * seconds):
        if chance.random() < 0.25:
            fill(site, 9 + chance.randrange(4))
            started = replace(site.queue.view.running[0], started_s=-step / 2)
            site.queue.view = replace(site.queue.view, running=(started,))
        for answer in answers:
            answer.records += 20
        await site.round(0.5)
    sent = sum(map(len, sink.written))
    assert 500 < sent / seconds <= STREAM_BYTES_PER_S
