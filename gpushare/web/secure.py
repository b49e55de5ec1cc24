"""TLS towards clients: who may begin a handshake, and how long it may take.

Called by: ``app``, in place of aiohttp's site, which would hold any number of half-made connections, each for
a minute.  Rules: nothing is answered before the handshake, and one that is not done in time is dropped.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from aiohttp import web

from gpushare.web.connections import Connections, Place
from gpushare.web.server import ClientRunner

LAST_HANDSHAKES_S = 1.0
"""How long handshakes go on when no more connections are taken."""
NO_DESCRIPTOR_S = 0.2
"""How long new connections wait in the kernel when the process has no descriptor for them."""


class SecureSite(web.SockSite):
    """One listener on which clients speak TLS.

    Args:
        runner: serves what comes.
        listener: bound, not yet listening.
        context: the certificate; changes to it act on the next connection.
        backlog: as that of ``listen``.
    """

    __slots__ = ("_accepting", "_arriving", "_clients", "_context", "_handshakes")

    def __init__(
        self, runner: ClientRunner, listener: socket.socket, *, context: ssl.SSLContext, backlog: int
    ) -> None:
        super().__init__(runner, listener, backlog=backlog)
        self._clients = runner
        self._context = context
        self._accepting: asyncio.Task[None] | None = None
        self._arriving = Connections(runner.connections.limits)  # a handshake is not among the open ones yet
        self._handshakes: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listens."""
        await web.BaseSite.start(self)
        self._sock.setblocking(False)
        self._sock.listen(self._backlog)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def stop(self) -> None:
        """Takes no more connections and closes the listener; handshakes that have begun may still end."""
        await super().stop()
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        if self._handshakes:
            _, late = await asyncio.wait(self._handshakes, timeout=LAST_HANDSHAKES_S)
            for task in late:
                task.cancel()
        self._sock.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, peer = await loop.sock_accept(self._sock)
            except OSError:
                await asyncio.sleep(NO_DESCRIPTOR_S)
                continue
            self._arriving.set_limits(self._clients.connections.limits)
            place = self._arriving.enter(str(peer[0]))
            if place is None:
                self._note()
                accepted.close()
                continue
            task = loop.create_task(self._shake_hands(accepted, place))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, accepted: socket.socket, place: Place) -> None:
        """Does one handshake, after which the connection is one of ours."""
        limits = self._clients.connections.limits
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                cast("Callable[[], asyncio.Protocol]", self._clients.server),
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=limits.header_timeout_s,
                ssl_shutdown_timeout=limits.write_stall_s,
            )
        except (OSError, TimeoutError):
            self._note()
            with suppress(OSError):
                accepted.close()
        finally:
            place.leave()

    def _note(self) -> None:
        self._clients.connections.events["handshake"] += 1
