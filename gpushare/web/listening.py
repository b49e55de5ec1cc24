"""Taking connections from a listener: plain ones, and those whose clients speak TLS.

Called by: ``app``, in place of aiohttp's site.  That one leaves accepting to the event loop: uvloop closes
whom it has no descriptor for, and every loop holds any number of half-made TLS connections for a minute.
Rules: who cannot be taken waits in the kernel; nothing is answered before the handshake, and one that is not
done in time is dropped.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import structlog
from aiohttp import web

from gpushare.web.connections import Connections, Place
from gpushare.web.server import ClientRunner

AT_ONCE = 64
"""Connections taken in one step of the loop; running answers come in between."""
NO_DESCRIPTOR_S = 0.2
"""How long new connections wait in the kernel when the process has no descriptor for them."""
LAST_HANDSHAKES_S = 1.0
"""How long handshakes go on when no more connections are taken."""
OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

TELL_S = 60.0
"""The log says at most so often that there is none."""

_log = structlog.get_logger()


class ClientSite(web.SockSite):
    """One listener.

    Args:
        runner: serves what comes.
        listener: bound, not yet listening.
        backlog: as that of ``listen``.
        tls: gives the certificate for the next connection, where clients speak TLS.
    """

    __slots__ = ("_arriving", "_clients", "_making", "_paused", "_tell_from", "_tls")

    def __init__(
        self,
        runner: ClientRunner,
        listener: socket.socket,
        *,
        backlog: int = 128,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        super().__init__(runner, listener, backlog=backlog)
        self._clients = runner
        self._tls = tls
        self._arriving = Connections(runner.connections.limits)  # a handshake is not among the open ones yet
        self._making: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._tell_from = 0.0  # when the log may say again that nobody is taken

    async def start(self) -> None:
        """Listens."""
        await web.BaseSite.start(self)
        self._sock.setblocking(False)
        self._sock.listen(self._backlog)
        self._resume()

    async def stop(self) -> None:
        """Takes no more connections and closes the listener; handshakes that have begun may still end."""
        await super().stop()
        if self._paused is not None:
            self._paused.cancel()
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()
        if self._making:
            _, late = await asyncio.wait(self._making, timeout=LAST_HANDSHAKES_S)
            for task in late:
                task.cancel()

    def _resume(self) -> None:
        self._paused = None
        asyncio.get_running_loop().add_reader(self._sock, self._accept)

    def _accept(self) -> None:
        """Takes who waits."""
        for _ in range(AT_ONCE):
            try:
                accepted, peer = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OUT_OF_RESOURCES:
                    self._wait_for_resources(error.errno)
                    return
                continue  # this one has gone already
            accepted.setblocking(False)
            self._take(accepted, str(peer[0]))

    def _wait_for_resources(self, missing: int) -> None:
        """Leaves new connections in the kernel for a while."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._tell_from:
            self._tell_from = loop.time() + TELL_S
            _log.error("listen.paused", reason=os.strerror(missing))
        loop.remove_reader(self._sock)
        self._paused = loop.call_later(NO_DESCRIPTOR_S, self._resume)

    def _take(self, accepted: socket.socket, address: str) -> None:
        if self._tls is None:
            making = self._make(accepted)
        else:
            self._arriving.set_limits(self._clients.connections.limits)
            place = self._arriving.enter(address)
            if place is None:
                self._note_failure()
                accepted.close()
                return
            making = self._shake_hands(accepted, place, self._tls())
        task = asyncio.get_running_loop().create_task(making)
        self._making.add(task)
        task.add_done_callback(self._making.discard)

    async def _make(self, accepted: socket.socket) -> None:
        """Makes the connection one of ours."""
        factory = cast("Callable[[], asyncio.Protocol]", self._clients.server)
        with suppress(OSError):  # it has gone in the meantime
            await asyncio.get_running_loop().connect_accepted_socket(factory, accepted)

    async def _shake_hands(self, accepted: socket.socket, place: Place, context: ssl.SSLContext) -> None:
        """Does one handshake, after which the connection is one of ours."""
        limits = self._clients.connections.limits
        factory = cast("Callable[[], asyncio.Protocol]", self._clients.server)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                factory,
                accepted,
                ssl=context,
                ssl_handshake_timeout=limits.header_timeout_s,
                ssl_shutdown_timeout=limits.write_stall_s,
            )
        except (OSError, TimeoutError):
            self._note_failure()
            with suppress(OSError):
                accepted.close()
        finally:
            place.leave()

    def _note_failure(self) -> None:
        self._clients.connections.events["handshake"] += 1
