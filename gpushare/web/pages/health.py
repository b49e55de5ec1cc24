"""What machines look at: metrics, health, and the description of our own addresses."""

from aiohttp import web

from gpushare import __version__
from gpushare.core.errors import NetworkDenied, UnknownEndpoint
from gpushare.core.forms import networks
from gpushare.core.hosts import is_within
from gpushare.core.openapi import description
from gpushare.core.picture import readiness
from gpushare.web.callers import client_address
from gpushare.web.pages.render import PAGE_HEADERS, json_answer
from gpushare.web.parts import PARTS


async def metrics(request: web.Request) -> web.Response:
    """Returns the Prometheus page to the networks that may read it.

    Raises:
        UnknownEndpoint: the configuration turns metrics off.
        NetworkDenied: the caller's network may not read them.
    """
    parts = request.app[PARTS]
    if not parts.config.metrics.enabled:
        raise UnknownEndpoint
    if not is_within(client_address(request), networks(parts.config.metrics.allow)):
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
    word = obstacle.value if obstacle else "ok" if parts.ledger.state.writable else "ledger"
    return web.Response(status=200 if word == "ok" else 503, text=word, headers=PAGE_HEADERS)


async def openapi_json(_request: web.Request) -> web.Response:
    """Describes our own addresses to programs."""
    return json_answer(description(__version__))
