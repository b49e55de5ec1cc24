"""What people and machines look at: the status page, its JSON, metrics and health.

Called by: ``app`` (``setup``, before the catch-all route of the API).

Rules: the page and the JSON show the same document, which ``core.status`` has already reduced to what the
viewer may see.  Everything that is shown is escaped by the templates; no script and no foreign address is
needed or allowed.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from ipaddress import ip_address, ip_network
from pathlib import Path

import aiohttp_jinja2
import jinja2
import msgspec
from aiohttp import web

from gpushare import __version__
from gpushare.core import wording
from gpushare.core.document import Document, LastDay, State
from gpushare.core.errors import KeyMissing, MethodNotAllowed, NetworkDenied, UnknownEndpoint
from gpushare.core.model import Principal
from gpushare.core.names import canonical_model
from gpushare.core.status import (
    Audience,
    Picture,
    Progress,
    document,
    owner_names,
    readiness,
)
from gpushare.core.wording import Headline
from gpushare.web.callers import base_url, client_address
from gpushare.web.inference import ANONYMOUS, alive
from gpushare.web.parts import PARTS, PRINCIPAL, Parts

REFRESH_S = 10

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
ASSET_TYPES = {".css": "text/css", ".svg": "image/svg+xml"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What every template may use."""

    path: str
    title: str
    host: str
    base_url: str
    icon: str = "idle"
    version: str = __version__


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusPage(Page):
    """What ``status.html`` and its parts use.

    ``newcomer`` is the sentence about a new request, empty when nothing would start.  ``details`` tells
    whether the columns for tokens and speed are shown; ``refresh_s`` is 0 while the viewer pauses.
    """

    status: Document
    headline: Headline
    newcomer: str
    day: LastDay | None
    details: bool
    signed_in: bool
    refresh_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One line of the page that says what to type into which tool."""

    name: str
    address: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectPage(Page):
    """What ``connect.html`` uses."""

    tools: tuple[Tool, ...]


class Assets:
    """The static files, each under a name that holds its content's hash, so that it may be kept for ever."""

    def __init__(self, folder: Path) -> None:
        self._names: dict[str, str] = {}
        self._files: dict[str, tuple[bytes, str]] = {}
        for file in sorted(folder.iterdir()):
            if file.suffix in ASSET_TYPES:
                content = file.read_bytes()
                name = f"{file.stem}.{sha256(content).hexdigest()[:8]}{file.suffix}"
                self._names[file.name] = name
                self._files[name] = content, ASSET_TYPES[file.suffix]

    def address(self, name: str) -> str:
        """Returns the address of a file."""
        return f"/static/{self._names[name]}"

    async def serve(self, request: web.Request) -> web.Response:
        """Answers with a file."""
        found = self._files.get(request.match_info["name"])
        if found is None:
            raise UnknownEndpoint
        content, content_type = found
        headers = {**PAGE_HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
        return web.Response(body=content, content_type=content_type, charset="utf-8", headers=headers)


def _since(then: datetime, now: datetime) -> str:
    return wording.duration((now - then).total_seconds())


FILTERS: dict[str, Callable[..., str]] = {
    "at_most": wording.at_most,
    "duration": wording.duration,
    "estimate": wording.estimate,
    "number": wording.number,
    "percent": wording.percent,
    "since": _since,
    "size": wording.size,
}


def setup(app: web.Application, *, templates: Path, static: Path) -> None:
    """Adds the pages to the application.

    Args:
        app: gets the routes; its catch-all route must come later.
        templates: the folder of the page templates.
        static: the folder of the style sheet and the icons.
    """
    assets = Assets(static)
    aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        filters=FILTERS,
    )
    aiohttp_jinja2.get_env(app).globals["asset"] = assets.address
    routes: dict[str, Handler] = {
        "/": root,
        "/status": status_page,
        "/connect": connect_page,
        "/gpushare/v1/status": status_json,
        "/metrics": metrics,
        "/healthz": alive_probe,
        "/readyz": ready_probe,
        "/static/{name}": assets.serve,
    }
    for path, handler in routes.items():
        app.router.add_route("*", path, _reading(handler))


def _reading(handler: Handler) -> Handler:
    """Returns a handler that answers GET and HEAD alone."""

    async def read_only(request: web.Request) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(("GET", "HEAD"))
        return await handler(request)

    return read_only


async def root(request: web.Request) -> web.Response:
    """Sends browsers to the status page and answers everybody else as Ollama does."""
    if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
        return web.Response(status=302, headers={**PAGE_HEADERS, "Location": "/status"})
    return alive()


async def status_page(request: web.Request) -> web.Response:
    """Shows the queue."""
    parts = request.app[PARTS]
    who = request.get(PRINCIPAL)
    if who is None and parts.config.status.anonymous == "off":
        return _render(request, "closed.html", _page(request, "This page needs a key"), status=401)
    status = _document(parts, who)
    headline = wording.headline(status)
    page = StatusPage(
        path="/status",
        title=headline.title,
        host=parts.host,
        base_url=base_url(request),
        icon=headline.icon,
        status=status,
        headline=headline,
        newcomer=_newcomer(status),
        day=status.day if isinstance(status.day, LastDay) else None,
        details=who is not None,
        signed_in=who is not None,
        refresh_s=0 if "paused" in request.query else REFRESH_S,
    )
    return _render(request, "status.html", page)


async def status_json(request: web.Request) -> web.Response:
    """Returns the status document.

    Raises:
        KeyProblem: the key is not valid, or is missing where the configuration asks for one.
    """
    parts = request.app[PARTS]
    who = request.get(PRINCIPAL)
    if who is None and parts.config.status.anonymous == "off":
        raise KeyMissing(base_url(request))
    body = msgspec.json.encode(_document(parts, who))
    return web.Response(body=body, content_type="application/json", charset="utf-8", headers=PAGE_HEADERS)


