"""The API a tool talks to: from a request to a classified call, and the answer back through the gateway.

Called by: ``app``, which gives it every call of a tool and what no page answers.
Rules: checks run from cheap to dear, and nothing that costs memory happens before the key is
known; the body is read whole before anything waits, because a client that leaves is noticed only on a
socket that is being read.
"""

import asyncio
import re
from collections.abc import Awaitable, Generator
from typing import TypeVar, cast

from aiohttp import hdrs, web

from gpushare.core.body import read_call
from gpushare.core.credentials import tool_of
from gpushare.core.dialects import find_endpoint
from gpushare.core.errors import (
    BodyTooLarge,
    InvalidRequest,
    KeyMissing,
    NotAdmin,
    RouteRefused,
)
from gpushare.core.limits import BodyShare
from gpushare.core.model import Call, Endpoint, Framing, Kind, Lane, Principal
from gpushare.web.callers import base_url, check_key
from gpushare.web.middleware import cors_headers
from gpushare.web.parts import PARTS, PRINCIPAL, REQUEST_ID, TARGET, Parts
from gpushare.web.transport import ResponseSink, continue_100, pieces_of_body, read_body, whole_body

SMALL_BODY_BYTES = 1024 * 1024  # every route that generates nothing
MAX_WAIT = "X-Gpushare-Max-Wait"
ANONYMOUS = Principal(key_id="", name="", owner="")
Result = TypeVar("Result")
MAX_WAIT_LIMIT_S = 600.0
"""Longest wait a client may ask for: beyond ten minutes every known tool has given up."""


def dispatch(request: web.Request) -> Awaitable[web.StreamResponse]:
    """Judges one API request by its head; the result is the rest of the way."""
    parts, target = request.app[PARTS], request[TARGET]
    endpoint, upstream_target = find_endpoint(request.method, target.path, query=target.query)
    if endpoint.kind is Kind.LIVE:
        return _answer(alive())
    who = authenticate(request, parts, endpoint)
    _check_role(parts, who, endpoint)
    if parts.draining:
        raise parts.slots.closing_down()
    if endpoint.upload:
        return _upload(request, parts, endpoint, upstream_target, who)
    return _call(request, parts, endpoint, upstream_target, who)


async def unlisted(request: web.Request) -> web.StreamResponse:
    """Answers what is neither a page nor under the API's roots; nearly always with 404."""
    return await dispatch(request)


async def _answer(response: web.Response) -> web.Response:
    return response


def alive() -> web.Response:
    """Returns what Ollama answers on its root; tools probe it before nearly everything."""
    return web.Response(text="Ollama is running")


def authenticate(request: web.Request, parts: Parts, endpoint: Endpoint) -> Principal:
    """Returns who is calling, ``ANONYMOUS`` where no key is needed and none came.

    Raises:
        KeyMissing: no key where one is needed.
    """
    who: Principal | None = request.get(PRINCIPAL)
    if who is None:
        if parts.config.auth.anonymous_models and endpoint.anonymous:
            return ANONYMOUS
        raise KeyMissing(base_url(request))
    return who


def _check_role(parts: Parts, who: Principal, endpoint: Endpoint) -> None:
    if endpoint.kind is Kind.ADMIN and not who.is_admin:
        raise NotAdmin(who.name)
    if endpoint.kind is Kind.REFUSED and not (parts.config.ollama.cloud and who.is_admin):
        raise RouteRefused


async def _call(
    request: web.Request, parts: Parts, endpoint: Endpoint, upstream_target: str, who: Principal
) -> web.StreamResponse:
    """Reads the body, classifies it and hands the call to the gateway."""
    headers = request.headers
    limit = parts.config.server.max_body if endpoint.kind is Kind.QUEUED else SMALL_BODY_BYTES
    declared = request.content_length
    if declared is not None and declared > limit:
        raise BodyTooLarge(limit, declared)
    max_wait_s = _max_wait(headers.get(MAX_WAIT), parts.config.queue.max_wait)
    share = BodyShare(parts.body_budget, who.owner)
    try:
        share.take(declared or 0)
        body = whole_body(request)
        if body is None:
            grow = share.take if declared is None else None  # chunks: counted as they come
            timeout_s = parts.config.server.body_timeout
            body = await read_body(request, limit=limit, timeout_s=timeout_s, grow=grow)
            check_key(request, who)
        elif len(body) > limit:
            raise BodyTooLarge(limit)
        steps = read_call(
            endpoint,
            upstream_target,
            body,
            content_type=headers.get(hdrs.CONTENT_TYPE, ""),
            content_encoding=",".join(headers.getall(hdrs.CONTENT_ENCODING, ())),
        )
        call = await in_turns(steps)
        sink = ResponseSink(request, headers=cors_headers(request))
        await parts.gateway.handle(
            call,
            who,
            sink,
            request_id=request[REQUEST_ID],
            tool=tool_of(headers.get(hdrs.USER_AGENT, "")),
            max_wait_s=max_wait_s,
        )
        return sink.response
    finally:
        share.give()


async def in_turns(steps: Generator[None, None, Result]) -> Result:
    """Returns what the steps return; between them others have their turn."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("Result", end.value)
        await asyncio.sleep(0)


def _max_wait(asked: str | None, default_s: float) -> float:
    """Returns how long this call may wait, in seconds; a client may ask for another time than the default."""
    if asked is None:
        return default_s
    if not re.fullmatch("[1-9][0-9]{0,2}", asked) or int(asked) > MAX_WAIT_LIMIT_S:
        raise InvalidRequest(f"{MAX_WAIT} takes whole seconds from 1 to {MAX_WAIT_LIMIT_S:.0f}.")
    return float(asked)


async def _upload(
    request: web.Request, parts: Parts, endpoint: Endpoint, upstream_target: str, who: Principal
) -> web.StreamResponse:
    """Streams a model file; it may hold tens of gigabytes, so it is never collected."""
    call = Call(
        endpoint=endpoint,
        target=upstream_target,
        body=b"",
        content_type="",
        model="",
        framing=Framing.SINGLE,
        lane=Lane.GENERATE,
    )
    await continue_100(request)
    status, content_type, body = await parts.gateway.upload(
        call,
        who,
        pieces_of_body(request),
        request_id=request[REQUEST_ID],
        tool=tool_of(request.headers.get(hdrs.USER_AGENT, "")),
    )
    headers = {hdrs.CONTENT_TYPE: content_type} if body else {}
    return web.Response(status=status, headers=headers, body=body)
