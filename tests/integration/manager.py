"""A stand-in for the service manager: what it hears, and an Ollama that answers when told to."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

VERSION = b'HTTP/1.1 200 OK\r\nContent-Length: 19\r\nConnection: close\r\n\r\n{"version":"0.21.0"}'


class Manager:
    """The end of the notify socket that a service manager reads."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)

    @property
    def env(self) -> dict[str, str]:
        """What a service finds in its environment."""
        return {"NOTIFY_SOCKET": self.address}

    def pending(self) -> list[dict[str, str]]:
        """Returns the messages that have come and were not read yet."""
        found = []
        while True:
            try:
                found.append(_parsed(self._socket.recv(4096)))
            except BlockingIOError:
                return found

    async def heard(self, word: str) -> dict[str, str]:
        """Waits for the next message that carries a word, and passes over others."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(30):
            while word not in (message := _parsed(await loop.sock_recv(self._socket, 4096))):
                pass
        return message

    def close(self) -> None:
        """Stops listening."""
        self._socket.close()


def _parsed(message: bytes) -> dict[str, str]:
    return dict(line.split("=", 1) for line in message.decode().split("\n"))


@contextmanager
def service_manager(folder: Path) -> Iterator[Manager]:
    """Listens for what a service says of itself, for the block."""
    manager = Manager(folder / "notify")
    try:
        yield manager
    finally:
        manager.close()


class SlowOllama:
    """Takes connections at once and answers nothing until ``released`` is set; then only its version."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.released = asyncio.Event()
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request."""
        await reader.readuntil(b"\r\n\r\n")
        self.asked.set()
        await self.released.wait()
        writer.write(VERSION)
        writer.close()


@asynccontextmanager
async def slow_ollama() -> AsyncIterator[SlowOllama]:
    """Serves a slow Ollama for the block."""
    ollama = SlowOllama()
    server = await asyncio.start_server(ollama.answer, "127.0.0.1", 0)
    async with server:
        ollama.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield ollama
        ollama.released.set()
