"""What each part of the status page says, in every state it can be in."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from gpushare.core.config import Config, Queue
from gpushare.core.forecast import Forecast
from gpushare.core.keys import KeyRing
from gpushare.core.model import ResidentModel
from gpushare.core.picture import OllamaView
from gpushare.core.stats import LastCall
from tests.unit import records
from tests.unit.web.site import HOSTILE, Site, open_site, tags, text_of


async def seen(site: Site, part: str, who: str = "alice") -> str:
    """Returns what a reader sees of a part of the page."""
    _, _, page = await site.get("/status", who)
    return text_of(page.partition(f'<section id="{part}"')[2].partition("</section>")[0].partition(">")[2])


def wait_for(site: Site, *places: int) -> None:
    """Lets alice alone wait, at these places in line."""
    row = site.queue.view.waiting[-1]
    rows = tuple(replace(row, id=f"r_{place}", position=place, model="m") for place in places)
    site.queue.view = replace(site.queue.view, waiting=rows)


async def test_the_first_paint_and_the_stream_differ_in_words_of_time_alone(site: Site) -> None:
    """One template makes both; the stream leaves out what the page counts."""
    for who in ("", "alice", "bob", "carol"):
        _, _, page = await site.get("/status", who)
        async with site.watch("", who) as stream:
            await stream.event()
            await site.round(0.0)
            parts, _ = await stream.update()
        assert {"head", "queue", "models"} <= parts.keys()
        for name, html in parts.items():
            first = page.partition(f'<section id="{name}"')[2].partition(">")[2].partition("</section>")[0]
            assert without_words(first) == without_words(html)


def without_words(html: str) -> str:
    """Returns a part without what the page counts on."""
    pieces = html.split("<span data-")
    return "<span data-".join(
        [pieces[0], *(piece.partition(">")[0] + piece.partition("</span>")[2] for piece in pieces[1:])]
    )


async def test_a_card_for_one_request(site: Site) -> None:
    """Place and time first; then model, wait and share."""
    wait_for(site, 2)
    site.parts.stats.record(
        msgspec.structs.replace(
            records.CALL,
            owner=site.owners["alice"],
            person="alice",
            ended_at=site.parts.wall(site.parts.monotonic()),
        )
    )
    assert (await seen(site, "you")).startswith("You, alice 2nd in line, about 25 s m · waiting")
    assert (await seen(site, "you")).endswith(
        "· your share of the last 24 h 100 % Cancel this request Why am I waiting?"
    )


async def test_a_server_without_keys_says_how_to_make_one(site: Site) -> None:
    """On the first day there is nobody to sign in as."""
    site.parts.ring = KeyRing()
    card = await seen(site, "you", "")
    assert card.startswith("You Nobody has a key yet.")
    assert card.endswith("gpushare init")


async def test_only_own_requests_can_be_cancelled(site: Site) -> None:
    """The card has a form for each of the viewer's requests, and the page no other."""
    for who, ids in (("alice", ["r_3"]), ("bob", ["r_1"]), ("", [])):
        _, _, page = await site.get("/status", who)
        assert [attrs["value"] for _, attrs in tags(page) if attrs.get("name") == "id"] == ids
        forms = [attrs["action"] for tag, attrs in tags(page) if tag == "form"]
        assert forms == (["/me/cancel"] if ids else ["/login"])


async def test_the_page_says_what_came_of_a_form(site: Site) -> None:
    """After a request was cancelled the page says so once, not at every renewal."""
    _, _, page = await site.get("/status?cancelled=yes", "alice")
    assert "The request is cancelled." in text_of(page)
    assert 'content="10; url=/status"' in page
    assert "cancelled" not in text_of((await site.get("/status", "alice"))[2])


async def test_a_card_for_several_requests(site: Site) -> None:
    """Their number, when the first one starts, and the first three."""
    wait_for(site, 2, 3, 5, 8)
    card = await seen(site, "you")
    assert card.startswith(
        "You, alice 4 requests waiting, the first in about 25 s 2nd in line, about 25 s · m"
    )
    assert ("3rd in line" in card, "5th in line" in card, "8th in line" in card) == (True, True, False)
    assert card.endswith("and 1 more Why am I waiting?")


async def test_a_card_for_a_running_request(site: Site) -> None:
    """How long it runs; tokens and speed where they are known."""
    assert (await seen(site, "you", "bob")).startswith("You, bob Running for 31 s qwen3-coder:30b")


async def test_a_card_without_requests(site: Site) -> None:
    """Nothing yet, or nothing now and what was last."""
    wait_for(site)
    assert await seen(site, "you") == "You, alice No request with your key yet Connect a tool"
    ended = site.parts.wall(site.parts.monotonic()) - 600
    site.parts.stats.last[site.owners["alice"]] = LastCall(
        ended_at=ended, model="m", waited_s=4.2, took_s=61.0
    )
    card = await seen(site, "you")
    assert card == "You, alice You have nothing waiting Last request 10 min ago, waited 4 s, took 1 min 1 s"


