"""A slow answer that costs nothing: shows whether what stands between passes pieces on as they come.

Called by: ``gpushare doctor``, through the address that people type.
"""

import asyncio
import time

import msgspec
from aiohttp import web

from gpushare.core.about import Probe
from gpushare.core.hosts import is_trusted
from gpushare.engine.gateway import answer_headers
from gpushare.web.callers import client_address
from gpushare.web.middleware import cors_headers
from gpushare.web.pages.render import PAGE_HEADERS
from gpushare.web.pages.viewers import known_viewer
from gpushare.web.parts import PARTS, REQUEST_ID
from gpushare.web.transport import ResponseSink

LINES = 5
PAUSE_S = 0.25
_HEADERS = {
    **PAGE_HEADERS,
    "Content-Type": "application/x-ndjson",
    "X-Accel-Buffering": "no",  # as on the answers it stands for
}


async def probe_lines(request: web.Request) -> web.StreamResponse:
    """Sends a few lines, one every quarter of a second, each with when it was sent.

    Raises:
        KeyMissing: there is no key.
    """
    known_viewer(request)
    sink = ResponseSink(request, headers={**cors_headers(request), **answer_headers(request[REQUEST_ID])})
    sink.start(200, _HEADERS)
    began = time.monotonic()
    for number in range(LINES if request.method == "GET" else 0):
        if number:
            await asyncio.sleep(PAUSE_S)
        sink.write(msgspec.json.encode(_line(request, number + 1, time.monotonic() - began)) + b"\n")
    sink.finish()
    return sink.response


def _line(request: web.Request, number: int, sent_s: float) -> Probe:
    peer = request.remote or ""
    return Probe(
        line=number,
        of=LINES,
        sent_s=round(sent_s, 3),
        peer=peer,
        client=client_address(request),
        forwarded="X-Forwarded-For" in request.headers,
        trusted=is_trusted(peer, request.app[PARTS].config.server.trusted_proxies),
    )
