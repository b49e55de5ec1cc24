"""The pages over a real socket, with a queue and an Ollama made up for the test."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, cast

import aiohttp
from aiohttp import web

from gpushare import app
from gpushare.core.config import Config
from gpushare.core.forecast import Forecast
from gpushare.core.keys import KeyRecord, KeyRing, digest, new_key
from gpushare.core.model import ResidentModel, Role, Service
from gpushare.core.status import OllamaView
from gpushare.core.views import QueueView, RunningView, ShareView, WaitingView
from gpushare.edge.ollama import HttpOllama
from gpushare.engine.slots import LocalSlots
from gpushare.web.connections import ConnectionLimits, make_listener
from gpushare.web.parts import Parts
from gpushare.web.server import make_runner

HOSTILE = "<img src=x onerror=alert(1)>"
PEOPLE = ("alice", "bob", "carol")
KEYS = {name: new_key(bytes([number]) * 40) for number, name in enumerate(PEOPLE)}


class MadeUpQueue:
    """A queue with one call running and two waiting; one of the models is hostile."""

    draining = False

    def __init__(self, owners: dict[str, str]) -> None:
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
        return self.view

    def forecast_new(self, who: object, model: str) -> Forecast:
        return Forecast(position=2, eta_s=90.0)


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
    owners: dict[str, str] = field(default_factory=dict)

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


async def open_site(config: Config) -> AsyncIterator[Site]:
    """Serves the pages over made-up objects."""
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
    parts = app.build_parts(config, ring, ollama, app.Life())
    parts.key_store = MadeUpKeys(parts)
    queue = MadeUpQueue(owners)
    parts.slots = cast("LocalSlots", queue)
    loaded = ResidentModel(
        name="qwen3-coder:30b", size_bytes=20, vram_bytes=20, context=32768, expires="2026-11-20T14:32:12Z"
    )
    parts.monitor.view = OllamaView(up=True, version="0.21.0", loaded=(loaded,), since=0.0)
    runner = make_runner(app.build_app(parts), limits=ConnectionLimits())
    await runner.setup()
    listener = make_listener("127.0.0.1", 0)
    await web.SockSite(runner, listener).start()
    port = listener.getsockname()[1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        yield Site(client, port, parts, queue, owners)
    await runner.cleanup()
    await ollama.close()


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
