"""Who looks at a page: whoever sends a key, else whoever is signed in.

Called by: everything in ``web.pages``.  Rules: the API of the tools never asks here, so that no session can
spend GPU time; a session without a key in a header counts as no key for the guard of ``web.middleware``.
"""

from datetime import UTC, datetime, timedelta

from aiohttp import web

from gpushare.core.errors import KeyMissing
from gpushare.core.keys import KeyRecord
from gpushare.core.model import Principal
from gpushare.web.callers import base_url
from gpushare.web.parts import PARTS, PRINCIPAL
from gpushare.web.sessions import COOKIE, Sessions


def viewer(request: web.Request) -> Principal | None:
    """Returns who looks at a page, None for somebody without a key."""
    who: Principal | None = request.get(PRINCIPAL)
    if who is not None:
        return who
    cookie = request.cookies.get(COOKIE)
    if cookie is None:
        return None
    parts = request.app[PARTS]
    return parts.sessions.holder(cookie, parts.ring, datetime.now(UTC))


def session_of(request: web.Request) -> KeyRecord | None:
    """Returns the key of whoever looks because of a session, None for all others."""
    who = viewer(request)
    if who is None or PRINCIPAL in request:
        return None
    return request.app[PARTS].ring.get(who.key_id)


def session_left_s(request: web.Request) -> float | None:
    """Returns how long the session of whoever looks because of one is still good, None for all others."""
    if session_of(request) is None:
        return None
    return (Sessions.end(request.cookies[COOKIE]) - datetime.now(UTC)).total_seconds()


def known_viewer(request: web.Request) -> Principal:
    """Returns who looks.

    Raises:
        KeyMissing: somebody without a key.
    """
    who = viewer(request)
    if who is None:
        raise KeyMissing(base_url(request))
    return who


def key_holder(request: web.Request) -> Principal:
    """Returns whose key the request itself carries; what scripts change needs it, a browser uses the forms.

    Raises:
        KeyMissing: there is none, whether or not the browser is signed in.
    """
    who: Principal | None = request.get(PRINCIPAL)
    if who is None:
        raise KeyMissing(base_url(request))
    return who


def sign_in(request: web.Request, response: web.Response, record: KeyRecord) -> None:
    """Gives the browser a session of this key."""
    parts = request.app[PARTS]
    length = timedelta(days=parts.config.auth.login_days)
    response.set_cookie(
        COOKIE,
        parts.sessions.issue(record, datetime.now(UTC) + length),
        max_age=int(length.total_seconds()),
        httponly=True,
        samesite="Lax",
        secure=base_url(request).startswith("https:"),
    )


def sign_out(response: web.Response) -> None:
    """Takes the session from the browser."""
    response.del_cookie(COOKIE, httponly=True, samesite="Lax")
