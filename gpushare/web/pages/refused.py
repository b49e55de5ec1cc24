"""Refusals as pages, for whoever opens an address of ours in a browser.

Called by: ``web.middleware``, for every error outside the routes of the tools.  Rules: a page says what is
the matter and what to do next, and repeats nothing of what was asked for.
"""

from dataclasses import replace

from aiohttp import hdrs, web

from gpushare.core.errors import (
    GpushareError,
    KeyMissing,
    LinkGone,
    MethodNotAllowed,
    NotAdmin,
    UnknownEndpoint,
    WrongHost,
)
from gpushare.core.hosts import host_allowed
from gpushare.web.pages.render import message_page, render
from gpushare.web.parts import PARTS

_HEADINGS: dict[type[GpushareError], str] = {
    KeyMissing: "This needs a key",
    LinkGone: "This link is used up",
    MethodNotAllowed: "This cannot be opened",
    NotAdmin: "Not for you",
    UnknownEndpoint: "There is no such page",
    WrongHost: "This name is not known here",
}
# Where the words for programs are not those for people.
_SENTENCES: dict[type[GpushareError], str] = {
    KeyMissing: "Sign in with your key to see it. If you have none yet, ask whoever runs this server.",
    MethodNotAllowed: "The address belongs to a button of a page. Go to that page and use the button.",
    UnknownEndpoint: "The address may be mistyped, or from another version. Start from the status page.",
    WrongHost: "The server does not go by the name in this address. Open it by its usual name or by its IP "
    "address, or ask whoever runs it to add this name to server.allowed_hosts.",
}


def explain(request: web.Request, error: GpushareError) -> web.Response:
    """Returns an error as a page; its status and headers are the caller's to set."""
    kind = type(error)
    heading = _HEADINGS.get(kind, "Not now" if error.status in (429, 503) else "Not done")
    page = message_page(request, heading, _SENTENCES.get(kind, error.message))
    if kind is KeyMissing:
        page = replace(page, way=("/login", "Sign in"))
    ours = host_allowed(request.headers.get(hdrs.HOST, ""), request.app[PARTS].own_names)
    return render(request, "message.html" if ours else "stranger.html", page)
