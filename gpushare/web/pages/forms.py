"""The forms of the pages: sent from a page of this server, and small.

Called by: ``web.pages`` (``form`` around each handler of a POST).

A browser sends its session with whatever makes it come here, so a form must come from a page of ours.  Every
browser of the last years says so in ``Origin`` or ``Sec-Fetch-Site``; another port, or another name of the
same domain, is another server.  A request that says nothing of where it comes from is a program's: it may use
a key, but not a session.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from gpushare.core.errors import ForeignForm, InvalidRequest, UnsupportedMedia
from gpushare.web.callers import is_own_origin
from gpushare.web.pages.acts import to_its_end
from gpushare.web.pages.render import PAGE_HEADERS, Handler, by_method
from gpushare.web.parts import PARTS
from gpushare.web.sessions import COOKIE
from gpushare.web.transport import read_body

FORM_MAX_BYTES = 16 * 1024
FORM_MAX_FIELDS = 50
FORM_TYPE = "application/x-www-form-urlencoded"

Fields = Mapping[str, str]
FormHandler = Callable[[web.Request, Fields], Coroutine[Any, Any, web.StreamResponse]]


def form(handler: FormHandler, *, show: Handler | None = None) -> Handler:
    """Returns a handler of a form; ``show`` answers GET and HEAD, if there is something to see."""

    async def post(request: web.Request) -> web.StreamResponse:
        check_sender(request)
        fields = await read_form(request)
        return await to_its_end(request, handler(request, fields))

    return by_method(POST=post) if show is None else by_method(GET=show, HEAD=show, POST=post)


def check_sender(request: web.Request) -> None:
    """Lets a form pass that a page of this server sent, or a program that has no session.

    Raises:
        ForeignForm: another page sent it, or nothing says that it was ours.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get(hdrs.ORIGIN)
    if site not in (None, "same-origin", "none"):
        raise ForeignForm
    if origin is not None and not is_own_origin(request, origin):
        raise ForeignForm
    if site is None and origin is None and COOKIE in request.cookies:
        raise ForeignForm


async def read_form(request: web.Request) -> Fields:
    """Returns the fields of a form; of a field that comes twice, the last.

    Raises:
        UnsupportedMedia: something else than a plain form.
        InvalidRequest: not readable, or with too many fields.
        BodyTooLarge: larger than any form of ours.
    """
    if request.content_type != FORM_TYPE:
        raise UnsupportedMedia(f"Forms are taken as {FORM_TYPE} alone.")
    timeout_s = request.app[PARTS].config.server.body_timeout
    body = await read_body(request, limit=FORM_MAX_BYTES, timeout_s=timeout_s)
    try:
        return dict(
            parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FORM_MAX_FIELDS, errors="strict")
        )
    except ValueError:
        raise InvalidRequest("The form cannot be read.") from None


def go_to(path: str) -> web.Response:
    """Sends the browser to a page of ours after a form was done, so that a reload does not send it again."""
    return web.Response(status=303, headers={**PAGE_HEADERS, hdrs.LOCATION: path})
