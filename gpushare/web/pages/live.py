"""The live stream of the pages: server-sent events.

Rules: a viewer is told what the page itself would show, by the same rules; what is sent, and when, is decided
by ``web.pages.hub``.  ``docs/api.md`` describes the events.
"""

import asyncio
import re

from aiohttp import web

from gpushare.core.errors import BadQuery, KeyMissing, NotAdmin
from gpushare.core.model import Principal
from gpushare.engine.gateway import answer_headers
from gpushare.web.callers import base_url, client_address
from gpushare.web.middleware import cors_headers
from gpushare.web.pages import events
from gpushare.web.pages.hub import Hub
from gpushare.web.pages.render import PAGE_HEADERS
from gpushare.web.pages.sections import VIEWS
from gpushare.web.pages.viewers import session_left_s, viewer
from gpushare.web.parts import PARTS, REQUEST_ID, Parts
from gpushare.web.transport import ResponseSink

HUB = web.AppKey("hub", Hub)
RETRY_MS = 2500
RETRY_SPREAD_MS = 1500  # so that a restart does not bring everybody back in the same second

_REV = re.compile(r"[0-9a-z]{1,16}-[0-9]{1,12}", re.ASCII)
_HEADERS = {
    **PAGE_HEADERS,
    "Content-Type": "text/event-stream; charset=utf-8",
    "X-Accel-Buffering": "no",
}


async def live_events(request: web.Request) -> web.StreamResponse:
    """Streams what changes on a page until the viewer leaves or is sent away.

    Raises:
        BadQuery: a page that has no stream.
        KeyProblem: the page needs a key.
        NotAdmin: the page is for admins.
        Unavailable: too many viewers, or the server closes down.
    """
    parts, hub = request.app[PARTS], request.app[HUB]
    view, who = request.query.get("view", "status"), viewer(request)
    _check_view(request, parts, view, who)
    address = client_address(request)
    hub.check_room(address)
    sink = ResponseSink(request, headers={**cors_headers(request), **answer_headers(request[REQUEST_ID])})
    sink.start(200, _HEADERS)
    if request.method == "HEAD":
        sink.finish()
        return sink.response
    sink.write(events.opening(RETRY_MS + int(RETRY_SPREAD_MS * parts.jitter())))
    as_json, left_s = request.query.get("format") == "json", session_left_s(request)
    one = hub.join(
        sink,
        address,
        view=view,
        who=who,
        by_session=left_s is not None,
        rev=_rev(request),
        as_json=as_json,
    )
    try:
        async with asyncio.timeout(left_s):
            await one.ended.wait()
    except TimeoutError:
        hub.send_away([one], "signed-out")
    finally:
        hub.leave(one)
    return sink.response


def _check_view(request: web.Request, parts: Parts, view: str, who: Principal | None) -> None:
    if view not in VIEWS:
        raise BadQuery(f"There is no such view. Views are {', '.join(VIEWS)}.")
    if who is None and (view != "status" or parts.config.status.anonymous == "off"):
        raise KeyMissing(base_url(request))
    if view == "admin" and who is not None and not who.is_admin:
        raise NotAdmin(who.name, "This page")


def _rev(request: web.Request) -> str:
    """Returns what the viewer knows already: what a browser sends by itself is newer than its page."""
    for given in (request.headers.get("Last-Event-ID"), request.query.get("rev")):
        if given and _REV.fullmatch(given):
            return given
    return ""
