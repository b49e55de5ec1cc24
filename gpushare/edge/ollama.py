"""Ollama's small answers (version, lists) and uploads, over aiohttp's client.

Queued calls do not come this way: their bytes take the shorter path of ``edge.upstream``.  Rules: one
connection per request and none reused, no redirect, no proxy from the environment, no cookie, no header of a
client's; answers are read up to a limit; every failure leaves as a ``GpushareError``.
"""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult

from gpushare.core.errors import GpushareError, OllamaBroken, OllamaDown, OllamaSilent
from gpushare.core.model import Outcome, ResidentModel
from gpushare.edge.beside import beside

PROBE_TIMEOUT_S = 2.0  # /api/ps can block on scheduler locks during unloads
ANSWER_MAX_BYTES = 16 * 1024 * 1024  # a list of some thousand models
CONNECT_TIMEOUT_S = 3.0
LOOK_UPS = 4
"""Look-ups of Ollama's name at once: a name server that keeps silent takes no more threads than that."""


class _Model(msgspec.Struct):
    """A row of ``/api/tags`` or ``/api/ps``, as far as it is used."""

    name: str = ""
    size: int = 0
    size_vram: int = 0
    context_length: int | None = None
    expires_at: str | None = None


class _Models(msgspec.Struct):
    models: list[_Model] | None = None


class _Version(msgspec.Struct):
    version: str = ""


_Answer = TypeVar("_Answer")


class HttpOllama:
    """One Ollama, asked for small things.

    Args:
        url: the address, for example ``http://127.0.0.1:11434``.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes the client; no request may be running."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def version(self) -> str:
        """Returns Ollama's version, nothing for another engine, which has no such route but is there.

        Raises:
            GpushareError: Ollama does not answer, or not as Ollama.
        """
        status, _, body = await self.get("/api/version", timeout_s=PROBE_TIMEOUT_S)
        if status == 404:
            return ""
        return _decode(_good(body, status, "/api/version"), _Version).version

    async def installed(self) -> frozenset[str]:
        """Returns the names in the model store; raises as ``version``."""
        rows = _decode(await self._probe("/api/tags"), _Models).models or []
        return frozenset(row.name for row in rows)

    async def resident(self) -> tuple[ResidentModel, ...]:
        """Returns the models in memory; raises as ``version``."""
        rows = _decode(await self._probe("/api/ps"), _Models).models or []
        return tuple(
            ResidentModel(
                name=row.name,
                size_bytes=row.size,
                vram_bytes=row.size_vram,
                context=row.context_length,
                expires=_instant(row.expires_at),
            )
            for row in rows
        )

    async def unload(self, model: str) -> None:
        """Asks for a model to leave memory, which it does once nothing runs on it; raises as ``version``."""
        form = {"model": model, "keep_alive": 0}
        with _translated(PROBE_TIMEOUT_S):
            ask = self._client().post(f"{self._url}/api/generate", json=form, allow_redirects=False)
            async with asyncio.timeout(PROBE_TIMEOUT_S), ask as response:
                await _read(response)
                if response.status != 200:
                    raise OllamaBroken(f"answered an unload with status {response.status}")

    async def get(self, target: str, *, timeout_s: float) -> tuple[int, str, bytes]:
        """Returns status, content type and body of a GET; raises as ``version``."""
        with _translated(timeout_s):
            ask = self._client().get(self._url + target, allow_redirects=False)
            async with asyncio.timeout(timeout_s), ask as response:
                return response.status, response.content_type, await _read(response)

    async def upload(self, method: str, target: str, chunks: AsyncIterator[bytes]) -> tuple[int, str, bytes]:
        """Streams ``chunks`` to Ollama; returns status, content type and body.

        Raises:
            GpushareError: as ``version``, or what ``chunks`` raised.
        """
        body = chunks if method == "POST" else None
        with _translated(0.0):
            ask = self._client().request(method, self._url + target, data=body, allow_redirects=False)
            async with ask as response:
                return response.status, response.content_type, await _read(response)

    async def _probe(self, target: str) -> bytes:
        status, _, body = await self.get(target, timeout_s=PROBE_TIMEOUT_S)
        return _good(body, status, target)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, limit=0, resolver=_Names()),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                headers={"User-Agent": "gpushare", "Accept-Encoding": "identity"},
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


class _Names(AbstractResolver):
    """Looks names up; not in the loop's own pool, whose threads the end of the process would wait for."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(LOOK_UPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Returns the addresses of a host, in the order in which to try them; raises OSError."""
        found = await beside(
            lambda: socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM),
            within=self._places,
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Does nothing."""


def _instant(text: str | None) -> datetime | None:
    """Returns an instant as Ollama writes it, None for what is none or lies before all time that counts.

    A model that stays for ever has a year such as 2318; what is off by a zone from year 1 or 9999 is none.
    """
    try:
        found = datetime.fromisoformat(text or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found.replace(microsecond=0) if found.year >= 1970 else None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Reads a small answer: JSON or nothing, up to the limit, under a status that Ollama has."""
    if response.status not in (200, 201) and not 400 <= response.status < 600:
        raise OllamaBroken(f"answered with status {response.status}", Outcome.UPSTREAM_PROTOCOL)
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > ANSWER_MAX_BYTES:
            raise OllamaBroken("sent more than a list can hold", Outcome.UPSTREAM_PROTOCOL)
    if body and response.content_type != "application/json":
        raise OllamaBroken("sent something that is not its API", Outcome.UPSTREAM_PROTOCOL)
    return bytes(body)


def _decode(body: bytes, kind: type[_Answer]) -> _Answer:
    """Returns the decoded answer; fields nobody reads are skipped."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        raise OllamaBroken("sent something that is not its API", Outcome.UPSTREAM_PROTOCOL) from None


def _good(body: bytes, status: int, target: str) -> bytes:
    if status != 200:
        raise OllamaBroken(f"answered {target} with status {status}")
    return body


@contextmanager
def _translated(timeout_s: float) -> Iterator[None]:
    """Turns the client library's exceptions into ours, so that nothing above sees a socket error."""
    try:
        yield
    except TimeoutError:
        raise OllamaSilent(timeout_s, Outcome.TIMEOUT_FIRST_BYTE) from None
    except aiohttp.ClientConnectorDNSError:
        raise OllamaDown("no such host") from None
    except aiohttp.ClientConnectorError as error:
        raise OllamaDown(os.strerror(error.errno or errno.ECONNREFUSED).lower()) from None
    except aiohttp.ClientError as error:
        if isinstance(error.__cause__, GpushareError):  # of whoever gave the body
            raise error.__cause__ from None
        raise OllamaBroken("closed the connection") from None
