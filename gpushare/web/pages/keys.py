"""A key on a page, once: opened from a one-time link, or made by the holder of an older one.

Rules: opening a link takes a form, because programs follow links to see what is behind them; the answer to
the form is the only place where the key stands, is kept by nobody, and signs the browser in.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from aiohttp import web

from gpushare.core.keys import (
    ENTROPY_BYTES,
    KeyRing,
    invited,
    key_id,
    new_key,
    opened,
    renewed,
)
from gpushare.core.tools import Tool
from gpushare.web.callers import base_url
from gpushare.web.pages.connect import every_tool
from gpushare.web.pages.forms import Fields, go_to
from gpushare.web.pages.render import Page, render
from gpushare.web.pages.viewers import sign_in, viewer
from gpushare.web.parts import PARTS

KEEP = timedelta(hours=24)  # long enough to change the key in all tools

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class WelcomePage(Page):
    """What ``welcome.html`` uses: whose key waits."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPage(Page):
    """What ``key.html`` uses; ``old`` is a sentence about the key it replaces, empty where there is none."""

    name: str
    key: str
    tools: tuple[Tool, ...]
    old: str


async def welcome_page(request: web.Request) -> web.Response:
    """Shows whose key a link opens, and the button that opens it.

    Raises:
        LinkGone: it opens none.
    """
    parts = request.app[PARTS]
    record = invited(parts.ring, request.match_info["token"], datetime.now(UTC))
    page = WelcomePage(
        path="",
        title="Your key · gpushare",
        host=parts.host,
        base_url=base_url(request),
        name=record.name,
    )
    return render(request, "welcome.html", page)


async def welcome(request: web.Request, _fields: Fields) -> web.Response:
    """Opens a link.

    Raises:
        LinkGone: it opens no key.
    """
    token, now = request.match_info["token"], datetime.now(UTC)
    entropy = secrets.token_bytes(ENTROPY_BYTES)
    made: list[str] = []

    def change(ring: KeyRing) -> KeyRing:
        ring, secret = opened(ring, token, entropy, now)
        made[:] = [secret]
        return ring

    await request.app[PARTS].edit_keys(change)
    return _shown(request, made[0], "key.opened")


async def replace_key(request: web.Request, fields: Fields) -> web.Response:
    """Gives the viewer a new key in the place of the one they came with.

    Raises:
        KeyReplaced, TooManyNewKeys: see ``renewed``.
    """
    who = viewer(request)
    if who is None:
        return go_to("/login?next=/me")
    now = datetime.now(UTC).replace(microsecond=0)  # the key file holds whole seconds
    keep = timedelta(0) if fields.get("old") == "ends" else KEEP
    secret = new_key(secrets.token_bytes(ENTROPY_BYTES))
    await request.app[PARTS].edit_keys(lambda ring: renewed(ring, who.key_id, secret, now=now, keep=keep))
    old = f"Your old key works until {now + keep:%Y-%m-%d %H:%M} UTC." if keep else "Your old key has ended."
    return _shown(request, secret, "key.replaced", old)


def _shown(request: web.Request, secret: str, event: str, old: str = "") -> web.Response:
    """Answers with a new key, and signs its holder in."""
    parts = request.app[PARTS]
    record = parts.ring.get(key_id(secret))
    if record is None:
        raise LookupError(event)
    _log.info(event, key=record.id, person=record.name)
    page = KeyPage(
        path="",
        title="Your key · gpushare",
        host=parts.host,
        base_url=base_url(request),
        name=record.name,
        key=secret,
        tools=every_tool(request, secret),
        old=old,
    )
    response = render(request, "key.html", page)
    sign_in(request, response, record)
    return response
