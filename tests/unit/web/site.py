"""The pages over a real socket, with a queue and an Ollama made up for the test."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import aiohttp
from aiohttp import web

from gpushare import app
from gpushare.core.config import Config
from gpushare.core.dialects import find_endpoint
from gpushare.core.errors import Draining
from gpushare.core.forecast import Forecast
from gpushare.core.keys import KeyRecord, KeyRing, digest, new_key
from gpushare.core.model import Call, Framing, Lane, Principal, ResidentModel, Role, Service
from gpushare.core.picture import OllamaView
from gpushare.core.views import QueueCounts, QueueView, RunningView, ShareView, WaitingView
from gpushare.edge.ollama import HttpOllama
from gpushare.engine.live import LiveCall
from gpushare.engine.relay import Relay
from gpushare.engine.slots import LocalSlots
from gpushare.web.connections import ConnectionLimits, make_listener
from gpushare.web.pages.hub import Hub
from gpushare.web.pages.live import HUB
from gpushare.web.parts import Parts
from gpushare.web.server import make_runner

HOSTILE = "<img src=x onerror=alert(1)>"
PEOPLE = ("alice", "bob", "carol")
KEYS = {name: new_key(bytes([number]) * 40) for number, name in enumerate(PEOPLE)}


class MadeUpQueue:
    """A queue with one call running and two waiting; one of the models is hostile."""

    closing = False
    draining = False
    paused = False

    def __init__(self, owners: dict[str, str], clock: Callable[[], float]) -> None:
        self.clock = clock
        self.born = clock()
        self.view = QueueView(
            now=0.0,
            running=(
                RunningView(
                    id="r_1",
                    owner=owners["bob"],
                    service=Service.INTERACTIVE,
                    model="qwen3-coder:30b",
                    backend="ollama",
                    started_s=31.0,
                    swap=False,
                ),
            ),
            waiting=tuple(
                WaitingView(
                    id=f"r_{2 + number}",
                    owner=owners[name],
                    service=Service.INTERACTIVE,
                    model=HOSTILE,
                    since=-20.0,
                    position=1 + number,
                    eta_s=25.0,
                    swap=True,
                    loads=True,
                )
                for number, name in enumerate(("carol", "alice"))
            ),
            shares=tuple(
                ShareView(
                    owner=owners[name],
                    weight=1.0,
                    used_s=used,
                    due_s=10.0,
                    deficit_s=0.0,
                    waiting=0,
                    running=0,
                )
                for name, used in (("alice", 5.0), ("bob", 15.0), ("carol", 0.0))
            ),
            backends=(),
            granted_total=7,
            released_total=6,
            held=1,
            paused_since=None,
            jain=0.8,
        )

    def snapshot(self) -> QueueView:
        """Returns the queue as it is now: what runs runs longer, what waits starts sooner."""
        passed_s = self.clock() - self.born
        running = (replace(row, started_s=row.started_s + passed_s) for row in self.view.running)
        waiting = (replace(row, eta_s=(row.eta_s or 0.0) - passed_s) for row in self.view.waiting)
        return replace(self.view, running=tuple(running), waiting=tuple(waiting))

    def pause(self) -> None:
        self.paused = True
        self.view = replace(self.view, paused_since=0.0)

    def drain(self) -> None:
        self.draining = True

    def resume(self) -> None:
        self.paused = self.draining = False
        self.view = replace(self.view, paused_since=None)

    def counts(self) -> QueueCounts:
        view = self.view
        return QueueCounts(
            waiting=len(view.waiting),
            held=view.held,
            granted_total=view.granted_total,
            released_total=view.released_total,
            shares=view.shares,
            jain=view.jain,
        )

    def closing_down(self) -> Draining:
        return Draining()

    def forecast_new(self, who: object, model: str) -> Forecast:
        return Forecast(position=2, eta_s=90.0 - (self.clock() - self.born))


class MadeUpKeys:
    """Keys that are kept nowhere."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def edit(self, change: Callable[[KeyRing], KeyRing]) -> None:
        self.parts.ring = change(self.parts.ring)


