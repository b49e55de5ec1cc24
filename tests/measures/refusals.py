"""What refusals cost: how many a second there are, and what running streams feel of a flood of them."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from tests.conformance.tools import ROOT, environment
from tests.harness import chat
from tests.measures.common import table, tell
from tests.measures.flood import Order, Report
from tests.measures.paired import HEAD, RECORDS, STREAMS, Pair, Ruler, ruler

RATE = 5000
LINES = 64
ROUNDS = 5
ADDRESSES = 5000
"""So many claim, behind a trusted proxy, to try a key, so that each is heard out."""

FAILING = "#sim:fault=error@0"
PATIENCE_S = 60.0  # only ends a broken measurement
Circumstance = Callable[[Ruler], AbstractAsyncContextManager[None]]


@dataclass(slots=True)
class Offered:
    """One kind of refusal: what was offered, how it was answered and what others felt."""

    name: str
    order: Order
    expected: str
    when: Circumstance
    reports: list[Report] = field(default_factory=list)
    pair: Pair = field(default_factory=Pair)

    @asynccontextmanager
    async def flood(self) -> AsyncIterator[None]:
        """Offers for the block."""
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.measures.flood"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=environment(),
            limit=1 << 20,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(msgspec.json.encode(self.order) + b"\n")
        assert await child.stdout.readline() == b"ready\n"
        child.stdin.write(b"go\n")
        try:
            yield
        finally:
            child.stdin.write(b"stop\n")
            self.reports.append(msgspec.json.decode(await child.stdout.readline(), type=Report))
            await child.wait()

    def row(self) -> tuple[str, ...]:
        """Returns what was found."""
        seconds = sum(report.seconds for report in self.reports)
        answered: Counter[str] = Counter()
        for report in self.reports:
            answered.update(report.answered)
        offered = sum(report.offered for report in self.reports)
        refused = answered[self.expected]
        others = {status: count for status, count in answered.items() if status != self.expected}
        alone, beside = self.pair.alone, self.pair.beside
        cost_s = beside.processor_s - alone.processor_s * beside.seconds / alone.seconds
        return (
            self.name,
            self.expected,
            f"{offered / seconds:.0f}",
            f"{refused / seconds:.0f}",
            f"{1e6 * cost_s / max(1, answered.total()):.0f}",
            *self.pair.row(),
            str(others or ""),
        )


def post(path: str, body: object, *headers: str) -> str:
    """Returns a request as text."""
    data = json.dumps(body)
    fields = "\r\n".join(["Host: 127.0.0.1", f"Content-Length: {len(data)}", *headers])
    return f"POST {path} HTTP/1.1\r\n{fields}\r\n\r\n{data}"


def get(path: str, *headers: str) -> str:
    """Returns a request as text."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""])


def kinds(meter: Ruler, rate: int) -> list[Offered]:
    """Returns the kinds of refusal, with how each is asked for."""
    wrong = "Authorization: Bearer gs_0123ab_00000000000000000000000000000000"
    other = f"Authorization: Bearer {meter.server.keys['other']}"
    claims = [f"X-Forwarded-For: 10.{n // 65536}.{n // 256 % 256}.{n % 256}" for n in range(ADDRESSES)]

    def offered(
        name: str, expected: str, *requests: str, kept: bool = True, when: Circumstance = as_always
    ) -> Offered:
        order = Order(port=meter.server.port, requests=requests, rate=rate, lines=LINES, kept=kept)
        return Offered(name, order, expected, when)

    return [
        offered("wrong key", "401", *(get("/v1/models", wrong, claim) for claim in claims)),
        offered(
            "wrong key, a connection each",
            "401",
            *(post("/api/chat", chat(), wrong, claim) for claim in claims),
            kept=False,
        ),
        offered("wrong key, again and again", "429", get("/v1/models", wrong)),
        offered("own places taken", "429", post("/api/chat", chat(), other), when=no_places),
        offered(
            "breaker open", "503", post("/api/chat", chat(FAILING, model="n"), other), when=failing_model
        ),
    ]


@asynccontextmanager
async def no_places(meter: Ruler) -> AsyncIterator[None]:
    """For the block one call of the other person runs and one waits, which is all that person may have."""
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(meter.ask(chat("#sim:tokens=3,fault=stall@1"), "other")) for _ in range(2)]
        await meter.until_waiting(1)
        yield
        for call in calls:
            call.cancel()


@asynccontextmanager
async def failing_model(meter: Ruler) -> AsyncIterator[None]:
    """For the block the breaker of a model is open that fails whenever it is loaded."""
    await meter.ask(chat(model="n"), "other")  # it was in memory: nobody has to make room for it
    async with asyncio.timeout(PATIENCE_S):
        while (await meter.ask(chat(FAILING, model="n", keep_alive=0), "other"))[0] != 503:
            await asyncio.sleep(0.1)  # that it has left memory again is seen a moment later
    yield


@asynccontextmanager
async def as_always(meter: Ruler) -> AsyncIterator[None]:
    """Nothing special."""
    yield


async def measure(*, rounds: int = ROUNDS, rate: int = RATE, records: int = RECORDS) -> list[Offered]:
    """Tells what each kind of refusal costs, and returns it."""
    async with ruler(people={"other": {"max_running": 1, "max_waiting": 1}}) as meter:
        found = kinds(meter, rate)
        for kind in found:
            async with kind.when(meter):
                kind.pair = await meter.pair(kind.flood, rounds=rounds, records=records)
    tell(f"Refusals offered while {STREAMS} streams run; per second, in µs of processor, and in ms at p99:")
    table(
        ("refusal", "status", "offered", "given", "µs each", *HEAD, "other answers"),
        (kind.row() for kind in found),
    )
    return found