async def connect_page(request: web.Request) -> web.Response:
    """Shows what to type into which tool."""
    page = ConnectPage(
        path="/connect",
        title="Connect a tool · gpushare",
        host=request.app[PARTS].host,
        base_url=base_url(request),
        tools=_tools(base_url(request)),
    )
    return _render(request, "connect.html", page)


async def metrics(request: web.Request) -> web.Response:
    """Returns the Prometheus page to the networks that may read it.

    Raises:
        UnknownEndpoint: the configuration turns metrics off.
        NetworkDenied: the caller's network may not read them.
    """
    parts = request.app[PARTS]
    if not parts.config.metrics.enabled:
        raise UnknownEndpoint
    if not _is_within(client_address(request), parts.config.metrics.allow):
        raise NetworkDenied
    body, content_type = parts.metrics.render(request.headers.get("Accept", ""))
    return web.Response(body=body, headers={**PAGE_HEADERS, "Content-Type": content_type})


async def alive_probe(_request: web.Request) -> web.Response:
    """Says that the process answers."""
    return web.Response(text="ok", headers=PAGE_HEADERS)


async def ready_probe(request: web.Request) -> web.Response:
    """Says whether a call would be admitted now, in one word."""
    parts = request.app[PARTS]
    obstacle = readiness(parts.monitor.view, draining=parts.draining)
    if obstacle is None:
        return web.Response(text="ok", headers=PAGE_HEADERS)
    return web.Response(status=503, text=obstacle.value, headers=PAGE_HEADERS)


def _document(parts: Parts, who: Principal | None) -> Document:
    """Returns what a viewer may see at this moment."""
    now = parts.monotonic()
    wall = datetime.now(UTC)
    progress = {
        request_id: Progress(
            tool=live.tool,
            streaming=live.call.streaming,
            records=live.relay.records if live.relay else 0,
            first_at=live.relay.first_at if live.relay else None,
        )
        for request_id, live in parts.gateway.live.items()
    }
    picture = Picture(
        now=now,
        wall=wall,
        host=parts.host,
        version=__version__,
        queue=parts.slots.snapshot(),
        ollama=parts.monitor.view,
        day=parts.stats.day(wall.timestamp()),
        max_waiting=parts.config.queue.max_waiting,
        draining=parts.draining,
        starts_in_s=_starts_in_s(parts, who),
        names=owner_names(parts.ring),
        progress=progress,
    )
    return document(picture, Audience(who=who, people=parts.config.status.people))


def _starts_in_s(parts: Parts, who: Principal | None) -> float | None:
    """Returns when a call of the viewer would start if it came now, for a model that is in memory."""
    loaded = parts.monitor.view.loaded
    model = canonical_model(loaded[0].name) if loaded else ""
    return parts.slots.forecast_new(who or ANONYMOUS, model).eta_s


def _newcomer(status: Document) -> str:
    """Returns the sentence about a new request, where one would be taken and the headline does not say it."""
    if status.state not in (State.BUSY, State.SWAP):
        return ""
    return wording.newcomer(status.new_request_starts_in_s)


def _tools(base: str) -> tuple[Tool, ...]:
    """Returns what to type into the common tools; other tools take one of the first three forms."""
    key = "gs_…"
    host = base.rstrip("/")
    return (
        Tool(name="OpenAI SDKs", address=f"OPENAI_BASE_URL={host}/v1", key=f"OPENAI_API_KEY={key}"),
        Tool(name="Anthropic SDKs", address=f"ANTHROPIC_BASE_URL={host}", key=f"ANTHROPIC_API_KEY={key}"),
        Tool(name="ollama-python", address=f"OLLAMA_HOST={host}", key=f"OLLAMA_API_KEY={key}"),
        Tool(
            name="ollama-js", address=f'host: "{host}"', key=f'headers: {{ Authorization: "Bearer {key}" }}'
        ),
        Tool(name="LangChain", address=f'base_url="{host}/v1"', key=f'api_key="{key}"'),
        Tool(name="ollama command line", address=f"OLLAMA_HOST={host}/k/{key}", key="in the address"),
        Tool(name="Claude Code", address=f"ANTHROPIC_BASE_URL={host}", key=f"ANTHROPIC_AUTH_TOKEN={key}"),
        Tool(name="Open WebUI", address=host, key="the connection's key"),
        Tool(name="Continue", address=f"apiBase: {host}", key=f"apiKey: {key}"),
        Tool(name="Cline", address=host, key="the API key field"),
        Tool(name="Zed", address=f"language_models.ollama.api_url: {host}", key=f"OLLAMA_API_KEY={key}"),
        Tool(name="aider", address=f"OLLAMA_API_BASE={host}", key=f"OLLAMA_API_KEY={key}"),
        Tool(name="curl", address=f"{host}/api/chat", key=f'-H "Authorization: Bearer {key}"'),
    )


def _page(request: web.Request, title: str) -> Page:
    parts = request.app[PARTS]
    return Page(path="", title=f"{title} · gpushare", host=parts.host, base_url=base_url(request))


def _render(request: web.Request, template: str, page: Page, *, status: int = 200) -> web.Response:
    response = aiohttp_jinja2.render_template(template, request, {"page": page}, status=status)
    response.headers.update(PAGE_HEADERS)
    return response


def _is_within(address: str, networks: tuple[str, ...]) -> bool:
    """Whether an address lies in one of the networks; IPv4 that came over an IPv6 socket counts as IPv4."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return any((mapped or parsed) in ip_network(network) for network in networks)
