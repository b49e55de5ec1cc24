"""What surrounds every request: its id, its raw target, the guard against foreign pages, errors as answers.

Rules: this is the one place that turns an error into an HTTP answer, and it runs for the web framework's own
404, 405 and 500 too.  The target is judged as it arrived, before anything decodes it.
"""

from collections.abc import Awaitable, Callable

import structlog
from aiohttp import hdrs, web

from gpushare.core.credentials import hides_401
from gpushare.core.dialects import dialect_of, split_target
from gpushare.core.errors import (
    Draining,
    GpushareError,
    Internal,
    MalformedRequest,
    MethodNotAllowed,
    OriginDenied,
    UnknownEndpoint,
    WrongHost,
    render,
)
from gpushare.core.hosts import host_allowed, host_name, origin_allowed
from gpushare.core.model import Dialect
from gpushare.engine.gateway import answer_headers
from gpushare.web.answers import new_request_id
from gpushare.web.callers import identify, is_own_origin
from gpushare.web.parts import PARTS, REQUEST_ID, TARGET, Parts

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Explain = Callable[[web.Request, GpushareError], web.Response]
"""Makes an error a page."""

EXPLAIN: web.AppKey[Explain] = web.AppKey("explain")
EXPOSED = "X-Gpushare-Request, X-Gpushare-Waited, X-Request-Id, Retry-After, retry-after-ms"
PREFLIGHT_METHODS = "GET, POST, DELETE, HEAD, OPTIONS"
PREFLIGHT_MAX_AGE_S = 43200

_log = structlog.get_logger()


@web.middleware
async def frame(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives the request an id and its checked target, and turns every error into an answer."""
    response: web.StreamResponse | None
    request[REQUEST_ID] = request_id = new_request_id()
    parts = request.app[PARTS]
    try:
        request[TARGET] = split_target(request.raw_path, key_in_path=parts.config.auth.key_in_path)
        response = _guard(request, parts)
        if response is None:
            response = await handler(request)
    except GpushareError as error:
        response = error_response(request, error)
        error.__traceback__ = None  # its frames know the error and the body: left to the collector, both stay
    except web.HTTPException as error:
        response = _framework_response(request, error)
    except Exception as error:  # noqa: BLE001 - the last resort: a fault of ours must not become a hang
        _log.error("request.failed", request=request_id, error=type(error).__name__, exc_info=True)
        response = error_response(request, Internal(request_id))
    if not response.prepared:
        for name, value in answer_headers(request_id).items():
            response.headers.setdefault(name, value)  # a static file may be kept
        if hdrs.ORIGIN in request.headers:
            response.headers.update(cors_headers(request))
    return response


def error_response(
    request: web.Request, error: GpushareError, explain: Explain | None = None
) -> web.Response:
    """Counts an error and returns it in the dialect of the request's path, to browsers as a page.

    Args:
        request: which is refused.
        error: why.
        explain: makes the page, where another one than usual says it better.
    """
    request.app[PARTS].stats.errors[error.code] += 1
    _log.debug("request.refused", request=request[REQUEST_ID], reason=error.code, status=error.status)
    target = request.get(TARGET)
    dialect = dialect_of(target.path if target is not None else request.raw_path)
    rendered = render(
        error,
        dialect,
        request_id=request[REQUEST_ID],
        hide_401=hides_401(request.headers.get(hdrs.USER_AGENT, "")),
    )
    response = web.Response(status=rendered.status, headers=rendered.headers, body=rendered.body)
    explain = explain or request.app.get(EXPLAIN)
    if explain is not None and _wants_page(request, error, dialect):
        page = explain(request, error)
        response.body = page.body
        response.headers.update(page.headers)
    # What was not read cannot be told from a next request, a rebinding page gets no second one, and who comes
    # back after a restart needs a new connection anyway.
    if request.can_read_body or isinstance(error, WrongHost | MalformedRequest | Draining):
        response.force_close()
    return response


def _wants_page(request: web.Request, error: GpushareError, dialect: Dialect) -> bool:
    """Whether a person looks at the answer; after a fault of ours nothing is tried that could fail, too."""
    accepts = "text/html" in request.headers.get(hdrs.ACCEPT, "")
    return accepts and dialect is Dialect.GPUSHARE and not isinstance(error, Internal)


def cors_headers(request: web.Request) -> dict[str, str]:
    """Returns the headers that let an allowed page read the answer; none for everybody else."""
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None or not origin_allowed(origin, request.app[PARTS].config.server.allowed_origins):
        return {}
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": EXPOSED,
        "Vary": "Origin",
    }


def _guard(request: web.Request, parts: Parts) -> web.Response | None:
    """Keeps foreign pages out before anything else looks at the request; returns the answer to a preflight.

    Raises:
        KeyProblem: the key the request carries is not valid.
        MalformedRequest: a Host that is no name.
        WrongHost: no key, and a name that is not ours.
        OriginDenied: a page of another site asks.
    """
    headers = request.headers
    who, host = identify(request, parts), headers.get(hdrs.HOST)
    if host is not None:  # HTTP/1.0 needs none: no browser speaks it, but health checks of proxies do
        if host_name(host) is None:  # with a key too: pages show it
            raise MalformedRequest("Host")
        if who is None and not host_allowed(host, parts.own_names):
            raise WrongHost
    origin = headers.get(hdrs.ORIGIN)
    if headers.get("Sec-Fetch-Site") == "cross-site" and _is_foreign(request, origin):
        raise OriginDenied
    if origin is None:
        return None
    if not _origin_welcome(request, origin):
        if request.method not in ("GET", "HEAD"):
            raise OriginDenied
    elif request.method == "OPTIONS":
        return _preflight(request)
    return None


def _preflight(request: web.Request) -> web.Response:
    """Lets an allowed page send whatever headers it asks for; the key still decides what it may do."""
    asked = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
    headers = {
        hdrs.ACCESS_CONTROL_ALLOW_METHODS: PREFLIGHT_METHODS,
        hdrs.ACCESS_CONTROL_MAX_AGE: str(PREFLIGHT_MAX_AGE_S),
    }
    if asked:
        headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = asked
    return web.Response(status=204, headers=headers)


def _is_foreign(request: web.Request, origin: str | None) -> bool:
    """Whether a page of another site asks behind its visitor's back; following a link is no such thing."""
    if request.headers.get("Sec-Fetch-Mode") == "navigate":
        return False
    return origin is None or not _origin_welcome(request, origin)


def _origin_welcome(request: web.Request, origin: str) -> bool:
    """Whether the page the request comes from is ours, or listed."""
    return is_own_origin(request, origin) or origin_allowed(
        origin, request.app[PARTS].config.server.allowed_origins
    )


def _framework_response(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """Rewrites the framework's own refusals; redirects and the like pass."""
    if isinstance(error, web.HTTPNotFound):
        return error_response(request, UnknownEndpoint())
    if isinstance(error, web.HTTPMethodNotAllowed):
        return error_response(request, MethodNotAllowed(tuple(sorted(error.allowed_methods))))
    if error.status >= 400:
        return error_response(request, Internal(request[REQUEST_ID]))
    return error
