"""Ending a call that waits or runs: what the buttons of the pages and ``gpushare top`` do.

Rules: a person ends own calls, an admin any; the id of somebody else's call is answered as one
that is not there.
"""

import msgspec
from aiohttp import web

from gpushare.core.errors import KeyMissing, RequestUnknown
from gpushare.web.callers import base_url
from gpushare.web.pages.render import PAGE_HEADERS
from gpushare.web.parts import PARTS, PRINCIPAL


async def cancel_json(request: web.Request) -> web.Response:
    """Ends a call for a script; it needs the key itself, a signed-in browser uses the page's form.

    Raises:
        KeyMissing: no key.
        RequestUnknown: the caller may end no call of this id.
    """
    who = request.get(PRINCIPAL)
    if who is None:
        raise KeyMissing(base_url(request))
    request_id = request.match_info["id"]
    if not request.app[PARTS].gateway.cancel(request_id, who):
        raise RequestUnknown
    body = msgspec.json.encode({"schema": "gpushare.cancelled/1", "id": request_id})
    return web.Response(body=body, content_type="application/json", charset="utf-8", headers=PAGE_HEADERS)
