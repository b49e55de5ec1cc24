"""Whole requests with one to three mistakes in them, over sockets: each is answered, in its dialect, in time.

``GPUSHARE_FUZZ_SECONDS`` is how long this goes on.
"""

import asyncio
import itertools
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gpushare.core.dialects import dialect_of
from gpushare.core.model import Dialect
from tests.conformance.tools import body_of, dial, know_models
from tests.fuzz.mutations import SECONDS
from tests.harness import CANARY, Gate, gateway
from tests.unit.web.wire import statuses

AT_ONCE = 50
ROUND_S = 20.0
"""After so long it is looked at whether anything stayed behind."""
PATIENCE_S = 9.0
"""Far beyond every deadline of the settings."""
SETTINGS = """
[server]
header_timeout = "1s"
body_timeout = "400ms"
keepalive_timeout = "1s"
max_body = "100kB"
"""
STATUSES = frozenset(
    map(int, "100 200 204 302 303 400 401 403 404 405 408 410 413 415 417 421 429 431 501 503 505".split())
)
"""Everything that may be said to a broken request: no fault of ours, and 503 only for limits."""


@dataclass(frozen=True)
class Request:
    """A request in parts, each of which may be wrong."""

    method: bytes
    target: bytes
    version: bytes
    fields: tuple[bytes, ...]
    body: bytes
    end: bytes = b"\r\n"

    def __bytes__(self) -> bytes:
        head = b" ".join((self.method, self.target, self.version))
        return self.end.join((head, *self.fields, b"", self.body))


Mutation = Callable[[Request, random.Random], Request]
METHODS = b"GET POST HEAD PUT DELETE OPTIONS TRACE CONNECT PATCH get POSTT FOO".split()
VERSIONS = b"HTTP/1.0 HTTP/1.1 HTTP/2.0 HTTP/0.9 HTTP/1.2 http/1.1 HTTP/1.1x HTTP".split()
FIELDS = (
    b"Transfer-Encoding: chunked|Transfer-Encoding: gzip|Content-Length: 0|Content-Length: 5|"
    b"Content-Length: -1|Content-Length: 99999999999|Expect: 100-continue|Expect: x|Connection: close|"
    b"Connection: upgrade|Upgrade: h2c|Host: evil.example|Host: |Host: [::1]:80|"
    b"Origin: https://evil.example|Origin: null|Origin: http://[|Sec-Fetch-Site: cross-site|"
    b"Content-Encoding: gzip|Content-Type: multipart/form-data; boundary=x|"
    b"Content-Type: application/x-www-form-urlencoded|Authorization: Bearer gs_x|"
    b"X-Api-Key: gs_000000_x|Cookie: gpushare_session=x.1.y|Cookie: a=b; gpushare_session=\xff|"
    b"User-Agent: ollama/1|Accept: text/html|X-Gpushare-Max-Wait: 1|X-Gpushare-Max-Wait: x|"
    b"X-Forwarded-For: 1.2.3.4, x|X-Forwarded-Proto: https|Accept: application/openmetrics-text|"
    b"Last-Event-ID: 5|Range: bytes=0-1|If-None-Match: *|TE: trailers|X: a\x00b|X : a|: a|X\xff: a|"
    b"X: \xff\xfe|Accept-Encoding: gzip|Referer: x|Keep-Alive: 5"
).split(b"|")
PIECES = (
    b"/|//|..|%2e|%00|?|#|;|\\|\0|\xff|\r\n|\n|\r| |:|{|}|[|]|\"|,|'|<|>|&|=|0|-1|1e999|null|true|NaN|"
    b"\\u0000|\\ud800|model|stream|gs_|0\r\n\r\n|GET / HTTP/1.1\r\n\r\n"
).split(b"|")


def edited(data: bytes, rng: random.Random) -> bytes:
    """Returns bytes with something put in, taken out or doubled."""
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.choice((1, 1, 2, 5, 20)))
    return rng.choice(
        (data[:at] + rng.choice(PIECES) + data[at:], data[:at] + data[end:], data[:end] + data[at:])
    )


def drop_field(request: Request, rng: random.Random) -> Request:
    """Takes one header out."""
    gone = rng.randrange(len(request.fields) + 1)
    return replace(request, fields=request.fields[:gone] + request.fields[gone + 1 :])


MUTATIONS: tuple[Mutation, ...] = (
    lambda request, rng: replace(request, method=rng.choice(METHODS)),
    lambda request, rng: replace(request, version=rng.choice(VERSIONS)),
    lambda request, rng: replace(request, target=edited(request.target, rng)),
    lambda request, rng: replace(request, target=edited(request.target, rng)),
    lambda request, rng: replace(request, fields=(*request.fields, rng.choice(FIELDS))),
    lambda request, rng: replace(request, fields=(*request.fields, rng.choice(FIELDS))),
    lambda request, rng: replace(request, fields=(rng.choice(FIELDS), *request.fields)),
    lambda request, rng: replace(request, fields=tuple(edited(each, rng) for each in request.fields)),
    lambda request, rng: replace(request, fields=request.fields * 2),
    lambda request, rng: replace(request, fields=request.fields * 40),
    drop_field,
    lambda request, rng: replace(request, body=edited(request.body, rng)),
    lambda request, rng: replace(request, body=edited(request.body, rng)),
    lambda request, rng: replace(request, body=request.body[: rng.randrange(len(request.body) + 1)]),
    lambda request, rng: replace(request, body=request.body * 2),
    lambda request, rng: replace(request, body=request.body + b"x" * 200_000),
    lambda request, rng: replace(request, end=b"\n"),
)


