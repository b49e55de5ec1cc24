"""The simulated Ollama's HTTP side: connections, the log, and what Ollama checks before its routes."""

import asyncio
import hashlib
import ipaddress
import re
import socket
from collections import deque
from typing import cast

from aiohttp import web

from gpushare.sim.answer import Answer, Over, reset
from gpushare.sim.asks import BadAsk
from gpushare.sim.gpu import Gpu, GpuError
from gpushare.sim.journal import Entry, Events, State
from gpushare.sim.routes import Machine, refuse, route, route_at
from gpushare.sim.script import FaultKind, Plan, Script
from gpushare.sim.store import Store

_TEXT = {"Content-Type": "text/plain"}
_ORIGINS = re.compile(
    r"https?://(localhost|127\.0\.0\.1|0\.0\.0\.0)(:\d+)?$|(app|file|tauri|vscode-webview|vscode-file)://"
)


class _Server(web.Server):
    """aiohttp's low-level server, keeping the open connections."""

    events: Events
    open: dict[web.RequestHandler, asyncio.Transport]

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self.open[handler] = transport
        self.events.changed()

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self.open.pop(handler, None)
        self.events.changed()


class SimOllama:
    """A simulated Ollama on a loopback port.

    ``log`` has one entry for each of the latest requests, in order of arrival; ``events.until`` waits for
    anything that can be observed here.
    """

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.events = Events()
        self.gpu = Gpu(self.script, self.events)
        self.store = Store(self.script)
        self.log: deque[Entry] = deque(maxlen=self.script.log_size)
        self.url = ""
        self._machine = Machine(self.script, self.gpu, self.store)
        self._arrived = 0
        self._planned: list[tuple[str | None, Plan]] = []
        self._tasks: set[asyncio.Task[object]] = set()
        self._server: _Server | None = None
        self._listener: asyncio.Server | None = None
        self._full: list[socket.socket] = []
        self._port = 0

    @property
    def connections(self) -> int:
        """Open client connections."""
        return len(self._server.open) if self._server else 0

    def next(self, plan: Plan, *, path: str | None = None) -> None:
        """Plans the next request (to ``path``, where one is named)."""
        self._planned.append((path, plan))

    async def arrived(self, number: int, *, path: str | None = None) -> Entry:
        """Waits for the request of that number, counting from 0 (among those to ``path``)."""

        def found() -> Entry | None:
            entries = [entry for entry in self.log if path is None or entry.path == path]
            return entries[number] if len(entries) > number else None

        return cast("Entry", await self.events.until(found))

    async def start(self, port: int = 0) -> str:
        """Listens on a loopback port and returns the base URL."""
        self._server = _Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
        )
        self._server.events = self.events
        self._server.open = {}
        self._port = port
        await self.accept()
        self.url = f"http://127.0.0.1:{self._port}"
        return self.url

    async def accept(self) -> None:
        """Listens again after ``refuse`` or ``crash``, on the same port."""
        assert self._server is not None, "start() comes first"  # noqa: S101 - a mistake of the caller
        self.refuse()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._server, "127.0.0.1", self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Closes the port: new connections are refused, open ones go on."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for one in self._full:
            one.close()
        self._full = []

    def hang(self) -> None:
        """Lets dials hang, as a host that drops packets does, until ``accept``."""
        self.refuse()
        full = socket.socket()
        full.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        full.bind(("127.0.0.1", self._port))
        full.listen(0)
        self._full = [full]
        for _ in range(2):  # a backlog of 0 takes one connection, and one more is being taken
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self._port))
            self._full.append(filler)

    def crash(self) -> None:
        """Closes the port, resets every connection and unloads all models, as a killed process does."""
        self.refuse()
        for entry in self.log:
            entry.enter(State.FAULTED)
        for transport in list(self._server.open.values()) if self._server else []:
            reset(transport)
        for name in list(self.gpu.resident):
            self.gpu.unload(name)

    async def stop(self) -> None:
        """Ends everything.  Idempotent."""
        self.refuse()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._server is not None:
            await self._server.shutdown(1.0)
        self.gpu.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        entry = self._open(request)
        answer = Answer(request, entry)
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._tasks.add(task)
        try:
            await self._answer(request, entry, answer)
        except Over:
            pass
        except ConnectionError:
            entry.enter(State.CANCELLED)
        except asyncio.CancelledError:
            entry.enter(State.CANCELLED)
            raise
        finally:
            self._tasks.discard(task)
        entry.enter(State.REFUSED if entry.status >= 400 else State.DONE)
        return answer.response

    def _open(self, request: web.BaseRequest) -> Entry:
        """Notes an arrival and chooses its plan."""
        headers = tuple(
            (key.decode("latin-1"), value.decode("latin-1")) for key, value in request.raw_headers
        )
        entry = Entry(
            number=self._arrived,
            method=request.method,
            target=request.raw_path,
            headers=headers,
            events=self.events,
            keep_body=self.script.keep_bodies,
        )
        self._arrived += 1
        entry.plan = self._plan(entry.path)
        entry.at[State.ARRIVED] = asyncio.get_running_loop().time()
        self.log.append(entry)
        self.events.changed()
        return entry

    def _plan(self, path: str) -> Plan:
        for index, (wanted, plan) in enumerate(self._planned):
            if wanted in (None, path):
                del self._planned[index]
                return plan
        return self.script.plans.get(path, self.script.default)

    async def _answer(self, request: web.BaseRequest, entry: Entry, answer: Answer) -> None:
        if entry.plan.has(FaultKind.DEAF):
            await entry.stall()
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not _allowed(request):
            await answer.single(403, {}, b"")
            return
        handler, found = route(entry)
        if handler is None:
            await _no_route(found, entry, answer)
            return
        await _read(request, entry, keep=not entry.path.startswith("/api/blobs/"))
        if entry.plan.status:
            await refuse(entry, answer, status=entry.plan.status)
            return
        try:
            await handler(self._machine, entry, answer)
        except BadAsk as error:
            await refuse(entry, answer, status=error.status, text=error.text, early=error.early)
        except GpuError as error:
            await refuse(entry, answer, status=error.status, text=error.text)


