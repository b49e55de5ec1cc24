"""The card of the GPUs and its charts, as a browser gets them."""

import re
from html.parser import HTMLParser
from typing import Any

import aiohttp_jinja2
import pytest
from aiohttp import web

from gpushare.core.config import Config, Gpu
from gpushare.core.gpu import GpuReading, GpuReport, GpuView
from gpushare.edge.files import asset
from gpushare.web.pages.render import setup_templates
from tests.unit.records import CARD
from tests.unit.web.site import HOSTILE, Site, open_site, tags


def shown(site: Site, *readings: GpuReading, note: str | None = None) -> None:
    """Puts a picture behind the page."""
    assert site.parts.gpus is not None
    site.parts.gpus.view = GpuView(readings=readings, note=note, history={"GPU-a": (0.4, None, 0.99, 0.87)})


class Section(HTMLParser):
    """Collects the text of one element, a space between its parts."""

    def __init__(self, element_id: str) -> None:
        super().__init__()
        self._id = element_id
        self._depth = 0
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._depth or dict(attrs).get("id") == self._id:
            self._depth += 1

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        self._depth -= bool(self._depth)

    def handle_data(self, data: str) -> None:
        if self._depth:
            self.words += data.split()


async def text(site: Site) -> str:
    """Returns the words of the GPU card, empty if the page has none."""
    section = Section("gpu")
    section.feed((await site.get("/status"))[2])
    return " ".join(section.words)


async def html(site: Site) -> str:
    """Returns the GPU card's HTML."""
    found = re.search(r'<section id="gpu".*?</section>', (await site.get("/status"))[2], re.DOTALL)
    assert found
    return found[0]


async def test_a_card_is_shown_with_its_units(site: Site) -> None:
    """Anybody may see how busy, full, hot and hungry the card is."""
    shown(site, CARD)
    assert await text(site) == (
        "GPU · NVIDIA RTX 4090 Busy 87 % Memory 21.3 of 24.0 GB "
        "Temperature 71 °C Power 338 of 450 W Slowed down no Other programs on it 1 (0.8 GB)"
    )


async def test_what_a_card_does_not_tell_is_left_out(site: Site) -> None:
    """No zero stands for what nobody knows."""
    shown(site, GpuReading(index=0, celsius=50))
    assert await text(site) == "GPU Busy not known Temperature 50 °C"


async def test_a_slow_card_says_by_what(site: Site) -> None:
    """The words are those of the status document."""
    shown(site, GpuReading(index=0, slowed=("heat", "power limit"), others=0))
    assert "Slowed down by heat, power limit Other programs on it none" in await text(site)


async def test_several_cards_have_a_block_each(site: Site) -> None:
    """Then each has its index, as the driver counts."""
    shown(site, CARD, GpuReading(index=1, name="B", busy=0.02))
    words = await text(site)
    assert "GPU 0 · NVIDIA RTX 4090 Busy" in words
    assert "GPU 1 · B Busy" in words


async def test_a_lost_card_is_grey_and_nothing_else(site: Site) -> None:
    """Its block has the driver's words and the line of the last minutes, the other block all numbers."""
    shown(site, CARD.gone(), GpuReading(index=1, name="B", busy=0.02), note="GPU 0: GPU is lost")
    words = await text(site)
    assert words.startswith("GPU 0 · NVIDIA RTX 4090 No numbers: GPU 0: GPU is lost. GPU 1 · B Busy")
    assert [attrs["class"] for tag, attrs in tags(await html(site)) if tag == "div" and "class" in attrs] == [
        "gpu lost",
        "gpu",
    ]
    assert 'aria-label="GPU busy, last 15 minutes: now' in await html(site)


async def test_without_a_driver_its_own_words_are_shown(site: Site) -> None:
    """The empty state says why, and that it does not matter to requests."""
    shown(site, note="NVML Shared Library Not Found")
    assert await text(site) == (
        "GPU GPU numbers are not available: NVML Shared Library Not Found. Requests work all the same."
    )


async def test_before_the_first_reading_the_card_is_there(site: Site) -> None:
    """The stream fills a place that the first page has."""
    assert "GPU numbers are not available: not read yet." in await text(site)


async def test_without_gpu_numbers_there_is_no_card() -> None:
    """Who turned them off sees no empty place."""
    async for site in open_site(Config(gpu=Gpu(backend="none"))):
        assert site.parts.gpus is None
        assert await text(site) == ""


async def test_the_card_changes_with_readings_alone(site: Site) -> None:
    """P38: what is on the page is the last reading; the same reading gives the same page, whenever."""
    assert site.parts.gpus is not None
    site.parts.gpus.take(GpuReport(readings=(CARD,)))
    before = await html(site)
    assert await html(site) == before
    site.parts.gpus.take(GpuReport(readings=(CARD,)))
    assert await html(site) == before


