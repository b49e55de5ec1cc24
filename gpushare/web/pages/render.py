"""How a page is made: what every template may use, the filters, and the headers every page carries.

Rules: everything that is shown is escaped by the templates; no foreign address is needed or allowed.
"""

import shlex
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
import msgspec
from aiohttp import web
from jinja2.runtime import Context
from markupsafe import Markup, escape

from gpushare import __version__
from gpushare.core import wording
from gpushare.core.errors import MethodNotAllowed
from gpushare.web.callers import base_url
from gpushare.web.pages.viewers import viewer
from gpushare.web.parts import PARTS

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}

REFRESH_S = 10

NAVIGATION = (("/status", "Status"), ("/connect", "Connect"), ("/me", "My usage"))
FOR_ADMINS = (("/admin", "Admin"),)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What every template may use; ``view`` names the live stream of the page, empty for none."""

    path: str
    title: str
    host: str
    base_url: str
    icon: str = "idle"
    view: str = ""
    version: str = __version__


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePage(Page):
    """What ``message.html`` uses: a heading, what there is to say, and where to go, by address and name."""

    heading: str
    message: str
    way: tuple[str, str] = ("/status", "Status page")


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePage(Page):
    """What ``live.html`` and the pages that live use.

    ``told`` is what came of the form that led here; ``refresh_s`` is 0 while a viewer without scripts pauses.
    """

    told: str
    sections: Mapping[str, Markup]
    now: datetime
    refresh_s: int


def refresh_s(request: web.Request) -> int:
    """Returns how often a browser without scripts asks for a page that lives."""
    return 0 if "paused" in request.query else REFRESH_S


@jinja2.pass_context
def _since(context: Context, then: datetime) -> Markup:
    """Returns how long ago an instant was; counted on by the page's script."""
    return _counted(context, then, "data-since", wording.duration, past=True)


@jinja2.pass_context
def _until(context: Context, then: datetime) -> Markup:
    """Returns when something starts; counted on by the page's script."""
    return _counted(context, then, "data-until", wording.estimate, past=False)


@jinja2.pass_context
def _within(context: Context, then: datetime) -> Markup:
    """Returns when something starts, as the end of a sentence; counted on by the page's script."""

    def words(seconds: float) -> str:
        return wording.within(wording.estimate(seconds))

    return _counted(context, then, "data-in data-until", words, past=False)


@jinja2.pass_context
def _left(context: Context, then: datetime) -> Markup:
    """Returns when something ends that nobody has to wait for; counted on by the page's script."""
    return _counted(context, then, "data-left", wording.left, past=False)


def _counted(
    context: Context, then: datetime, mark: str, words: Callable[[float], str], *, past: bool
) -> Markup:
    """Returns an element that knows its instant; it has words where the reader has no script (``now``)."""
    text, now = "", context.get("now")
    if now is not None:
        seconds = (now - then).total_seconds()
        text = words(seconds if past else -seconds)
    return Markup(f'<span {mark}="{int(then.timestamp())}">{escape(text)}</span>')  # noqa: S704 - escaped


FILTERS: dict[str, Callable[..., str | list[str]]] = {
    "at_most": wording.at_most,
    "counted": wording.counted,
    "duration": wording.duration,
    "left": _left,
    "number": wording.number,
    "ordinal": wording.ordinal,
    "percent": wording.percent,
    "since": _since,
    "size": wording.size,
    "spent": wording.spent,
    "tool": wording.tool,
    "until": _until,
    "waits_by_hour": wording.waits_by_hour,
    "within": _within,
}


def setup_templates(
    app: web.Application, folder: Path, *, asset: Callable[[str], str], build: str
) -> jinja2.Environment:
    """Makes the templates of a folder ready for ``render``.

    Args:
        app: whose pages use them.
        folder: of the templates.
        asset: gives a static file's address.
        build: changes with what a loaded page was made of.
    """
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        auto_reload=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    environment.globals.update(asset=asset, build=build)
    return environment


def reading(handler: Handler) -> Handler:
    """Returns a handler that answers GET and HEAD alone."""
    return by_method(GET=handler, HEAD=handler)


def by_method(**handlers: Handler) -> Handler:
    """Returns a handler that gives each method to its own one, and answers 405 to all others."""

    async def dispatch(request: web.Request) -> web.StreamResponse:
        handler = handlers.get(request.method)
        if handler is None:
            raise MethodNotAllowed(tuple(handlers))
        return await handler(request)

    return dispatch


def plain_page(request: web.Request, title: str) -> Page:
    """Returns a page that shows nothing but its template's own words."""
    parts = request.app[PARTS]
    return Page(path="", title=f"{title} · gpushare", host=parts.host, base_url=base_url(request))


def message_page(request: web.Request, heading: str, message: str) -> MessagePage:
    """Returns a page that says one thing."""
    return MessagePage(
        path="",
        title=f"{heading} · gpushare",
        host=request.app[PARTS].host,
        base_url=base_url(request),
        heading=heading,
        message=message,
    )


def render(request: web.Request, template: str, page: Page, *, status: int = 200) -> web.Response:
    """Returns a template as an answer; it finds what it shows in ``page``, and who looks in ``who``."""
    who = viewer(request)
    nav = NAVIGATION + (FOR_ADMINS if who is not None and who.is_admin else ())
    context = {"page": page, "who": who, "nav": nav}
    response = aiohttp_jinja2.render_template(template, request, context, status=status)
    response.headers.update(PAGE_HEADERS)
    return response


def command(*words: str) -> str:
    """Returns a command of ours as one types it into a shell."""
    return shlex.join(["gpushare", *words])


def json_answer(document: msgspec.Struct | dict[str, Any]) -> web.Response:
    """Returns a document as an answer."""
    body = msgspec.json.encode(document)
    return web.Response(body=body, content_type="application/json", charset="utf-8", headers=PAGE_HEADERS)
