"""A gateway that serves: from its listener to the last answer.

Called by: ``app.process`` for the service; the demo and the tests use ``running`` directly.
"""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from gpushare.app.build import answer_api, build_app, build_parts, connection_limits
from gpushare.app.disk import watch_disk
from gpushare.app.examination import SelfExamination
from gpushare.app.keys import KeyKeeper, watch_clock, watch_key_file
from gpushare.app.life import Life, keep_up
from gpushare.core.config import Config
from gpushare.core.errors import Restarting
from gpushare.edge.files import KeyFile, read_secret
from gpushare.edge.ollama import HttpOllama
from gpushare.edge.tls import Certificate
from gpushare.engine.examiner import Examiner
from gpushare.web.connections import make_listener, tune_listener
from gpushare.web.listening import ClientSite
from gpushare.web.parts import Parts
from gpushare.web.server import ClientRunner, make_runner
from gpushare.web.sessions import Sessions

DRAIN_POLL_S = 0.05
SECOND_SIGNAL_GRACE_S = 5.0
LAST_ANSWERS_S = 2.0
"""How long who has just connected may take to ask and be told that the server closes down."""
BACKLOG = 512
"""Connections the kernel keeps until they are taken, which during a restart takes seconds."""
CLEANUP_TIMEOUT_S = 2.0  # the library may use it twice; by then everything of ours has ended

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that serves at ``host``:``port``.

    ``handed_over`` tells that the listener outlives this process: what connects to it at the end is for the
    next one.
    """

    parts: Parts
    life: Life
    runner: ClientRunner
    host: str
    port: int
    handed_over: bool

    @property
    def url(self) -> str:
        """The address as a client on this machine types it."""
        return f"{self.parts.config.server.scheme}://{self.host}:{self.port}"

    async def drain(self, grace_s: float, *, hurry: asyncio.Event | None = None) -> None:
        """Refuses new and waiting calls, lets running ones finish, then cuts what is left.

        Args:
            grace_s: how long running calls may take.
            hurry: when set, at most five more seconds are left.
        """
        parts = self.parts
        if self.handed_over:
            await self.runner.stop_listening()
        self.life.close_down()
        parts.slots.close()
        self.runner.refuse_bodies(parts.slots.closing_down)
        deadline = time.monotonic() + grace_s
        while parts.gateway.live and time.monotonic() < deadline:
            await asyncio.sleep(DRAIN_POLL_S)
            if hurry is not None and hurry.is_set():
                deadline = min(deadline, time.monotonic() + SECOND_SIGNAL_GRACE_S)
                hurry = None
        parts.gateway.cut(lambda _: True, Restarting)
        await self.runner.stop_listening()
        await self._answer_the_last()

    async def _answer_the_last(self) -> None:
        """Lets every connection that was made have an answer: closed sooner, it would be reset."""
        end = time.monotonic() + LAST_ANSWERS_S
        await asyncio.sleep(DRAIN_POLL_S)  # what the kernel has just given us becomes a connection
        while self.runner.unanswered() and time.monotonic() < end:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(DRAIN_POLL_S)


@asynccontextmanager
async def running(
    config: Config,
    key_file: KeyFile,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    handed_over: Sequence[socket.socket] = (),
) -> AsyncIterator[Running]:
    """Serves for the length of the block.

    Args:
        config: the settings.
        key_file: who has a key; watched for changes.
        host: where to listen.
        port: 0 takes any free one.
        handed_over: listeners of the service manager, used in place of an own one.

    Raises:
        OSError: the address cannot be bound.
        ConfigErrors: the certificate, the keys, the session secret or the ledger cannot be used.
    """
    life = Life()
    tls = _tls(config, life)
    ollama = HttpOllama(config.ollama.url)
    life.on_stop.append(ollama.close)
    parts = build_parts(config, key_file.load(), ollama, key_file.path.parent, life)
    parts.sessions = Sessions(_session_secret(config, key_file.path.parent))
    parts.key_store = KeyKeeper(parts, key_file)
    parts.examiner = Examiner(SelfExamination(parts, key_file).report, parts.monotonic)
    life.tasks.append(parts.examiner.run)
    life.tasks.append(lambda: watch_clock(parts))
    life.tasks.append(lambda: watch_key_file(parts, key_file))
    life.tasks.append(lambda: watch_disk(parts, key_file.path.parent))
    runner = make_runner(
        build_app(parts, life),
        api=answer_api,
        limits=connection_limits(config),
        shutdown_timeout=CLEANUP_TIMEOUT_S,
    )
    parts.connections = runner.connections
    await runner.setup()
    try:
        await life.start()
        for listener in handed_over:
            tune_listener(listener)
        listeners = handed_over or [make_listener(host, port)]
        address, at_port = listeners[0].getsockname()[:2]
        for listener in listeners:
            await ClientSite(runner, listener, backlog=BACKLOG, tls=tls).start()
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(keep_up(run)) for run in life.tasks]
            yield Running(parts, life, runner, address, at_port, handed_over=bool(handed_over))
            for task in background:
                task.cancel()
    finally:
        life.close_down()
        parts.slots.close()
        parts.gateway.cut(lambda _: True, Restarting)
        await runner.cleanup()
        await life.stop()


def _tls(config: Config, life: Life) -> Callable[[], ssl.SSLContext] | None:
    """Returns what gives the certificate to show, read again on reload; None where clients speak plain HTTP.

    Raises:
        ConfigErrors: it cannot be used.
    """
    server = config.server
    if not server.tls_cert:
        return None
    certificate = Certificate(server.tls_cert, server.tls_key)
    life.on_read.append(lambda new: certificate.read(new.server.tls_cert, new.server.tls_key))
    return lambda: certificate.context


def _session_secret(config: Config, folder: Path) -> bytes | None:
    """Returns what sign-ins are signed with, None where none can be kept: then they end with the process.

    Raises:
        ConfigErrors: there is one that cannot be used.
    """
    try:
        return read_secret(
            "session_secret", configured=config.auth.session_secret_file, folder=folder, env=os.environ
        )
    except OSError as error:
        _log.warning("session.unsaved", error=type(error).__name__)
        return None
