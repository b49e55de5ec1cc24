"""Builds every object, wires them, runs and stops them.

This is the only module that sees both the engine's ports and the classes that fit them.  ``build_parts``
makes the objects, ``running`` serves them for the length of a block, ``serve`` puts a process and its
signals around that.
"""

import asyncio
import gc
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from gpushare import __version__
from gpushare.core.config import Config
from gpushare.core.dialects import ENDPOINTS
from gpushare.core.errors import KeyRevoked, Restarting
from gpushare.core.keys import KeyRing
from gpushare.core.limits import BodyBudget
from gpushare.core.model import Lane, Principal
from gpushare.core.scheduler import Params, Scheduler
from gpushare.core.stats import Stats
from gpushare.core.status import owner_names
from gpushare.edge import logs
from gpushare.edge.files import KeyFile, asset
from gpushare.edge.metrics import Metrics, Sources
from gpushare.edge.ollama import HttpOllama
from gpushare.edge.upstream import HttpUpstream
from gpushare.engine.gateway import Gateway
from gpushare.engine.monitor import Monitor
from gpushare.engine.slots import LocalSlots, QueueLimits
from gpushare.web import inference, pages
from gpushare.web.middleware import frame
from gpushare.web.parts import PARTS, Parts
from gpushare.web.transport import ConnectionLimits, make_listener, make_runner

