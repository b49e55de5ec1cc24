"""The page of one person: own calls, each to cancel, what they used, and the own key."""

import asyncio
from dataclasses import dataclass

from aiohttp import web

from gpushare.core import own
from gpushare.core.errors import LedgerUnavailable
from gpushare.core.keys import KeyRecord
from gpushare.core.own import OwnUse
from gpushare.engine.ports import LedgerReader
from gpushare.web.callers import base_url
from gpushare.web.pages.cancel import told
from gpushare.web.pages.forms import go_to
from gpushare.web.pages.look import Look
from gpushare.web.pages.render import LivePage, refresh_s, render
from gpushare.web.pages.sections import RENDERER
from gpushare.web.pages.viewers import viewer
from gpushare.web.parts import PARTS

DAYS = 7
RECENT_S = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class MePage(LivePage):
    """What ``me.html`` uses; ``use`` is None while the ledger cannot be read."""

    share: str
    use: OwnUse | None
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
        refresh_s=refresh_s(request),
        share=own.share(who, parts.config.queue.background_weight),
        use=await _use(parts.ledger, who.owner, look.wall),
        key=key,
    )
    return render(request, "me.html", page)


async def _use(ledger: LedgerReader, owner: str, now: float) -> OwnUse | None:
    """Returns what somebody used; ``now`` is seconds since 1970."""
    since = now - RECENT_S
    try:
        days, calls, refusals = await asyncio.gather(
            ledger.own_days(owner, DAYS), ledger.own_calls(owner, since), ledger.refusals(owner, since)
        )
    except LedgerUnavailable:
        return None
    return own.use(days, calls, refusals)
