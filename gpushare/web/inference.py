"""The API a tool talks to: from a request to a classified call, and the answer back through the gateway.

Called by: ``app`` (one catch-all route behind the pages).  Rules: checks run from cheap to dear, and nothing
that costs memory happens before the key is known; the body is read whole before anything waits, because a
client that leaves is noticed only on a socket that is being read.
"""

from datetime import UTC, datetime

from aiohttp import hdrs, web

from gpushare.core.body import read_call
from gpushare.core.credentials import tool_of
from gpushare.core.dialects import find_endpoint
from gpushare.core.errors import (
    BodyTooLarge,
    Draining,
    InvalidRequest,
    KeyMissing,
    KeyProblem,
    NotAdmin,
    RouteRefused,
    spread_retry_s,
)
from gpushare.core.hosts import forwarded_address
from gpushare.core.model import Call, Endpoint, Framing, Kind, Lane, Principal
from gpushare.web.middleware import cors_headers
from gpushare.web.parts import KEY, PARTS, REQUEST_ID, TARGET, Parts
from gpushare.web.transport import ResponseSink, continue_100, key_accepted, read_body

SMALL_BODY_BYTES = 1024 * 1024  # every route that generates nothing
ANONYMOUS = Principal(key_id="", name="", owner="")
MAX_WAIT_LIMIT_S = 600.0
"""Longest wait a client may ask for: beyond ten minutes every known tool has given up."""


async def dispatch(request: web.Request) -> web.StreamResponse:
    """Answers one API request."""
    target = request[TARGET]
    endpoint, upstream_target = find_endpoint(request.method, target.path, query=target.query)
    if endpoint.kind is Kind.LIVE:
        return alive()
    parts = request.app[PARTS]
    who = authenticate(request, endpoint)
    _check_role(parts, who, endpoint)
    if parts.draining:
        raise Draining(spread_retry_s(5.0, parts.jitter()))
    if endpoint.upload:
        return await _upload(request, endpoint, upstream_target, who)
    return await _call(request, endpoint, upstream_target, who)


def alive() -> web.Response:
    """Returns what Ollama answers on its root; tools probe it before nearly everything."""
    return web.Response(text="Ollama is running")


def authenticate(request: web.Request, endpoint: Endpoint) -> Principal:
    """Returns who is calling, ``ANONYMOUS`` where no key is needed and none came.

    Raises:
        KeyProblem: no key where one is needed, or one that is not valid.
        TooManyBadKeys: too many wrong keys from this address.
    """
    who = identify(request)
    if who is None:
        if request.app[PARTS].config.auth.anonymous_models and endpoint.anonymous:
            return ANONYMOUS
        raise KeyMissing(base_url(request))
    return who


def identify(request: web.Request) -> Principal | None:
    """Returns whose key the request carries, None when it carries none.

    Raises:
        KeyProblem: the key is not valid.
        TooManyBadKeys: too many wrong keys from this address.
    """
    parts = request.app[PARTS]
    secret = request.get(KEY)
    if secret is None:
        return None
    try:
        who = parts.ring.authenticate(secret, now=datetime.now(UTC), host=parts.host)
    except KeyProblem:
        address = client_address(request)
        parts.wrong_keys.check(address, parts.monotonic())
        parts.wrong_keys.note(address, parts.monotonic())
        raise
    key_accepted(request)
    return who


def client_address(request: web.Request) -> str:
    """Returns the caller's address, through trusted proxies."""
    forwarded = request.headers.get("X-Forwarded-For", "")
    return forwarded_address(
        request.remote or "", forwarded, request.app[PARTS].config.server.trusted_proxies
    )


def base_url(request: web.Request) -> str:
    """Returns the address people type for this server."""
    parts = request.app[PARTS]
    host = request.headers.get(hdrs.HOST, parts.host)
    return parts.config.server.public_url.rstrip("/") or f"http://{host}"


def _check_role(parts: Parts, who: Principal, endpoint: Endpoint) -> None:
    if endpoint.kind is Kind.ADMIN and not who.is_admin:
        raise NotAdmin(who.name)
    if endpoint.kind is Kind.REFUSED and not (parts.config.ollama.cloud and who.is_admin):
        raise RouteRefused


async def _call(
    request: web.Request, endpoint: Endpoint, upstream_target: str, who: Principal
) -> web.StreamResponse:
    """Reads the body, classifies it and hands the call to the gateway."""
    parts = request.app[PARTS]
    limit = parts.config.server.max_body if endpoint.kind is Kind.QUEUED else SMALL_BODY_BYTES
    declared = request.content_length
    if declared is not None and declared > limit:
        raise BodyTooLarge(limit, declared)
    max_wait_s = _max_wait(request, parts.config.queue.max_wait)
    reserved = limit if declared is None else declared
    parts.body_budget.take(who.owner, reserved, retry_after_s=spread_retry_s(5.0, parts.jitter()))
    try:
        body = await read_body(request, limit=limit, timeout_s=parts.config.server.body_timeout)
        if len(body) != reserved:
            parts.body_budget.give(who.owner, reserved - len(body))
            reserved = len(body)
        call = read_call(
            endpoint,
            upstream_target,
            body,
            content_type=request.headers.get(hdrs.CONTENT_TYPE, ""),
            content_encoding=request.headers.get(hdrs.CONTENT_ENCODING, ""),
        )
        sink = ResponseSink(request, headers=cors_headers(request))
        await parts.gateway.handle(
            call,
            who,
            sink,
            request_id=request[REQUEST_ID],
            tool=tool_of(request.headers.get(hdrs.USER_AGENT, "")),
            max_wait_s=max_wait_s,
        )
        return sink.response
    finally:
        parts.body_budget.give(who.owner, reserved)


def _max_wait(request: web.Request, default_s: float) -> float:
    """Returns how long this call may wait, in seconds; a client may ask for another time than the default."""
    asked = request.headers.get("X-Gpushare-Max-Wait")
    if asked is None:
        return default_s
    if not asked.isdecimal() or not 1 <= int(asked[:6]) <= MAX_WAIT_LIMIT_S:
        raise InvalidRequest(f"X-Gpushare-Max-Wait takes whole seconds from 1 to {MAX_WAIT_LIMIT_S:.0f}.")
    return float(asked)


async def _upload(
    request: web.Request, endpoint: Endpoint, upstream_target: str, who: Principal
) -> web.StreamResponse:
    """Streams a model file; it may hold tens of gigabytes, so it is never collected."""
    parts = request.app[PARTS]
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
        request.content.iter_any(),
        request_id=request[REQUEST_ID],
        tool=tool_of(request.headers.get(hdrs.USER_AGENT, "")),
    )
    headers = {hdrs.CONTENT_TYPE: content_type} if body else {}
    return web.Response(status=status, headers=headers, body=body)
