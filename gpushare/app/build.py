"""Makes every object of the server and wires them.

Called by: ``app.serving``.  Rules: each object is made in ``build_parts`` and nowhere else; what it needs
while the server lives is entered in ``Life`` beside it.
"""

import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from gpushare import __version__
from gpushare.app.life import Life
from gpushare.core.audience import owner_names
from gpushare.core.config import Config
from gpushare.core.errors import LedgerUnavailable
from gpushare.core.keys import KeyRing
from gpushare.core.limits import BodyBudget
from gpushare.core.model import Lane, Record
from gpushare.core.scheduler import Params, Scheduler
from gpushare.core.stats import Stats
from gpushare.edge import logs
from gpushare.edge.files import asset, make_private_dir
from gpushare.edge.gpu import FakeGpus, NvmlGpus
from gpushare.edge.metrics import Metrics, Sources
from gpushare.edge.ollama import HttpOllama
from gpushare.edge.store import NAME, Store
from gpushare.edge.upstream import HttpUpstream
from gpushare.engine.gateway import Gateway
from gpushare.engine.gpu import GpuWatch
from gpushare.engine.health import Health
from gpushare.engine.lag import LoopLag
from gpushare.engine.monitor import Monitor
from gpushare.engine.ports import GpuSource, Observer
from gpushare.engine.slots import LocalSlots, QueueLimits
from gpushare.engine.stuck import StuckModels
from gpushare.web import inference, pages
from gpushare.web.connections import ConnectionLimits
from gpushare.web.middleware import frame
from gpushare.web.parts import PARTS, Parts

BACKEND = "ollama"
EMBED_BACKEND = "ollama-embed"  # the embedding lane: the same Ollama, slots of its own
DAY_S = 86_400.0

_log = structlog.get_logger()


def build_parts(config: Config, ring: KeyRing, ollama: HttpOllama, folder: Path, life: Life) -> Parts:
    """Returns every object of the server, wired and not yet running; what runs is entered in ``life``.

    Args:
        config: to start with.
        ring: the keys.
        ollama: Ollama's small answers.
        folder: where what is to outlive the process is kept.
        life: told what to start, to change and to stop.
    """
    clock = time.monotonic
    machine = socket.getfqdn()  # once: whoever is asked for it may keep silent
    slots = _make_slots(config, ring, life)
    stats = Stats()
    store = _make_store(config, folder, slots, stats, life)
    health = _make_health(config, slots, life)
    upstream = _make_upstream(config, life)
    monitor = _make_monitor(config, ollama, slots, health, life, heard=lambda: upstream.reads)
    _count_models(monitor, stats)
    _make_stuck(config, ollama, monitor, health, life)
    gpus = _make_gpus(config, slots, monitor, life)
    gateway = Gateway(
        config,
        slots=slots,
        upstream=upstream,
        ollama=ollama,
        monitor=monitor,
        ledger=store,
        health=health,
        observe=_observer(stats, store),
        clock=clock,
        wall=time.time,
    )
    parts = Parts(
        config=config,
        ring=ring,
        host=_host(config),
        own_names=_own_names(config, machine),
        gateway=gateway,
        slots=slots,
        monitor=monitor,
        gpus=gpus,
        health=health,
        lag=_make_lag(clock, life),
        memory=ollama,
        stats=stats,
        ledger=store,
        metrics=Metrics(_sources(slots, stats, monitor, store, upstream=upstream, parts=lambda: parts)),
        body_budget=BodyBudget(config.server.body_memory, jitter=random.random),
    )

    def adopt(new: Config) -> None:
        parts.config = gateway.config = new
        parts.host, parts.own_names = _host(new), _own_names(new, machine)
        parts.body_budget.total_bytes = new.server.body_memory
        if parts.connections is not None:
            parts.connections.set_limits(connection_limits(new))

    life.on_reload.append(adopt)
    return parts