@pytest.mark.parametrize(
    ("waiting", "running", "words"),
    [
        (
            False,
            False,
            "Running now Nothing is running. Waiting Nobody is waiting. A request starts at once.",
        ),
        (False, True, "Waiting Nobody is waiting."),
    ],
)
async def test_an_empty_queue_says_so(site: Site, waiting: bool, running: bool, words: str) -> None:  # noqa: FBT001
    """Instead of an empty table there is a sentence; a start at once is promised only where it is so."""
    view = site.queue.view
    site.queue.view = replace(
        view, waiting=view.waiting if waiting else (), running=view.running if running else ()
    )
    shown = await seen(site, "queue")
    assert words in shown
    assert ("A request starts at once" in shown) is not running


async def test_empty_memory_and_day_say_so(site: Site) -> None:
    """The words of the empty states."""
    site.parts.monitor.view = site.parts.monitor.view.changed(loaded=())
    assert "No model in memory. The first request loads one, which takes a while." in await seen(
        site, "models"
    )
    assert "No requests in the last 24 hours. Connect a tool" in await seen(site, "day")


@pytest.mark.parametrize("changed", [{"up": False}, {"since": None}], ids=str)
async def test_memory_that_nobody_knows_is_not_empty(site: Site, changed: dict[str, Any]) -> None:
    """While Ollama does not answer, or has not been asked yet, nothing is said of its memory."""
    site.parts.monitor.view = replace(site.parts.monitor.view, loaded=(), **changed)
    shown = await seen(site, "models")
    assert "Not known while Ollama does not answer." in shown
    assert "No model" not in shown


async def test_models_tell_size_context_and_end(site: Site) -> None:
    """Each number has its unit where there is no head of the column; a model that does not fit says so."""
    now = site.parts.wall(site.parts.monotonic())
    rows = [
        ResidentModel(
            name=name,
            size_bytes=20_000_000_000,
            vram_bytes=vram,
            context=32768,
            expires=datetime.fromtimestamp(now + left_s, UTC),
        )
        for name, vram, left_s in (("half:70b", 10_000_000_000, 1770), ("kept:7b", 20_000_000_000, 1e9))
    ]
    site.parts.monitor.view = site.parts.monitor.view.changed(loaded=tuple(rows))
    shown = await seen(site, "models")
    assert "half:70b 9.3 GB 50 % on the GPU context 32 768 tokens unloads in 29 min" in shown
    assert "kept:7b 18.6 GB context 32 768 tokens unloads not by itself" in shown
    assert "Swaps" not in shown
    site.parts.stats.record(msgspec.structs.replace(records.CALL, swap=True, ended_at=now))
    assert (await seen(site, "models", "")).endswith("Swaps in the last 24 hours: 1")
    site.parts.stats.reloaded(now)
    shown = await seen(site, "models", "")
    assert shown.endswith("hours: 1; a model came back with another context size: seen 1 time")
    end = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    odd = replace_model(rows[0], expires=end), replace_model(rows[1], expires=None)
    site.parts.monitor.view = site.parts.monitor.view.changed(loaded=odd)
    shown = await seen(site, "models")
    assert "half:70b 9.3 GB 50 % on the GPU context 32 768 tokens unloads not by itself" in shown
    assert "kept:7b 18.6 GB context 32 768 tokens Swaps" in shown


def replace_model(row: ResidentModel, **fields: object) -> ResidentModel:
    """Returns a model with other facts."""
    return msgspec.structs.replace(row, **fields)


async def test_many_people_are_summed_up(site: Site) -> None:
    """The last day has eight rows, one's own, and one for everybody else."""
    now = site.parts.wall(site.parts.monotonic())
    for number in range(1, 15):
        who = "alice" if number == 1 else f"p{number:02}"
        owner = site.owners.get(who, who)
        site.parts.stats.record(
            msgspec.structs.replace(records.CALL, owner=owner, person=who, slot_s=60.0 * number, ended_at=now)
        )
    shown = await seen(site, "day")
    assert [f"p{number:02} " in shown for number in (14, 7, 6)] == [True, True, False]
    assert "alice (you) 1 min of GPU time 1 % of all 1 request" in shown
    assert "5 others 20 min of GPU time 19 % of all 5 requests" in shown


async def test_a_little_is_not_nothing(site: Site) -> None:
    """Whoever has a share of the GPU time has used some."""
    now = site.parts.wall(site.parts.monotonic())
    for who, slot_s in (("alice", 0.2), ("bob", 20.0)):
        done = msgspec.structs.replace(
            records.CALL, owner=site.owners[who], person=who, slot_s=slot_s, ended_at=now
        )
        site.parts.stats.record(done)
    assert "alice (you) under 1 s of GPU time 1 % of all 1 request" in await seen(site, "day")