async def test_the_card_is_inert_and_has_no_style(site: Site) -> None:
    """P34: a hostile name is text, and the security policy has nothing to forbid."""
    shown(site, GpuReading(index=0, uuid="GPU-a", name=f'"><script>{HOSTILE}', busy=0.1), note=HOSTILE)
    page = await html(site)
    shown(site, CARD.gone(), note=f'"><script>{HOSTILE}')
    page += await html(site)
    found = tags(page)
    assert {tag for tag, _ in found} <= {"section", "div", "h2", "dl", "dt", "dd", "svg", "path", "rect", "p"}
    assert not [name for _, attrs in found for name in attrs if name == "style" or name.startswith("on")]


@pytest.fixture
def charts() -> Any:
    """The chart macros, as the pages have them."""
    app = web.Application()
    setup_templates(app, asset("templates"), asset=lambda name: name, build="x")
    return aiohttp_jinja2.get_env(app).get_template("_charts.html").module


def drawn(svg: str) -> dict[str, dict[str, str | None]]:
    """Returns the attributes of a chart's elements, by tag; of several paths the last one."""
    return dict(tags(str(svg)))


def test_a_line_says_what_it_shows(charts: Any) -> None:
    """Who does not see the line gets its newest, lowest and highest value."""
    svg = charts.line([0.4, 0.99, 0.87], "GPU busy, last 15 minutes")
    said = "GPU busy, last 15 minutes: now 87 %, lowest 40 %, highest 99 %"
    attributes = drawn(svg)["svg"]
    assert (attributes["role"], (attributes["aria-label"] or "").replace("\u202f", " ")) == ("img", said)


def test_a_line_has_a_fixed_scale_and_gaps(charts: Any) -> None:
    """0 % is at the bottom and 100 % at the top whatever the values; a gap is not drawn over."""
    path = drawn(charts.line([0.0, 1.0, None, 0.5], "x"))["path"]
    assert path["d"] == "M86 100h0L87 0M89 50h0"
    assert path["vector-effect"] == "non-scaling-stroke"
    assert path["stroke"] == "currentColor"


def test_a_line_keeps_its_zero_line_without_values(charts: Any) -> None:
    """An empty chart says that it is empty."""
    for points in ([], [None, None]):
        svg = charts.line(points, "GPU busy")
        assert drawn(svg)["svg"]["aria-label"] == "GPU busy: no readings"
        assert [attrs["class"] for tag, attrs in tags(str(svg)) if tag == "path"] == ["zero"]
    assert "now unknown, lowest" in charts.line([0.5, None], "GPU busy")


def test_a_line_is_small(charts: Any) -> None:
    """Ninety points take little of the page's budget."""
    points = [0.5 + (number % 50) / 100 for number in range(90)]
    assert len(str(charts.line(points, "GPU busy, last 15 minutes"))) < 1800


def test_bars_stand_on_zero(charts: Any) -> None:
    """The highest value fills the height, the others their part of it, and each has its words."""
    svg = str(charts.bars([0, 11.0, None, 22.0], ["a", "b", "c", "d"], "Wait per hour"))
    bars = [attrs for tag, attrs in tags(svg) if tag == "rect"]
    assert [(bar["x"], bar["y"], bar["height"]) for bar in bars] == [
        ("0", "99", "1"),
        ("4", "50", "50"),
        ("12", "0", "100"),
    ]
    assert re.findall("<title>(.*?)</title>", svg) == ["a", "b", "d"]
    assert drawn(svg)["svg"]["aria-label"] == "Wait per hour"


def test_bars_without_values_are_a_line(charts: Any) -> None:
    """A day without requests is drawn as nothing."""
    for values in ([], [None], [0.0]):
        assert "<svg" in charts.bars(values, ["x"], "Wait per hour")


def test_charts_are_inert(charts: Any) -> None:
    """P34: neither a label nor a title can end its element, or carry a handler or a style."""
    hostile = f'"><script>alert(1)</script>{HOSTILE}" onload="x" style="y'
    for svg in (charts.line([0.5], hostile), charts.bars([1.0], [hostile], hostile), charts.meter(0.5)):
        found = tags(svg)
        assert {tag for tag, _ in found} <= {"svg", "path", "rect", "title"}
        assert not [name for _, attrs in found for name in attrs if name == "style" or name.startswith("on")]


def test_a_meter_is_filled_by_its_part(charts: Any) -> None:
    """The number stands beside it, so readers of screens are spared the bar."""
    svg = str(charts.meter(0.888))
    assert [attrs["width"] for tag, attrs in tags(svg) if tag == "rect"] == ["100", "88.8"]
    assert drawn(svg)["svg"]["aria-hidden"] == "true"
