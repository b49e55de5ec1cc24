"""The status page and the same document as JSON.

Rules: both show what ``core.status`` has already reduced to what the viewer may see.
"""

from aiohttp import web

from gpushare.core.errors import KeyMissing
from gpushare.web.callers import base_url
from gpushare.web.pages.cancel import told
from gpushare.web.pages.look import Look
from gpushare.web.pages.render import LivePage, json_answer, plain_page, refresh_s, render
from gpushare.web.pages.sections import RENDERER, head, you
from gpushare.web.pages.viewers import viewer
from gpushare.web.parts import PARTS


async def status_page(request: web.Request) -> web.Response:
    """Shows the queue."""
    parts = request.app[PARTS]
    who = viewer(request)
    if who is None and parts.config.status.anonymous == "off":
        return render(request, "closed.html", plain_page(request, "This page needs a key"), status=401)
    look = Look(parts)
    audience = look.audience(who)
    front = head(look, audience)
    page = LivePage(
        path="/status",
        title=front.title(you(look, audience).place),
        host=parts.host,
        base_url=base_url(request),
        icon=front.headline.icon,
        view="status",
        sections=request.app[RENDERER].first_paint(look, audience, "status"),
        now=look.showing.picture.wall,
        told=told(request),
        refresh_s=refresh_s(request),
    )
    return render(request, "status.html", page)


async def status_json(request: web.Request) -> web.Response:
    """Returns the status document.

    Raises:
        KeyProblem: the key is not valid, or is missing where the configuration asks for one.
    """
    parts = request.app[PARTS]
    who = viewer(request)
    if who is None and parts.config.status.anonymous == "off":
        raise KeyMissing(base_url(request))
    return json_answer(Look(parts).document(who))
