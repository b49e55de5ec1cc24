"""A simulated Ollama for one test, and raw HTTP to look at its bytes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from gpushare.sim import Script, SimOllama


@dataclass(frozen=True)
class Reply:
    """An answer as it came over the wire; ``chunks`` is empty where it was not chunked."""

    status: int
    headers: dict[str, str]
    head: bytes
    rest: bytes

    @property
    def chunks(self) -> list[bytes]:
        found, rest = [], self.rest
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            if length:
                found.append(rest[:length])
            rest = rest[length + 2 :]
        return found

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks) if "Transfer-Encoding" in self.headers else self.rest

    @property
    def json(self) -> dict[str, object]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def events(self) -> list[dict[str, object]]:
        frames = self.body.decode().split("\n\n")
        data = [frame.partition("data: ")[2] for frame in frames if frame]
        return [json.loads(one) for one in data if one != "[DONE]"]


Ask = Callable[..., Awaitable[Reply]]


def request_bytes(method: str, path: str, body: object = None, *, headers: str = "") -> bytes:
    """Returns a request that asks for the connection to be closed after it."""
    raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    host = "" if "Host:" in headers else "Host: 127.0.0.1\r\n"
    head = f"{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}"
    return f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


def read_reply(data: bytes) -> Reply:
    """Splits what a connection carried."""
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return Reply(int(lines[0].split()[1]), headers, head, rest)


@pytest.fixture
def script() -> Script:
    """The script of ``sim``; a test module may put its own in place."""
    return Script()


@pytest.fixture
async def sim(script: Script) -> AsyncIterator[SimOllama]:
    """A simulated Ollama that listens."""
    server = SimOllama(script)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def connect(sim: SimOllama) -> Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """Opens a raw connection to ``sim``."""
    return lambda: asyncio.open_connection("127.0.0.1", int(sim.url.rpartition(":")[2]))


@pytest.fixture
def ask(connect: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]) -> Ask:
    """One request on its own connection, answered to the end of the connection."""

    async def one(method: str, path: str, body: object = None, *, headers: str = "") -> Reply:
        reader, writer = await connect()
        writer.write(request_bytes(method, path, body, headers=headers))
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
        return read_reply(data)

    return one


def chat(text: str = "hi", *, model: str = "m", **more: object) -> dict[str, object]:
    """Returns a body for the chat routes of all dialects."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}
