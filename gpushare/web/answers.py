"""The few answers that are written without aiohttp: head blocks of streamed answers, and refusals.

Called by: ``web.protocol``, ``web.transport``, ``web.server``, ``web.middleware``.
Rules: a refusal never repeats what was sent.
"""

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from os import urandom
from typing import Protocol

from aiohttp import web

from gpushare.core.errors import GpushareError, render
from gpushare.core.model import Dialect
from gpushare.engine.gateway import answer_headers

SERVER = "gpushare"
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Flow(Protocol):
    """An answer being written directly to the connection; see ``transport.ResponseSink``."""

    started: bool
    finished: bool

    @property
    def response(self) -> web.StreamResponse:
        """What the handler returns once the answer was started."""

    def pause(self) -> None:
        """The backlog passed its high-water mark."""

    def resume(self) -> None:
        """The backlog is below its low-water mark."""


def new_request_id() -> str:
    """Returns an id for a request: ``r_`` and 16 hexadecimal digits."""
    return f"r_{urandom(8).hex()}"


def refusal(error: GpushareError, dialect: Dialect) -> web.Response:
    """Returns the answer to a request that is not let in; the connection closes after it."""
    request_id = new_request_id()
    rendered = render(error, dialect, request_id=request_id)
    headers = {**rendered.headers, **answer_headers(request_id)}
    response = web.Response(status=rendered.status, headers=headers, body=rendered.body)
    response.force_close()
    return response


def raw_answer(error: GpushareError) -> bytes:
    """Returns a whole answer as bytes, for where there is no request to answer."""
    request_id = new_request_id()
    rendered = render(error, Dialect.GPUSHARE, request_id=request_id)
    headers = {
        **rendered.headers,
        **answer_headers(request_id),
        "Content-Length": str(len(rendered.body)),
        "Connection": "close",
    }
    return raw_head(rendered.status, headers) + rendered.body


def raw_head(status: int, headers: Mapping[str, str]) -> bytes:
    """Returns status line and header block, with ``Date`` and ``Server``.

    Raises:
        ValueError: a header that would not stay one header.
    """
    fields = [f"{name}: {value}" for name, value in headers.items()]
    if not "".join(fields).isprintable():
        raise ValueError("a response header holds a control character")
    return "\r\n".join((_status_line(status), *fields, _constants(int(time.time())))).encode()


@lru_cache(maxsize=64)
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {_PHRASES.get(status, '')}"


@lru_cache(maxsize=1)
def _constants(second: int) -> str:
    """Returns what every header block of one second ends with."""
    return f"Date: {formatdate(second, usegmt=True)}\r\nServer: {SERVER}\r\n\r\n"
