"""Signing a browser in with a key, and out again.

Rules: the page never says whether a key once existed, except to who shows it whole; afterwards it leads to
one of our own pages, never to an address that came with the form.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from aiohttp import web

from gpushare.core.errors import GpushareError, KeyExpired, KeyProblem, KeysUnwritable, TooManyBadKeys
from gpushare.core.keys import KEY_LENGTH, KeyRecord, looks_like_key
from gpushare.web.callers import base_url, client_address
from gpushare.web.middleware import error_response
from gpushare.web.pages.forms import Fields, go_to
from gpushare.web.pages.render import Page, message_page, render
from gpushare.web.pages.viewers import session_of, sign_in, sign_out, viewer
from gpushare.web.parts import PARTS

RETURNS = ("/status", "/me", "/connect", "/help", "/admin")
_TOOL_PAGE = re.compile(r"/connect/[a-z0-9-]{1,40}", re.ASCII)

_LEFT = (
    "You are signed out only in this browser, because the key file cannot be changed now. "
    "Sessions of your key in other browsers go on; an admin can end them by replacing it."
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPage(Page):
    """What ``login.html`` uses: where to go afterwards, and what was wrong with the last try."""

    next: str
    problem: str = ""


async def login_page(request: web.Request) -> web.Response:
    """Shows the form; who is signed in already is sent on."""
    after = local_page(request.query.get("next", ""))
    if viewer(request) is not None:
        return go_to(after)
    return render(request, "login.html", _page(request, after))


async def login(request: web.Request, fields: Fields) -> web.Response:
    """Takes a key for a session."""
    after = local_page(fields.get("next", ""))
    secret = fields.get("key", "").strip()
    try:
        record = _holder(request, secret)
    except (KeyProblem, TooManyBadKeys) as error:
        page = _page(request, after, _problem(error, secret, request.app[PARTS].host))
        return error_response(request, error, lambda *_: render(request, "login.html", page))
    response = go_to(after)
    sign_in(request, response, record)
    _log.info("session.opened", key=record.id, person=record.name)
    return response


async def logout(request: web.Request, _fields: Fields) -> web.Response:
    """Ends the sessions of the viewer's key, in this browser and in all others."""
    response = go_to("/status")
    record = session_of(request)
    if record is not None:
        try:
            await request.app[PARTS].edit_keys(lambda ring: ring.signed_out(record.id))
            _log.info("session.closed", key=record.id, person=record.name)
        except KeysUnwritable as error:
            _log.warning("session.left", key=record.id, person=record.name, error=type(error).__name__)
            response = render(request, "message.html", message_page(request, "Signed out here", _LEFT))
    sign_out(response)
    return response


def local_page(path: str) -> str:
    """Returns the page to go to after the sign-in: the one asked for if it is one of ours."""
    return path if path in RETURNS or _TOOL_PAGE.fullmatch(path) else "/status"


def _holder(request: web.Request, secret: str) -> KeyRecord:
    """Returns whose key was typed.

    Raises:
        KeyProblem: it is not good.
        TooManyBadKeys: nor were the last ones from this address.
    """
    parts = request.app[PARTS]
    try:
        return parts.ring.presented(secret, now=datetime.now(UTC), host=parts.host)
    except KeyProblem:
        address = client_address(request)
        parts.wrong_logins.check(address, parts.monotonic())
        parts.wrong_logins.note(address, parts.monotonic())
        raise


def _problem(error: GpushareError, secret: str, host: str) -> str:
    """Returns what to tell who typed a key that is not good."""
    if isinstance(error, KeyExpired | TooManyBadKeys):
        return error.message
    if looks_like_key(secret) and len(secret) == KEY_LENGTH:
        return f"This key is not known here. Copy it once more, or ask whoever runs {host} for a new one."
    form = f"Keys start with gs_ and are {KEY_LENGTH} characters long"
    if looks_like_key(secret):
        return f"This key is not known here. {form}; yours has {len(secret)}."
    return f"This key is not known here. {form}; yours starts with something else."


def _page(request: web.Request, after: str, problem: str = "") -> LoginPage:
    return LoginPage(
        path="/login",
        title="Sign in · gpushare",
        host=request.app[PARTS].host,
        base_url=base_url(request),
        next=after,
        problem=problem,
    )