async def test_the_last_day_is_drawn(site: Site) -> None:
    """The waits of each hour are bars with words, and a sentence for those who do not see them."""
    now = site.parts.wall(site.parts.monotonic())
    for hours, waited_s in ((2, 20.0), (0, 3.0)):
        call = msgspec.structs.replace(records.CALL, ended_at=now - 3600 * hours, waited_s=waited_s)
        site.parts.stats.record(call)
    _, _, page = await site.get("/status", "alice")
    chart = next(attrs for tag, attrs in tags(page) if tag == "svg" and "bars" in (attrs["class"] or ""))
    assert re.fullmatch(
        r"What 95 % waited at most, hour by hour: now \d s, longest \d\d s", chart["aria-label"] or ""
    )
    assert re.search(r"<title>\d\d s \(2 h ago\)</title>.*<title>\d s \(this hour\)</title>", page)


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (OllamaView(), "Starting host {} · Ollama has not been asked yet"),
        (OllamaView(since=-120.0), "Ollama does not answer (for "),
        (OllamaView(up=True, since=-120.0), "Busy: 1 running, 2 waiting A new request would start in about"),
        (OllamaView(up=True, since=-9e5), "host {} · Ollama up 10 days"),
        (OllamaView(up=True, since=-9e5, at_least=True), "host {} · Ollama up at least 10 days"),
        (OllamaView(since=-9e5, at_least=True), "host {} · Ollama down at least 10 days"),
    ],
)
async def test_the_head_follows_ollama(site: Site, view: OllamaView, words: str) -> None:
    """The headline and the line below it never contradict each other."""
    if view.since is not None:  # so long ago, whatever the machine counts from
        view = view.changed(since=site.parts.monotonic() + view.since)
    site.parts.monitor.view = view
    assert words.format(site.parts.host) in await seen(site, "head")


async def test_a_full_queue_promises_nothing() -> None:
    """Where new requests are turned away no start is told."""
    async for site in open_site(Config(queue=Queue(max_waiting=2, max_waiting_per_person=2))):
        shown = await seen(site, "head")
        assert shown.startswith("Full: 2 waiting, new requests are turned away for now host")


async def test_unknown_times_are_said_to_be_unknown(site: Site) -> None:
    """Where nothing is known there is no number."""
    rows = tuple(replace(row, eta_s=None) for row in site.queue.view.waiting)
    site.queue.view = replace(site.queue.view, waiting=rows)
    site.queue.snapshot = lambda: site.queue.view  # type: ignore[method-assign]
    assert "2nd in line, no estimate yet" in await seen(site, "you")
    assert "There is no estimate yet for a new request" in await seen(site, "head")
    assert "loads the model first no estimate yet" in await seen(site, "queue")


@pytest.mark.item(75)
async def test_a_hostile_model_is_text_everywhere(site: Site) -> None:
    """P34: in every part, for everybody."""
    site.queue.view = replace(
        site.queue.view,
        running=tuple(replace(row, model=HOSTILE, swap=True) for row in site.queue.view.running),
    )
    loaded = ResidentModel(name=HOSTILE, size_bytes=1, vram_bytes=1, context=None, expires=None)
    site.parts.monitor.view = site.parts.monitor.view.changed(loaded=(loaded,))
    for who in ("", "alice", "bob", "carol"):
        _, _, page = await site.get("/status", who)
        assert HOSTILE not in page
        async with site.watch("", who) as stream:
            await stream.event()
            await site.round()
            parts, meta = await stream.update()
        assert HOSTILE not in "".join(parts.values())
        assert "&lt;img src=x" in parts["head"] + parts["queue"] + parts["models"]
        assert HOSTILE not in str(meta["title"])


async def test_a_key_for_some_models_is_told_the_time_of_one_of_those(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found a moment ago for somebody who would ask for another model does not count."""
    eta_s = {"gemma3:27b": 30.0, "qwen3-coder:30b": 300.0}
    monkeypatch.setattr(
        site.queue, "forecast_new", lambda _who, model: Forecast(position=0, eta_s=eta_s[model])
    )
    loaded = tuple(
        ResidentModel(name=name, size_bytes=1, vram_bytes=1, context=None, expires=None) for name in eta_s
    )
    site.parts.monitor.view = site.parts.monitor.view.changed(loaded=loaded)
    record = next(record for record in site.parts.ring.records if record.name == "bob")
    site.parts.ring = site.parts.ring.changed([record.id], models=("qwen3-coder:*",))
    assert "in about 30 s" in await seen(site, "head", "alice")
    assert "in about 5 min" in await seen(site, "head", "bob")