def build_app(parts: Parts, life: Life) -> web.Application:
    """Returns the web application: the pages, and behind them one handler for the API, known path or not."""
    app = web.Application(middlewares=[frame])
    app[PARTS] = parts
    hub = pages.setup(app, templates=asset("templates"), static=asset("static"))
    life.tasks.append(hub.run)
    life.on_drain.append(hub.close)
    app.router.add_route("*", "/{path:.*}", inference.unlisted)
    return app


def answer_api(request: web.Request) -> Awaitable[web.StreamResponse]:
    """Answers a request of the API: the way of every call, past the framework's router."""
    return frame(request, inference.dispatch)


def _make_slots(config: Config, ring: KeyRing, life: Life) -> LocalSlots:
    scheduler = Scheduler(_params(config))
    scheduler.add_backend(BACKEND, slots=config.queue.slots)
    scheduler.add_backend(EMBED_BACKEND, slots=config.queue.embedding_slots, lane=Lane.EMBED)
    slots = LocalSlots(scheduler, limits=_limits(config), clock=time.monotonic, jitter=random.random)
    slots.set_people(ring.owners(datetime.now(UTC)))

    def adopt(new: Config) -> None:
        slots.set_limits(_limits(new))
        slots.set_params(_params(new))
        slots.resize(BACKEND, new.queue.slots)
        slots.resize(EMBED_BACKEND, new.queue.embedding_slots)

    life.on_reload.append(adopt)
    life.checks["scheduler"] = lambda: not slots.is_stuck()
    return slots


def _make_store(config: Config, folder: Path, slots: LocalSlots, stats: Stats, life: Life) -> Store:
    store = Store(folder / NAME, keep_s=config.ledger.keep, report=_report)
    life.on_reload.append(lambda new: store.set_keep(new.ledger.keep))

    def learn(calls: Iterator[Record]) -> None:
        """Takes the last day in, one call at a time; in another thread, before anything else begins."""
        for call in calls:
            stats.restore(call)
            slots.remember(call)

    async def begin() -> None:
        """Opens the ledger and takes the last day back from it."""
        make_private_dir(folder)
        await store.open()
        try:
            await store.calls(time.time() - DAY_S, learn)
            stats.restore_last(await store.last_calls())
        except LedgerUnavailable:
            _log.warning("ledger.unread")

    life.on_start.append(begin)
    life.on_stop.append(store.close)
    life.checks["ledger"] = lambda: store.answering
    return store


def _observer(stats: Stats, store: Store) -> Observer:
    """Returns what is done for every call that ended; log and ledger name only models Ollama vouches for."""

    def observe(record: Record) -> None:
        closed = stats.record(record)
        logs.log_record(closed)
        store.append(closed)

    return observe


def _report(event: str, fields: dict[str, object]) -> None:
    """Logs what the ledger has to tell of itself."""
    (_log.info if event == "ledger.recovered" else _log.warning)(event, **fields)


def _make_health(config: Config, slots: LocalSlots, life: Life) -> Health:
    health = Health(
        slots,
        backends=(BACKEND, EMBED_BACKEND),
        grace_s=config.queue.breaker_queue_grace,
        clock=time.monotonic,
        jitter=random.random,
    )

    def adopt(new: Config) -> None:
        health.grace_s = new.queue.breaker_queue_grace

    life.on_reload.append(adopt)
    life.on_stop.append(health.close)
    return health


def _make_monitor(
    config: Config,
    ollama: HttpOllama,
    slots: LocalSlots,
    health: Health,
    life: Life,
    *,
    heard: Callable[[], int],
) -> Monitor:
    monitor = Monitor(
        ollama,
        slots=slots,
        health=health,
        backends=(BACKEND, EMBED_BACKEND),
        heard=heard,
        interval_s=config.ollama.health_interval,
        clock=time.monotonic,
    )

    def adopt(new: Config) -> None:
        monitor.interval_s = new.ollama.health_interval

    life.on_reload.append(adopt)
    life.tasks.append(monitor.run)
    return monitor