@dataclass
class Site:
    """A server and the objects behind it."""

    client: aiohttp.ClientSession
    port: int
    parts: Parts
    queue: MadeUpQueue
    app: web.Application
    owners: dict[str, str] = field(default_factory=dict)

    @property
    def hub(self) -> Hub:
        """Who watches."""
        return self.app[HUB]

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    async def get(self, path: str, who: str = "", **headers: str) -> tuple[int, Any, str]:
        """Returns status, headers and text."""
        if who:
            headers["Authorization"] = f"Bearer {KEYS[who]}"
        async with self.client.get(path, headers=headers, allow_redirects=False) as answer:
            return answer.status, answer.headers, await answer.text()

    async def round(self, seconds: float = 1.0) -> None:
        """Lets some time pass and tells the viewers what changed; the clock of the pages stands otherwise."""
        later = self.parts.monotonic() + seconds
        self.parts.clock = lambda: later
        await self.hub.play_round()

    @asynccontextmanager
    async def watch(self, query: str = "", who: str = "", **headers: str) -> AsyncIterator["Stream"]:
        """Opens a live stream for the block; ``round`` lets it speak."""
        if who:
            headers["Authorization"] = f"Bearer {KEYS[who]}"
        async with self.client.get(f"/events{query}", headers=headers) as answer:
            yield Stream(answer)

    def go_live(self) -> list["MadeUpRelay"]:
        """Gives each call a tool named after its person, and 1,204 tokens; returns the answers."""
        endpoint, target = find_endpoint("POST", "/api/chat", query="")
        rows: list[RunningView | WaitingView] = [*self.queue.view.running, *self.queue.view.waiting]
        answers = [MadeUpRelay(first_at=self.parts.monotonic() - 60) for _ in rows]
        for row, answer in zip(rows, answers, strict=True):
            name = next(name for name, owner in self.owners.items() if owner == row.owner)
            call = Call(
                endpoint=endpoint,
                target=target,
                body=b"",
                content_type="",
                model=row.model,
                framing=Framing.NDJSON,
                lane=Lane.GENERATE,
            )
            who = Principal(key_id=row.owner, name=name, owner=row.owner)
            live = LiveCall(call=call, who=who, request_id=row.id, tool=f"tool-of-{name}", began=0.0)
            live.relay = cast("Relay", answer)
            self.parts.gateway.live[row.id] = live
        return answers


@dataclass
class MadeUpRelay:
    """An answer on its way: how many tokens it has, and since when."""

    first_at: float
    records: int = 1204


@dataclass
class Stream:
    """The events of a live stream."""

    answer: aiohttp.ClientResponse

    async def event(self) -> tuple[str, str, str]:
        """Returns the name, the data and the id of the next event.

        Raises:
            EOFError: the stream has ended.
        """
        fields = {"event": "", "data": "", "id": ""}
        async with asyncio.timeout(10):
            while (line := await self.answer.content.readline()) != b"\n":
                if not line:
                    raise EOFError
                name, _, value = line.decode().rstrip("\n").partition(": ")
                fields[name] = f"{fields[name]}\n{value}" if fields.get(name) else value
        return fields["event"], fields["data"], fields["id"]

    async def update(self) -> tuple[dict[str, str], dict[str, Any]]:
        """Returns the parts up to the next ``meta``, by the id of their element, and what that one says."""
        parts = {}
        while (event := await self.event())[0] != "meta":
            if event[0] == "part":
                element, _, html = event[1].partition("\n")
                parts[element] = html
        return parts, json.loads(event[1])


async def open_site(config: Config) -> AsyncIterator[Site]:
    """Serves the pages over made-up objects; only the ledger is a real one."""
    ring = KeyRing(
        KeyRecord(
            id=secret.split("_")[1],
            name=name,
            sha256=digest(secret),
            role=Role.ADMIN if name == "carol" else Role.PERSON,
        )
        for name, secret in KEYS.items()
    )
    owners = {record.name: record.owner for record in ring.records}
    ollama = HttpOllama("http://127.0.0.1:9")
    life = app.Life()
    folder = TemporaryDirectory()
    parts = app.build_parts(config, ring, ollama, Path(folder.name), life)
    began = parts.monotonic()
    parts.clock = lambda: began  # stands, so that a page says the same however long it takes to be made
    await life.start()
    parts.key_store = MadeUpKeys(parts)
    queue = MadeUpQueue(owners, parts.monotonic)
    parts.slots = cast("LocalSlots", queue)
    loaded = ResidentModel(
        name="qwen3-coder:30b",
        size_bytes=20,
        vram_bytes=20,
        context=32768,
        expires=datetime(2026, 11, 20, 14, 32, 12, tzinfo=UTC),
    )
    parts.monitor.view = OllamaView(up=True, version="0.21.0", loaded=(loaded,), since=0.0)
    application = app.build_app(parts, life)
    runner = make_runner(application, limits=ConnectionLimits())
    await runner.setup()
    listener = make_listener("127.0.0.1", 0)
    await web.SockSite(runner, listener).start()
    port = listener.getsockname()[1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        yield Site(client, port, parts, queue, application, owners)
    await runner.cleanup()
    await life.stop()
    await ollama.close()
    folder.cleanup()


class Tags(HTMLParser):
    """Collects the tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    """Returns the tags of a page with their attributes."""
    parser = Tags()
    parser.feed(page)
    return parser.tags


def text_of(html: str) -> str:
    """Returns what a reader sees of a piece of a page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())