async def _read(request: web.BaseRequest, entry: Entry, *, keep: bool) -> None:
    """Reads the body; ``hangup@k`` resets after k bytes of it."""
    fault = entry.plan.fault
    limit = fault.at if fault and fault.kind is FaultKind.HANGUP else None
    parts = []
    digest = hashlib.sha256()
    async for part in request.content.iter_any():
        entry.body_bytes += len(part)
        digest.update(part)
        if keep:
            parts.append(part)
        if limit is not None and entry.body_bytes >= limit:
            break
    entry.body = b"".join(parts) if keep else digest.hexdigest().encode()
    if limit is not None:
        reset(request.transport)
        entry.enter(State.FAULTED)
        raise Over
    entry.enter(State.READ)


async def _no_route(allowed: list[str], entry: Entry, answer: Answer) -> None:
    """Answers as gin does: a redirect for a trailing slash, 405 for another method, else 404."""
    bare = entry.path.rstrip("/")
    if entry.path != bare and route_at(entry.method, bare):
        status = 301 if entry.method == "GET" else 307
        await answer.single(status, {"Location": bare or "/"}, b"")
    elif allowed:
        await answer.single(405, {**_TEXT, "Allow": ", ".join(allowed)}, b"405 method not allowed")
    else:
        await answer.single(404, _TEXT, b"404 page not found")


def _allowed(request: web.BaseRequest) -> bool:
    """Tells whether Ollama's checks of Host and Origin let the request in."""
    host = request.headers.get("Host", "")
    origin = request.headers.get("Origin")
    same = origin in (f"http://{host}", f"https://{host}")
    return _host_allowed(host) and (origin is None or same or _ORIGINS.match(origin) is not None)


def _host_allowed(host: str) -> bool:
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    name = name.strip("[]").lower()
    try:
        return ipaddress.ip_address(name).is_private
    except ValueError:
        return name in ("", "localhost") or name.endswith((".localhost", ".local", ".internal"))
