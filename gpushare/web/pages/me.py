"""The page of one person: own calls, each to cancel, and the own key."""

from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from gpushare.core import own, wording
from gpushare.core.keys import KeyRecord
from gpushare.core.model import Principal
from gpushare.core.views import QueueView
from gpushare.core.why import Queue, why_own
from gpushare.web.callers import base_url
from gpushare.web.pages.cancel import told
from gpushare.web.pages.forms import go_to
from gpushare.web.pages.look import Look
from gpushare.web.pages.render import Page, render
from gpushare.web.pages.viewers import viewer
from gpushare.web.parts import PARTS, Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCall:
    """One call of the viewer that waits or runs: ``where`` it is, and for how long, in seconds."""

    id: str
    model: str
    tool: str
    where: str
    for_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MePage(Page):
    """What ``me.html`` uses; ``told`` is what came of the form that led here, ``now`` when this is."""

    name: str
    told: str
    now: datetime
    calls: tuple[OwnCall, ...]
    why: Queue
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
        name=who.name,
        told=told(request),
        now=look.showing.picture.wall,
        calls=_calls(parts, who, look.showing.picture.queue),
        why=why_own(look.showing.picture, look.audience(who)),
        share=own.share(who, parts.config.queue.background_weight),
        key=key,
    )
    return render(request, "me.html", page)


def _calls(parts: Parts, who: Principal, queue: QueueView) -> tuple[OwnCall, ...]:
    """Returns the viewer's calls: those that run, then those that wait, the next one first."""
    tools = {request_id: live.tool for request_id, live in parts.gateway.live.items()}
    running = [
        OwnCall(id=row.id, model=row.model, tool=tools.get(row.id, ""), where="Running", for_s=row.started_s)
        for row in queue.running
        if row.owner == who.owner
    ]
    waiting = [
        OwnCall(
            id=row.id,
            model=row.model,
            tool=tools.get(row.id, ""),
            where=f"Place {row.position} in line, {wording.estimate(row.eta_s)}",
            for_s=queue.now - row.since,
        )
        for row in queue.waiting
        if row.owner == who.owner
    ]
    return (*running, *waiting)
