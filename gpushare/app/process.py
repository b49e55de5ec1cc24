"""The process around the server: its loop, its signals, its collector.

Called by: ``gpushare serve``.
"""

import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

import structlog

from gpushare import __version__
from gpushare.app.life import keep_up
from gpushare.app.reload import Read, Reload
from gpushare.app.serving import Running, running
from gpushare.app.supervision import Supervision
from gpushare.core.config import Config
from gpushare.edge import logs
from gpushare.edge.files import KeyFile, hold_state
from gpushare.edge.systemd import take_listeners, take_notifier

DESCRIPTORS = 8192
"""What all connections, the calls behind them and everything else need; systemd's unit sets the same."""
GC_THRESHOLD = 50_000  # allocations between young collections: fewer pauses on the path of a token

_log = structlog.get_logger()


class Signals:
    """What the process was told to do.

    ``stop`` is set by the first SIGTERM or SIGINT, ``hurry`` by a second one.  ``on_hangup`` is called on
    SIGHUP, which from a terminal that is gone means to stop.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self.on_hangup: Callable[[], None] = lambda: None
        self._had_terminal = sys.stderr.isatty()

    def catch(self) -> None:
        """Takes the signals from now on; none of them ends the process by itself any more."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._told_to_stop)
        loop.add_signal_handler(signal.SIGINT, self._told_to_stop)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)

    def _told_to_stop(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()

    def _hung_up(self) -> None:
        if self._had_terminal and not os.isatty(sys.stderr.fileno()):
            self._told_to_stop()
        else:
            self.on_hangup()


def serve(config: Config, key_file: KeyFile, read: Read) -> None:
    """Runs the server in the foreground until SIGTERM or SIGINT; a second signal shortens the end.

    Args:
        config: to start with.
        key_file: watched for changed keys; its folder is the state directory, held against other servers.
        read: gives settings and keys anew, on SIGHUP.

    Raises:
        OSError: the address cannot be bound, or what was handed over cannot be listened on.
        ConfigErrors: the state directory, the keys or a secret cannot be used.
        StateInUse: another server uses the state directory.
    """
    logs.configure(config.log)
    _raise_descriptor_limit()
    with hold_state(key_file.path.parent), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(config, key_file, read))
    logs.finish()


async def _serve(config: Config, key_file: KeyFile, read: Read) -> None:
    signals = Signals()
    signals.catch()
    notifier = take_notifier(os.environ, os.getpid())
    handed_over = take_listeners(os.environ, os.getpid())
    host, port = config.server.address
    async with (
        running(config, key_file, host=host, port=port, handed_over=handed_over) as server,
        asyncio.TaskGroup() as tasks,
    ):
        _quiet_collector()
        _log.info("server.started", version=__version__, address=server.url, ollama=config.ollama.url)
        if server.handed_over and (server.host, server.port) != (host, port):
            _log.warning("listen.overruled", address=server.url)
        server.life.on_reload.append(lambda new: logs.configure(new.log))
        supervision = Supervision(server, notifier)
        reload = Reload(server.parts, server.life, read, supervision)
        signals.on_hangup = reload.ask
        background = [
            tasks.create_task(keep_up(reload.run)),
            tasks.create_task(_announce(server, supervision)),
            tasks.create_task(keep_up(supervision.watch)),
        ]
        await signals.stop.wait()
        _log.info("server.draining", running=server.parts.gateway.running())
        grace_s = server.parts.config.server.shutdown_grace
        supervision.closing_down(grace_s)
        await server.drain(grace_s, hurry=signals.hurry)
        for task in background:
            task.cancel()
    _log.info("server.stopped")


async def _announce(server: Running, supervision: Supervision) -> None:
    """Says that the server serves once Ollama was asked for the first time, whether it answered or not."""
    await server.parts.monitor.probed.wait()
    if not server.parts.closing:
        supervision.serving()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Returns uvloop's loop where it is installed; everything is correct without it."""
    try:
        import uvloop  # noqa: PLC0415 - an optional extra
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _raise_descriptor_limit() -> None:
    """Allows as many descriptors as are ever needed, where the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft < wanted:
        with suppress(OSError, ValueError):  # a filter of system calls may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _quiet_collector() -> None:
    """Keeps the garbage collector off what start-up made, and lets it run less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 100)
