"""The process around the server: its loop, its signals, its collector.

Called by: ``gpushare serve``.
"""

import asyncio
import gc
import signal
from collections.abc import Callable

import structlog

from gpushare import __version__
from gpushare.app.serving import running
from gpushare.core.config import Config
from gpushare.edge import logs
from gpushare.edge.files import KeyFile

GC_THRESHOLD = 50_000  # allocations between young collections: fewer pauses on the path of a token

_log = structlog.get_logger()


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
