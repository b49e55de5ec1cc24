"""The queue as it concerns the caller, as JSON: why own calls wait."""

from datetime import UTC, datetime

from aiohttp import web

from gpushare.core.audience import Audience, owner_names
from gpushare.core.errors import KeyMissing
from gpushare.core.model import Principal
from gpushare.core.views import QueueView
from gpushare.core.why import Queue, why
from gpushare.web.callers import base_url
from gpushare.web.pages.render import json_answer
from gpushare.web.pages.viewers import viewer
from gpushare.web.parts import PARTS, Parts


async def queue_json(request: web.Request) -> web.Response:
    """Returns why the caller's calls wait; an admin is told of all.

    Raises:
        KeyMissing: there is no key.
    """
    who = viewer(request)
    if who is None:
        raise KeyMissing(base_url(request))
    parts = request.app[PARTS]
    return json_answer(why_waiting(parts, who, parts.slots.snapshot()))


def why_waiting(parts: Parts, who: Principal, view: QueueView) -> Queue:
    """Returns why the calls of a viewer wait in this view: what the macro of ``_why.html`` takes."""
    return why(
        view,
        Audience(who=who, people=parts.config.status.people),
        owner_names(parts.ring),
        now=datetime.now(UTC).replace(microsecond=0),
        ollama_up=parts.monitor.view.up,
    )
