"""The few answers that are written without aiohttp: head blocks of streamed answers, and refusals.

Called by: ``web.protocol`` and ``web.transport``.  Rules: pure; a refusal never repeats what was sent.
"""

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import web

from gpushare.core.errors import GpushareError, render
from gpushare.core.model import Dialect

SERVER = "gpushare"


def refusal(error: GpushareError, dialect: Dialect) -> web.Response:
    """Returns the answer to a request that is not let in; the connection closes after it."""
    rendered = render(error, dialect, request_id="")
    response = web.Response(status=rendered.status, headers=rendered.headers, body=rendered.body)
    response.force_close()
    return response


def raw_answer(error: GpushareError) -> bytes:
    """Returns a whole answer as bytes, for where there is no request to answer."""
    rendered = render(error, Dialect.GPUSHARE, request_id="")
    headers = {**rendered.headers, "Content-Length": str(len(rendered.body)), "Connection": "close"}
    return raw_head(rendered.status, headers) + rendered.body


def raw_head(status: int, headers: Mapping[str, str]) -> bytes:
    """Returns status line and header block, with ``Date`` and ``Server``.

    Raises:
        ValueError: a header that would not stay one header.
    """
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    everything = {**headers, "Date": formatdate(usegmt=True), "Server": SERVER}
    fields = [f"{name}: {value}" for name, value in everything.items()]
    if not all(field.isprintable() for field in fields):
        raise ValueError("a response header holds a control character")
    return "\r\n".join([f"HTTP/1.1 {status} {reason}", *fields, "\r\n"]).encode()
