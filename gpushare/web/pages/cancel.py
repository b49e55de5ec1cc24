"""Ending a call that waits or runs: what the buttons of the pages and ``gpushare top`` do.

Rules: a person ends own calls, an admin any; the id of somebody else's call is answered as one
that is not there.
"""

from urllib.parse import urlsplit

from aiohttp import hdrs, web

from gpushare.core.about import Cancelled
from gpushare.core.errors import RequestUnknown
from gpushare.core.model import Principal
from gpushare.web.pages.controls import note
from gpushare.web.pages.forms import Fields, go_to
from gpushare.web.pages.login import local_page
from gpushare.web.pages.render import json_answer
from gpushare.web.pages.viewers import key_holder, viewer
from gpushare.web.parts import PARTS, Parts


def end(parts: Parts, request_id: str, who: Principal) -> bool:
    """Ends a call if it is one that ``who`` may end; an admin's end of somebody else's is noted."""
    live = parts.gateway.live.get(request_id)
    ended = parts.gateway.cancel(request_id, who)
    if ended and live is not None and live.who.owner != who.owner:
        note(parts, who, "queue cancel", request_id, live.who.name)
    return ended


async def cancel_json(request: web.Request) -> web.Response:
    """Ends a call for a script; it needs the key itself, a signed-in browser uses the page's form.

    Raises:
        KeyMissing: no key.
        RequestUnknown: the caller may end no call of this id.
    """
    who = key_holder(request)
    request_id = request.match_info["id"]
    if not end(request.app[PARTS], request_id, who):
        raise RequestUnknown
    return json_answer(Cancelled(id=request_id))


async def cancel(request: web.Request, fields: Fields) -> web.Response:
    """Ends a call for the viewer of a page, and leads back to that page, which tells what came of it."""
    page = page_of(request)
    who = viewer(request)
    if who is None:
        return go_to(f"/login?next={page}")
    ended = end(request.app[PARTS], fields.get("id", ""), who)
    return go_to(f"{page}?cancelled={'yes' if ended else 'no'}")


def told(request: web.Request) -> str:
    """Returns what a page says first after ``cancel`` has led to it, else an empty text."""
    sentences = {
        "yes": "The request is cancelled.",
        "no": "The request had ended before it could be cancelled.",
    }
    return sentences.get(request.query.get("cancelled", ""), "")


def page_of(request: web.Request) -> str:
    """Returns which of our pages a form was on."""
    try:
        return local_page(urlsplit(request.headers.get(hdrs.REFERER, "")).path)
    except ValueError:
        return local_page("")
