"""The status page and the same document as JSON.

Rules: both show the document that ``core.status`` has already reduced to what the viewer may see.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from gpushare import __version__
from gpushare.core import wording
from gpushare.core.document import Document, LastDay, State
from gpushare.core.errors import KeyMissing
from gpushare.core.model import Principal
from gpushare.core.names import canonical_model
from gpushare.core.status import Audience, Picture, Progress, document, owner_names
from gpushare.core.wording import Headline
from gpushare.web.callers import base_url
from gpushare.web.inference import ANONYMOUS
from gpushare.web.pages.render import Page, json_answer, plain_page, render
from gpushare.web.pages.viewers import viewer
from gpushare.web.parts import PARTS, Parts

REFRESH_S = 10


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


async def status_page(request: web.Request) -> web.Response:
    """Shows the queue."""
    parts = request.app[PARTS]
    who = viewer(request)
    if who is None and parts.config.status.anonymous == "off":
        return render(request, "closed.html", plain_page(request, "This page needs a key"), status=401)
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
    return json_answer(_document(parts, who))


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
        gpus=parts.gpus.view if parts.gpus else None,
        draining=parts.draining,
        config_rejected=parts.config_rejected,
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
