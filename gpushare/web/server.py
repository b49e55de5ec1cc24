"""The HTTP server: aiohttp's, making connections of ours, with a short way for the calls of the API.

Called by: ``app``.  Rules: with ``web.protocol`` and ``web.transport``, the only user of aiohttp's internals.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

from aiohttp import http_parser, web

from gpushare.core.dialects import dialect_of
from gpushare.core.errors import GpushareError
from gpushare.web.answers import SERVER, refusal
from gpushare.web.connections import ConnectionLimits, Connections
from gpushare.web.protocol import ClientConnection, connection_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API_ROOTS = ("/api/", "/v1/", "/k/", "//")
"""How the targets of calls begin; the last one is for base URLs that end in a slash."""


def check_parser() -> None:
    """Raises RuntimeError unless aiohttp reads requests with its C parser.

    The Python one takes malformed requests that the C one refuses.
    """
    if http_parser.HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise RuntimeError(
            "aiohttp runs without its C parser here. Install a binary wheel of aiohttp, and unset "
            "AIOHTTP_NO_EXTENSIONS."
        )


class ClientServer(web.Server):
    """aiohttp's server, making our connections.

    Args:
        inner: what aiohttp made for the application.
        connections: the counts.
        api: answers targets under ``API_ROOTS`` in place of the application, whose router and wrappers cost a
            short call more than its turn in the queue; None: the application answers everything.
        app: the application, as such a request finds it.
    """

    def __init__(
        self, inner: web.Server, *, connections: Connections, api: Handler | None, app: web.Application
    ) -> None:
        super().__init__(
            self._answer,
            request_factory=inner.request_factory,
            handler_cancellation=True,
            loop=inner._loop,  # noqa: SLF001 - the loop of the same server
        )
        self._make = partial(ClientConnection, self, loop=self._loop, connections=connections)
        self._inner = inner.request_handler
        self._api = api
        self._api_match = _match(app)

    def __call__(self) -> ClientConnection:
        """Returns the protocol of a new connection."""
        return self._make()

    def _answer(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        connection = connection_of(request)
        try:
            checked = connection.begin(cast("web.Request", request))
        except GpushareError as error:
            return _refuse(error, request)
        if self._api is not None and checked.raw_path.startswith(API_ROOTS):
            checked._match_info = self._api_match  # noqa: SLF001 - how a request knows its application
            return self._api(checked)
        return self._inner(checked)


async def _refuse(error: GpushareError, request: web.BaseRequest) -> web.StreamResponse:
    return refusal(error, dialect_of(request.raw_path))


def _match(app: web.Application) -> web.UrlMappingMatchInfo:
    """Returns what the router finds for a path without parameters; the same for every request."""
    match = web.UrlMappingMatchInfo({}, web.ResourceRoute("*", _unrouted, web.PlainResource("/api")))
    match.add_app(app)
    match.freeze()
    return match


async def _unrouted(_request: web.Request) -> web.StreamResponse:
    raise AssertionError("never called: it stands where the router names a handler")


class ClientRunner(web.AppRunner):
    """aiohttp's runner with our server; ``connections`` holds the counts."""

    def __init__(
        self,
        app: web.Application,
        *,
        connections: Connections,
        api: Handler | None,
        shutdown_timeout: float,
    ) -> None:
        super().__init__(app, access_log=None, shutdown_timeout=shutdown_timeout)
        self.connections = connections
        self._api = api

    async def _make_server(self) -> web.Server:
        inner = await super()._make_server()
        return ClientServer(inner, connections=self.connections, api=self._api, app=self.app)

    def unanswered(self) -> int:
        """Returns how many connections owe an answer, or have just been made and may be about to ask."""
        return sum(_is_owed(connection) for connection in self._open())

    def refuse_bodies(self, error: Callable[[], GpushareError]) -> None:
        """Waits for no more of the bodies that have not come whole; their clients are told an error each."""
        for connection in self._open():
            connection.refuse_body(error())

    def _open(self) -> list[ClientConnection]:
        found = [] if self.server is None else self.server.connections
        return cast("list[ClientConnection]", found)

    async def stop_listening(self) -> None:
        """Takes no more connections; those there are go on.  Idempotent."""
        for site in self.sites:
            await site.stop()


def _is_owed(connection: ClientConnection) -> bool:
    busy = connection._current_request is not None or connection._in_header  # noqa: SLF001
    return busy or not connection._request_count  # noqa: SLF001 - it has not asked for anything yet


def make_runner(
    app: web.Application,
    *,
    limits: ConnectionLimits,
    api: Handler | None = None,
    shutdown_timeout: float = 5.0,
) -> ClientRunner:
    """Returns the runner that serves ``app`` on connections of ours.

    Args:
        app: not started yet.
        api: answers the targets of calls in its place; see ``ClientServer``.
        limits: on connections; ``runner.connections`` holds the counts.
        shutdown_timeout: how many seconds the clean-up waits for handlers, up to twice; drain first.

    Raises:
        RuntimeError: aiohttp runs without its C parser.
    """
    check_parser()
    app.on_response_prepare.append(_name_server)
    connections = Connections(limits)
    return ClientRunner(app, connections=connections, api=api, shutdown_timeout=shutdown_timeout)


async def _name_server(_request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Names the server on answers a handler streams through aiohttp."""
    response.headers["Server"] = SERVER
