"""A server made of the transport alone, and a client that is a bare socket: tests decide every byte."""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable

from aiohttp import web

from gpushare.core.errors import GpushareError
from gpushare.core.model import Dialect
from gpushare.web.answers import refusal
from gpushare.web.connections import ConnectionLimits, Connections, make_listener
from gpushare.web.listening import ClientSite
from gpushare.web.server import ClientRunner, make_runner
from gpushare.web.transport import read_body

HANG_S = 60.0
"""When a wait is called a hang: nothing that works comes near it, however busy the machine is."""
HEAD = re.compile(rb"HTTP/1\.[01] (\d{3}) [^\r]*\r\n")

NAME = web.AppKey("name", str)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def echo(request: web.Request) -> web.StreamResponse:
    """Answers with method, target and body."""
    body = await read_body(request, limit=4_000_000, timeout_s=HANG_S)
    return web.Response(body=f"{request.method} {request.raw_path} ".encode() + body[:100])


class Bench:
    """The server.  ``entered`` and ``cancelled`` tell what happened to requests, by target."""

    def __init__(self) -> None:
        self.limits = ConnectionLimits()
        self.handler: Handler = echo
        self.api: Handler | None = None
        self.tls: ssl.SSLContext | None = None
        self.entered: asyncio.Queue[str] = asyncio.Queue()
        self.cancelled: asyncio.Queue[str] = asyncio.Queue()
        self.seen: list[str] = []
        self._runner: ClientRunner | None = None
        self._wires: list[Wire] = []
        self._port = 0

    @property
    def connections(self) -> Connections:
        assert self._runner is not None
        return self._runner.connections

    async def start(self) -> None:
        app = web.Application()
        app[NAME] = "app"
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = make_runner(app, api=self.api, limits=self.limits, shutdown_timeout=1.0)
        await self._runner.setup()
        listener = make_listener("127.0.0.1", 0)
        self._port = listener.getsockname()[1]
        tls = None if self.tls is None else self._tls
        await ClientSite(self._runner, listener, tls=tls).start()

    def _tls(self) -> ssl.SSLContext:
        assert self.tls is not None
        return self.tls

    async def stop(self) -> None:
        for wire in self._wires:
            wire.close()
        await self.stop_serving()

    async def stop_serving(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def stop_listening(self) -> None:
        assert self._runner is not None
        await self._runner.stop_listening()

    async def dial(self, *, receive_bytes: int = 0) -> "Wire":
        """Returns a connected client; a small ``receive_bytes`` makes a slow reader slow soon."""
        sock = socket.socket()
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._port))
        wire = Wire(sock)
        self._wires.append(wire)
        return wire

    async def dial_securely(self, context: ssl.SSLContext, *, receive_bytes: int = 0) -> "SecureWire":
        """Returns a connected client whose handshake is done."""
        secure = SecureWire(await self.dial(receive_bytes=receive_bytes), context)
        await secure.shake_hands()
        return secure

    async def ask(self, data: bytes) -> bytes:
        """Sends bytes on a connection of their own; returns all that comes until the server closes."""
        wire = await self.dial()
        await wire.send(data)
        return await wire.rest()

    async def gone(self) -> None:
        """Waits until no connection is open on the server's side."""
        async with asyncio.timeout(HANG_S):
            while self.connections.open:
                await asyncio.sleep(0.001)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request.raw_path)
        self.entered.put_nowait(request.raw_path)
        try:
            return await self.handler(request)
        except GpushareError as error:
            return refusal(error, Dialect.GPUSHARE)
        except asyncio.CancelledError:
            self.cancelled.put_nowait(request.raw_path)
            raise