def requests(gate: Gate) -> list[Request]:
    """Returns requests that are right: every dialect, the pages, a form and our own addresses."""
    key = f"Authorization: Bearer {gate.keys['alice']}".encode()
    host = b"Host: 127.0.0.1"
    found = []
    for path in (
        "/api/chat",
        "/v1/chat/completions",
        "/v1/messages",
        "/v1/responses",
        "/api/embed",
        "/api/generate",
    ):
        body = json.dumps(body_of(path, CANARY)).encode()
        length = b"Content-Length: %d" % len(body)
        found.append(Request(b"POST", path.encode(), b"HTTP/1.1", (host, key, length), body))
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        coding = b"Transfer-Encoding: chunked"
        found.append(Request(b"POST", path.encode(), b"HTTP/1.1", (host, key, coding), chunked))
    for path in (
        "/",
        "/api/tags",
        "/v1/models",
        "/status",
        "/connect",
        "/metrics",
        "/readyz",
        "/gpushare/v1/status",
    ):
        found.append(Request(b"GET", path.encode(), b"HTTP/1.1", (host, key), b""))
        found.append(Request(b"GET", path.encode(), b"HTTP/1.0", (host,), b""))
    in_path = f"/k/{gate.keys['alice']}/api/tags".encode()
    found.append(Request(b"GET", in_path, b"HTTP/1.1", (host,), b""))
    form = b"key=" + gate.keys["alice"].encode()
    fields = (host, b"Content-Type: application/x-www-form-urlencoded", b"Content-Length: %d" % len(form))
    found.append(Request(b"POST", b"/login", b"HTTP/1.1", fields, form))
    found.append(Request(b"DELETE", b"/gpushare/v1/queue/r_0000000000000000", b"HTTP/1.1", (host, key), b""))
    return found


async def send(gate: Gate, data: bytes, rng: random.Random) -> bytes:
    """Sends bytes, in one piece or in several; returns what comes until the gateway closes."""
    async with dial(gate.port) as wire:
        reading = asyncio.create_task(wire.rest())
        at = 0
        while at < len(data) and not reading.done():
            end = at + rng.choice((len(data), len(data), 1000, 30, 7))
            try:
                await wire.send(data[at:end])
            except ConnectionError:
                break
            at = end
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_S):
            return await reading


def check(gate: Gate, request: Request, answer: bytes) -> None:
    """Checks what came: known statuses, whole answers, errors in the dialect, nothing quoted."""
    found = statuses(answer)
    assert set(found) <= STATUSES, found
    for secret in gate.keys.values():
        assert secret.encode() not in answer
    if len(found) != 1 or found[0] < 400 or request.method == b"HEAD":
        return
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: (\d+)", head)
    assert length is not None
    assert len(body) in (int(length[1]), 0)
    if body and b"application/json" in head:
        error = json.loads(body)["error"]
        dialect = dialect_of(request.target.decode("utf-8", "surrogateescape"))
        if dialect is Dialect.OLLAMA and found[0] not in (400, 408, 413, 503):
            assert isinstance(error, str)
        else:
            assert isinstance(error, str | dict)


async def test_requests_with_mistakes(tmp_path: Path) -> None:
    """P17: whatever is wrong with a request, it has an answer and leaves nothing behind."""
    until, seeds = time.monotonic() + SECONDS, itertools.count()
    told: Counter[int] = Counter()
    for folder in itertools.count():
        if time.monotonic() > until:
            break
        async with gateway(tmp_path / str(folder), settings=SETTINGS) as gate:
            await know_models(gate)
            examples, end = requests(gate), min(until, time.monotonic() + ROUND_S)

            async def worker() -> None:
                while time.monotonic() < end:  # noqa: B023 - of this round
                    await one(gate, examples, next(seeds), told)  # noqa: B023

            async with asyncio.TaskGroup() as tasks:
                for _ in range(AT_ONCE):
                    tasks.create_task(worker())
            await gate.rest()
            assert not [line for line in gate.logs if line["log_level"] == "error"]
    count = next(seeds)
    print(f"requests: {count} examples, {dict(told)}")  # noqa: T201 - pytest -rP shows it
    assert told[200] > count / 100
    assert told[400] > count / 10


async def one(gate: Gate, examples: list[Request], seed: int, told: Counter[int]) -> None:
    """Sends one request with mistakes; a failure names its seed and what was sent."""
    rng = random.Random(seed)
    request = rng.choice(examples)
    for _ in range(rng.randint(1, 3)):
        request = rng.choice(MUTATIONS)(request, rng)
    try:
        answer = await send(gate, bytes(request), rng)
        check(gate, request, answer)
    except (AssertionError, TimeoutError) as problem:
        raise AssertionError(f"seed {seed}: {bytes(request)[:2000]!r}") from problem
    told.update(statuses(answer))
