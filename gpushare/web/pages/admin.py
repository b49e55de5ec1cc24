"""The page of the admins: what they can do to the queue, whose keys there are, and what was done.

Called by: ``web.pages``.  Rules: every form says beforehand what it does to whom, and which command does the
same; persons are told that the page is not for them, everybody else is led to the sign-in.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from gpushare.core import wording
from gpushare.core.capacity import DAYS, Verdict, verdict
from gpushare.core.controls import Control
from gpushare.core.errors import LedgerUnavailable, NotAdmin
from gpushare.core.keys import KeyRecord, KeyState
from gpushare.core.ledger import Action
from gpushare.core.model import Principal
from gpushare.core.usage import KeyUse
from gpushare.web.callers import base_url
from gpushare.web.pages.cancel import end, page_of, told
from gpushare.web.pages.controls import control, unload
from gpushare.web.pages.forms import Fields, FormHandler, go_to
from gpushare.web.pages.login import local_page
from gpushare.web.pages.look import Look
from gpushare.web.pages.render import Handler, LivePage, Page, command, refresh_s, render
from gpushare.web.pages.sections import RENDERER
from gpushare.web.pages.viewers import viewer
from gpushare.web.parts import PARTS, Parts

DAY_S = 86_400.0
MOST_ACTIONS = 50
DONE = {
    Control.PAUSE.value: "The queue is paused.",
    Control.RESUME.value: "The queue goes on.",
    Control.DRAIN.value: "The queue is drained: new requests are turned away.",
    "unload": "Ollama drops the model once nothing runs on it.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """One key of the table; ``use`` is None for one that was never used, or while nobody knows."""

    record: KeyRecord
    state: KeyState
    use: KeyUse | None
    last_used: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminPage(LivePage):
    """What ``admin.html`` uses; ``ledger`` is whether the figures of the past could be read."""

    keys: tuple[KeyRow, ...]
    ended: bool
    actions: tuple[tuple[datetime, Action], ...]
    ledger: bool
    capacity: Verdict | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmPage(Page):
    """What ``confirm.html`` uses: a question, what follows from yes, and the way back."""

    question: str
    effect: str
    button: str
    command: str
    back: str
    next: str = ""


AdminHandler = Callable[[web.Request, Principal], Awaitable[web.StreamResponse]]
AdminFormHandler = Callable[[web.Request, Principal, Fields], Awaitable[web.StreamResponse]]


def shown_to_admins(show: AdminHandler) -> Handler:
    """Returns the handler of a page that admins alone see."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        who = viewer(request)
        if who is None:
            return go_to("/login?next=/admin")
        if not who.is_admin:
            raise NotAdmin(who.name, "This page")
        return await show(request, who)

    return guarded


def sent_by_admins(handle: AdminFormHandler) -> FormHandler:
    """Returns the handler of a form that admins alone send."""

    async def guarded(request: web.Request, fields: Fields) -> web.StreamResponse:
        who = viewer(request)
        if who is None:
            return go_to("/login?next=/admin")
        if not who.is_admin:
            raise NotAdmin(who.name, "This page")
        return await handle(request, who, fields)

    return guarded


async def admin_page(request: web.Request, who: Principal) -> web.Response:
    """Shows everything an admin can do."""
    parts = request.app[PARTS]
    look = Look(parts)
    uses, actions, ledger = await _past(parts, look.wall)
    everything = "all" in request.query
    now = datetime.now(UTC)
    rows = [_row(record, uses, now) for record in parts.ring.records if everything or not record.ended(now)]
    page = AdminPage(
        path="/admin",
        title=f"Admin · gpushare on {parts.host}",
        host=parts.host,
        base_url=base_url(request),
        view="admin",
        told=told(request) or DONE.get(request.query.get("done", ""), ""),
        sections=request.app[RENDERER].first_paint(look, look.audience(who), "admin"),
        now=look.showing.picture.wall,
        refresh_s=refresh_s(request),
        keys=tuple(sorted(rows, key=lambda row: (row.record.name, row.record.made))),
        ended=not everything and any(record.ended(now) for record in parts.ring.records),
        actions=tuple((datetime.fromtimestamp(int(act.at), UTC), act) for act in actions),
        ledger=ledger,
        capacity=await _capacity(parts),
    )
    return render(request, "admin.html", page)


async def _capacity(parts: Parts) -> Verdict | None:
    """Returns whether the hardware is enough, None while the ledger cannot be read."""
    settings = parts.config.capacity
    try:
        loads = await parts.ledger.day_loads(DAYS, hours=settings.hours)
    except LedgerUnavailable:
        return None
    return verdict(loads, settings, cards=len(parts.gpus.view.readings) if parts.gpus else 0)


async def _past(parts: Parts, wall: float) -> tuple[Mapping[str, KeyUse], list[Action], bool]:
    """Returns what keys used in the last day and what admins did, if the ledger can be read."""
    try:
        return await parts.ledger.key_uses(wall - DAY_S), await parts.ledger.actions(MOST_ACTIONS), True
    except LedgerUnavailable:
        return {}, [], False


def _row(record: KeyRecord, uses: Mapping[str, KeyUse], now: datetime) -> KeyRow:
    use = uses.get(record.id)
    last = datetime.fromtimestamp(int(use.last_used), UTC) if use else None
    return KeyRow(record=record, state=record.state(now), use=use, last_used=last)


async def control_queue(request: web.Request, who: Principal, _fields: Fields) -> web.Response:
    """Pauses, resumes or drains the queue."""
    what = Control(request.match_info["what"])
    control(request.app[PARTS], who, what)
    return go_to(f"/admin?done={what}")


async def unload_model(request: web.Request, who: Principal, fields: Fields) -> web.Response:
    """Drops a model from Ollama's memory.

    Raises:
        GpushareError: see ``unload``.
    """
    await unload(request.app[PARTS], who, fields.get("model", ""))
    return go_to("/admin?done=unload")


async def confirm_cancel(request: web.Request, _who: Principal) -> web.Response:
    """Asks whether a call should end."""
    parts, request_id = request.app[PARTS], request.match_info["id"]
    back = page_of(request)
    live = parts.gateway.live.get(request_id)
    if live is None:
        return go_to(f"{back}?cancelled=no")
    page = ConfirmPage(
        path="",
        title="Cancel · gpushare",
        host=parts.host,
        base_url=base_url(request),
        question=f"Cancel the request of {live.who.name}?",
        effect=f"It is for {live.call.model}, from {wording.tool(live.tool)}. It ends at once. "
        "Its tool gets an error, and does not ask again by itself.",
        button="Cancel this request",
        command=command("queue", "cancel", request_id),
        back=back,
        next=back,
    )
    return render(request, "confirm.html", page)


async def cancel_any(request: web.Request, who: Principal, fields: Fields) -> web.Response:
    """Ends a call, and leads back to where it was chosen."""
    ended = end(request.app[PARTS], request.match_info["id"], who)
    return go_to(f"{local_page(fields.get('next', ''))}?cancelled={'yes' if ended else 'no'}")