class Wire:
    """The client's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._read = b""

    @property
    def name(self) -> tuple[str, int]:
        """Its address, by which the server knows it."""
        host, port = self._sock.getsockname()
        return host, port

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(HANG_S):
            await self._loop.sock_sendall(self._sock, data)

    def send_what_fits(self, data: bytes) -> None:
        """Fills the socket's buffer and leaves the rest, as a client does that then goes away."""
        try:
            self._sock.send(data)
        except (BlockingIOError, ConnectionError):
            return

    async def until(self, mark: bytes) -> bytes:
        """Returns what comes up to and with ``mark``."""
        async with asyncio.timeout(HANG_S):
            while mark not in self._read:
                piece = await self._loop.sock_recv(self._sock, 65536)
                assert piece, f"closed before {mark!r}; got {self._read[-300:]!r}"
                self._read += piece
        found, self._read = self._read.split(mark, 1)
        return found + mark

    async def exactly(self, count: int) -> bytes:
        """Returns the next so many bytes."""
        async with asyncio.timeout(HANG_S):
            while len(self._read) < count:
                piece = await self._loop.sock_recv(self._sock, 65536)
                assert piece, f"closed after {len(self._read)} of {count} bytes"
                self._read += piece
        found, self._read = self._read[:count], self._read[count:]
        return found

    async def rest(self) -> bytes:
        """Returns what comes until the server closes; a reset is an end too."""
        async with asyncio.timeout(HANG_S):
            try:
                while piece := await self._loop.sock_recv(self._sock, 65536):
                    self._read += piece
            except ConnectionError:
                pass
        found, self._read = self._read, b""
        return found

    async def take(self, count: int) -> bytes:
        """Returns up to so many bytes, fresh from the socket."""
        async with asyncio.timeout(HANG_S):
            try:
                return await self._loop.sock_recv(self._sock, count)
            except ConnectionError:
                return b""

    def half_close(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._sock.close()

    def reset(self) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


class SecureWire:
    """The client's end of one TLS connection; what happens below TLS is done on ``wire``."""

    def __init__(self, wire: Wire, context: ssl.SSLContext) -> None:
        self.wire = wire
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._read = b""

    async def shake_hands(self, first: bytes = b"") -> None:
        """Does the handshake; ``first`` is sent in one piece with its last message.

        Raises:
            OSError: the server ended it.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not (piece := await self.wire.take(65536)):
                    raise ConnectionResetError from None
                self._incoming.write(piece)
            else:
                break
        if first:
            self._tls.write(first)
        await self._flush()

    @property
    def certificate(self) -> bytes:
        """What the server has shown."""
        found = self._tls.getpeercert(binary_form=True)
        assert found is not None
        return found

    async def send(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    def send_what_fits(self, data: bytes) -> None:
        """As that of ``Wire``: what does not fit is lost, so nothing may be sent behind it."""
        if data:
            self._tls.write(data)
            self.wire.send_what_fits(self._outgoing.read())

    async def until(self, mark: bytes) -> bytes:
        """Returns what comes up to and with ``mark``."""
        while mark not in self._read:
            piece = await self.take()
            assert piece, f"closed before {mark!r}; got {self._read[-300:]!r}"
            self._read += piece
        found, self._read = self._read.split(mark, 1)
        return found + mark

    async def rest(self) -> bytes:
        """Returns what comes until the server closes."""
        while piece := await self.take():
            self._read += piece
        found, self._read = self._read, b""
        return found

    async def take(self) -> bytes:
        """Returns some bytes, none at the end."""
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                piece = await self.wire.take(65536)
                if not piece:
                    return b""
                self._incoming.write(piece)
            except ssl.SSLZeroReturnError:
                return b""

    async def say_goodbye(self) -> None:
        """Ends the TLS session properly and leaves the socket open."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        await self._flush()

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self.wire.send(data)


def statuses(answers: bytes) -> list[int]:
    """Returns the status of each answer in a run of bytes, in order."""
    return [int(found) for found in HEAD.findall(answers)]


def get(target: str = "/", *headers: str, version: str = "1.1", method: str = "GET") -> bytes:
    """Returns a request without a body."""
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: bench", *headers, "\r\n"]).encode()


def post(body: bytes, *headers: str, target: str = "/") -> bytes:
    """Returns a request with a body of declared length."""
    return get(target, f"Content-Length: {len(body)}", *headers, method="POST") + body
