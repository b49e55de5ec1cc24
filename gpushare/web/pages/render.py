"""How a page is made: what every template may use, the filters, and the headers every page carries.

Rules: everything that is shown is escaped by the templates; no foreign address is needed or allowed.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import jinja2
import msgspec
from aiohttp import web

from gpushare import __version__
from gpushare.core import wording
from gpushare.core.errors import MethodNotAllowed
from gpushare.web.callers import base_url
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
class MessagePage(Page):
    """What ``message.html`` uses: a heading, and what there is to say."""

    heading: str
    message: str


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


def setup_templates(app: web.Application, folder: Path, *, asset: Callable[[str], str]) -> None:
    """Makes the templates of a folder ready for ``render``; ``asset`` gives a static file's address."""
    aiohttp_jinja2.setup(
        app,
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        filters=FILTERS,
    )
    aiohttp_jinja2.get_env(app).globals["asset"] = asset


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
    """Returns a template as an answer; it finds everything it shows in ``page``."""
    response = aiohttp_jinja2.render_template(template, request, {"page": page}, status=status)
    response.headers.update(PAGE_HEADERS)
    return response


def json_answer(document: msgspec.Struct | dict[str, Any]) -> web.Response:
    """Returns a document as an answer."""
    body = msgspec.json.encode(document)
    return web.Response(body=body, content_type="application/json", charset="utf-8", headers=PAGE_HEADERS)