def _count_models(monitor: Monitor, stats: Stats) -> None:
    monitor.on_models.append(stats.know)
    monitor.on_reload.append(lambda: stats.reloaded(time.time()))


def _make_stuck(config: Config, ollama: HttpOllama, monitor: Monitor, health: Health, life: Life) -> None:
    stuck = StuckModels(ollama, health, look=monitor.poll_resident, enabled=config.ollama.unload_stuck)

    def adopt(new: Config) -> None:
        stuck.enabled = new.ollama.unload_stuck

    life.on_reload.append(adopt)
    life.tasks.append(stuck.run)


def _make_lag(clock: Callable[[], float], life: Life) -> LoopLag:
    lag = LoopLag(clock=clock)
    life.tasks.append(lag.run)
    return lag


def _make_upstream(config: Config, life: Life) -> HttpUpstream:
    upstream = HttpUpstream(config.ollama.url, **_dialling(config))
    life.on_reload.append(lambda new: upstream.set_timeouts(**_dialling(new)))
    return upstream


def _sources(
    slots: LocalSlots,
    stats: Stats,
    monitor: Monitor,
    store: Store,
    *,
    upstream: HttpUpstream,
    parts: Callable[[], Parts],
) -> Sources:
    """Returns where the metrics read their figures; ``parts`` exist by the first scrape."""
    return Sources(
        stats=stats,
        queue=slots.counts,
        ollama=lambda: monitor.view,
        gpus=lambda: gpus.view if (gpus := parts().gpus) else None,
        names=lambda: owner_names(parts().ring),
        draining=lambda: slots.draining,
        body_bytes=lambda: parts().body_budget.held_bytes,
        doors=lambda: parts().connections,
        version=__version__,
        people=lambda: parts().config.metrics.people,
        rejected=lambda: parts().config_rejected,
        ledger=lambda: store.state,
        lag_s=lambda: parts().lag.worst_s,
        strays=lambda: upstream.strays,
    )


def _make_gpus(config: Config, slots: LocalSlots, monitor: Monitor, life: Life) -> GpuWatch | None:
    """Returns what watches the GPUs, or None where that is turned off."""
    settings = config.gpu
    source: GpuSource
    match settings.backend:
        case "none":
            return None
        case "fake":
            source = FakeGpus(
                interval_s=settings.interval,
                running=lambda: slots.counts().held,
                loaded_bytes=lambda: sum(model.vram_bytes for model in monitor.view.loaded),
            )
        case _:
            source = NvmlGpus(interval_s=settings.interval, devices=settings.devices)
    watch = GpuWatch(source, required=settings.backend == "nvml", clock=time.monotonic)
    watch.on_power.append(slots.meter.read)
    life.tasks.append(watch.run)
    return watch


def _params(config: Config) -> Params:
    queue = config.queue
    return Params(
        quantum=queue.quantum,
        background_weight=queue.background_weight,
        stay_on_model=queue.stay_on_model,
    )


def _limits(config: Config) -> QueueLimits:
    queue = config.queue
    return QueueLimits(max_waiting=queue.max_waiting, max_waiting_per_person=queue.max_waiting_per_person)


def _dialling(config: Config) -> dict[str, float]:
    ollama = config.ollama
    return {"connect_timeout": ollama.connect_timeout, "send_timeout": ollama.send_timeout}


def connection_limits(config: Config) -> ConnectionLimits:
    """Returns the limits of client connections."""
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


def _host(config: Config) -> str:
    """Returns the machine's name, as shown to people."""
    return config.server.name or socket.gethostname()


def _own_names(config: Config, machine: str) -> frozenset[str]:
    """Returns the names this machine answers to without a key; ``machine`` is its own with the domain."""
    public = urlsplit(config.server.public_url).hostname
    names = {_host(config), socket.gethostname(), machine, public or "localhost"}
    return frozenset(name.lower() for name in (*names, *config.server.allowed_hosts))