BACKEND = "ollama"
EMBED_BACKEND = "ollama-embed"  # the embedding lane: the same Ollama, slots of its own
KEY_FILE_POLL_S = 0.5
DRAIN_POLL_S = 0.05
SECOND_SIGNAL_GRACE_S = 5.0
CLEANUP_TIMEOUT_S = 2.0  # the library may use it twice; by then everything of ours has ended
GC_THRESHOLD = 50_000  # allocations between young collections: fewer pauses on the path of a token

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that serves at ``host``:``port``."""

    parts: Parts
    host: str
    port: int

    @property
    def url(self) -> str:
        """The address as a client on this machine types it."""
        return f"http://{self.host}:{self.port}"

    async def drain(self, grace_s: float, *, hurry: asyncio.Event | None = None) -> None:
        """Refuses new and waiting calls, lets running ones finish, then cuts what is left.

        Args:
            grace_s: how long running calls may take.
            hurry: when set, at most five more seconds are left.
        """
        parts = self.parts
        parts.slots.drain()
        deadline = time.monotonic() + grace_s
        while parts.gateway.live and time.monotonic() < deadline:
            await asyncio.sleep(DRAIN_POLL_S)
            if hurry is not None and hurry.is_set():
                deadline = min(deadline, time.monotonic() + SECOND_SIGNAL_GRACE_S)
                hurry = None
        parts.gateway.cut(lambda _: True, Restarting)


def build_parts(config: Config, ring: KeyRing, ollama: HttpOllama) -> Parts:
    """Returns every object of the server, wired and not yet running."""
    clock = time.monotonic
    slots = LocalSlots(_scheduler(config), limits=_limits(config), clock=clock, jitter=random.random)
    slots.set_people(ring.owners(datetime.now(UTC)))
    stats = Stats()
    monitor = Monitor(
        ollama,
        slots=slots,
        backends=(BACKEND, EMBED_BACKEND),
        interval_s=config.ollama.health_interval,
        clock=clock,
        on_models=stats.know,
    )
    upstream = HttpUpstream(
        config.ollama.url,
        connect_timeout=config.ollama.connect_timeout,
        send_timeout=config.ollama.send_timeout,
    )
    gateway = Gateway(
        config,
        slots=slots,
        upstream=upstream,
        ollama=ollama,
        monitor=monitor,
        observers=(stats.record, lambda record: logs.log_record(stats.closed(record))),
        clock=clock,
        wall=time.time,
    )
    host = config.server.name or socket.gethostname()
    sources = Sources(
        stats=stats,
        queue=slots.counts,
        ollama=lambda: monitor.view,
        names=lambda: owner_names(parts.ring),
        draining=lambda: slots.draining,
        body_bytes=lambda: parts.body_budget.held_bytes,
        doors=lambda: parts.connections,
        version=__version__,
        people=config.metrics.people,
    )
    parts = Parts(
        config=config,
        ring=ring,
        host=host,
        own_names=_own_names(config, host),
        gateway=gateway,
        slots=slots,
        monitor=monitor,
        stats=stats,
        metrics=Metrics(sources),
        body_budget=BodyBudget(config.server.body_memory),
    )
    return parts


def build_app(parts: Parts) -> web.Application:
    """Returns the web application: the pages, and behind them one handler for the API, known path or not."""
    app = web.Application(middlewares=[frame])
    app[PARTS] = parts
    pages.setup(app, templates=asset("templates"), static=asset("static"))
    for path in sorted({endpoint.path for endpoint in ENDPOINTS} - {"/"}):
        if "{" not in path:  # a path found by name costs a third of one found by the pattern below
            app.router.add_route("*", path, inference.dispatch)
    app.router.add_route("*", "/{path:.*}", inference.dispatch)
    return app


@asynccontextmanager
async def running(
    config: Config, key_file: KeyFile, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Running]:
    """Serves for the length of the block; port 0 takes any free one.

    Raises:
        OSError: the address cannot be bound.
    """
    ollama = HttpOllama(config.ollama.url)
    parts = build_parts(config, key_file.load(), ollama)
    runner = make_runner(
        build_app(parts), limits=_connection_limits(config), shutdown_timeout=CLEANUP_TIMEOUT_S
    )
    parts.connections = runner.connections
    await runner.setup()
    try:
        listener = make_listener(host, port)
        await web.SockSite(runner, listener).start()
        async with asyncio.TaskGroup() as tasks:
            background = (
                tasks.create_task(parts.monitor.run()),
                tasks.create_task(_watch_keys(parts, key_file)),
            )
            yield Running(parts, *listener.getsockname()[:2])
            for task in background:
                task.cancel()
    finally:
        parts.slots.drain()
        parts.gateway.cut(lambda _: True, Restarting)
        await runner.cleanup()
        await ollama.close()


def serve(config: Config, key_file: KeyFile) -> None:
    """Runs the server in the foreground until SIGTERM or SIGINT; a second signal shortens the end."""
    logs.configure(config.log)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(config, key_file))


async def _serve(config: Config, key_file: KeyFile) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: hurry.set() if stop.is_set() else stop.set())
    host, port = config.server.address
    async with running(config, key_file, host=host, port=port) as server:
        _quiet_collector()
        _log.info("server.started", version=__version__, address=server.url, ollama=config.ollama.url)
        await stop.wait()
        _log.info("server.draining", running=len(server.parts.gateway.live))
        await server.drain(config.server.shutdown_grace, hurry=hurry)
    _log.info("server.stopped")


async def _watch_keys(parts: Parts, key_file: KeyFile) -> None:
    """Swaps in a changed key file whole; a broken one changes nothing and is logged.

    Keys also begin and end by the clock, so what they grant is looked at each time.
    """
    while True:
        await asyncio.sleep(KEY_FILE_POLL_S)
        try:
            if key_file.changed():
                parts.ring = key_file.load()
                _log.info("keys.loaded", people=len(parts.ring.owners(datetime.now(UTC))))
        except Exception as error:  # noqa: BLE001 - a broken file must not stop the server
            _log.error("keys.rejected", reason=type(error).__name__)
        _apply_keys(parts)


def _apply_keys(parts: Parts) -> None:
    """Gives everybody the terms of now: calls of ended keys leave the queue, or by setting their slot."""
    now = datetime.now(UTC)
    parts.slots.set_people(parts.ring.owners(now))

    def ended(who: Principal) -> bool:
        return bool(who.key_id) and not parts.ring.active(who.key_id, now)

    parts.slots.evict(ended, KeyRevoked)
    if parts.config.auth.revoke_running == "cut":
        parts.gateway.cut(ended, KeyRevoked)


def _scheduler(config: Config) -> Scheduler:
    queue = config.queue
    scheduler = Scheduler(
        Params(
            quantum=queue.quantum,
            background_weight=queue.background_weight,
            stay_on_model=queue.stay_on_model,
        )
    )
    scheduler.add_backend(BACKEND, slots=queue.slots)
    scheduler.add_backend(EMBED_BACKEND, slots=queue.embedding_slots, lane=Lane.EMBED)
    return scheduler


def _limits(config: Config) -> QueueLimits:
    queue = config.queue
    return QueueLimits(max_waiting=queue.max_waiting, max_waiting_per_person=queue.max_waiting_per_person)


def _connection_limits(config: Config) -> ConnectionLimits:
    server = config.server
    return ConnectionLimits(
        total=server.max_connections,
        per_address=server.max_connections_per_address,
        anonymous=max(1, server.max_connections // 4),
        trusted=frozenset(server.trusted_proxies),
        header_timeout_s=server.header_timeout,
        keepalive_timeout_s=server.keepalive_timeout,
        write_stall_s=server.write_stall,
    )


def _own_names(config: Config, host: str) -> frozenset[str]:
    """Returns the names this machine answers to without a key."""
    public = urlsplit(config.server.public_url).hostname
    names = {host, socket.gethostname(), socket.getfqdn(), public or "localhost"}
    return frozenset(name.lower() for name in (*names, *config.server.allowed_hosts))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Returns uvloop's loop where it is installed; everything is correct without it."""
    try:
        import uvloop  # noqa: PLC0415 - an optional extra
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _quiet_collector() -> None:
    """Keeps the garbage collector off what start-up made, and lets it run less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 100)
