"""The page of one person: own calls, each to cancel, and the own key."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web
from markupsafe import Markup

from gpushare.core import own
from gpushare.core.keys import KeyRecord
from gpushare.web.callers import base_url
from gpushare.web.pages.cancel import told
from gpushare.web.pages.forms import go_to
from gpushare.web.pages.look import Look
from gpushare.web.pages.render import Page, render
from gpushare.web.pages.sections import RENDERER
from gpushare.web.pages.viewers import viewer
from gpushare.web.parts import PARTS


@dataclass(frozen=True, slots=True, kw_only=True)
class MePage(Page):
    """What ``me.html`` uses; ``told`` is what came of the form that led here."""

    told: str
    sections: Mapping[str, Markup]
    now: datetime
    share: str
    key: KeyRecord


async def me_page(request: web.Request) -> web.Response:
    """Shows what is the viewer's own."""
    parts = request.app[PARTS]
    who = viewer(request)
    key = parts.ring.get(who.key_id) if who else None
    if who is None or key is None:
        return go_to("/login?next=/me")
    look = Look(parts)
    page = MePage(
        path="/me",
        title=f"{who.name} · gpushare on {parts.host}",
        host=parts.host,
        base_url=base_url(request),
        view="me",
        told=told(request),
        sections=request.app[RENDERER].first_paint(look, look.audience(who), "me"),
        now=look.showing.picture.wall,
        share=own.share(who, parts.config.queue.background_weight),
        key=key,
    )
    return render(request, "me.html", page)
