"""The engine with an Ollama, clients and an operator who do everything at the same moments.

All times are small whole numbers on a clock that jumps, so that grants, cancellations, time-outs, ends,
faults, drains and reloads meet in one pass of the loop again and again.  The books kept here are compared
with the engine's after each pass and at the end.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from gpushare.core.config import parse
from gpushare.core.dialects import find_endpoint
from gpushare.core.errors import Fault, GpushareError, KeyRevoked, Restarting
from gpushare.core.keys import OwnerTerms
from gpushare.core.model import (
    Call,
    Framing,
    Lane,
    Outcome,
    Principal,
    Record,
    ResidentModel,
    UpstreamRequest,
)
from gpushare.core.scheduler import Scheduler
from gpushare.engine.gateway import Gateway
from gpushare.engine.health import Health
from gpushare.engine.monitor import Monitor
from gpushare.engine.ports import Consumer
from gpushare.engine.slots import LocalSlots, QueueLimits
from tests.simulation.permuting import PermutingLoop
from tests.unit.records import FakeLedger

PIECE = b'{"model":"m","response":"a","done":false}\n'
DONE = b'{"model":"m","done":true,"prompt_eval_count":7,"eval_count":3}\n'
JSON = {"content-type": "application/x-ndjson"}
QUEUED = frozenset({Outcome.CLIENT_GONE_QUEUED, Outcome.QUEUE_TIMEOUT})
"""Outcomes of calls that Ollama must never have seen."""
SLOTS = 3
TICKS = 12
LONGEST_S = 4 + 2 * 2 + 6 + 2 + 1
"""No call may live longer than its wait, dial, answer and rest together."""
SETTINGS = """
[ollama]
connect_timeout = "2s"
first_byte_timeout = "3s"
idle_timeout = "4s"
total_timeout = "6s"
[server]
write_stall = "5s"
finish_timeout = "2s"
shutdown_grace = "1s"
"""


class SlowExchange:
    """One connection; it plays its script until it is closed."""

    def __init__(self, ollama: "ScriptedOllama", name: str) -> None:
        self._ollama = ollama
        self.name = name
        self.open = True
        self.timers: list[asyncio.TimerHandle] = []

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self) -> None:
        if self.open:
            self.open = False
            self._ollama.open.discard(self.name)
            for timer in self.timers:
                timer.cancel()


class ScriptedOllama:
    """Dials that take their time and answers that come bit by bit; what happens is drawn for each call."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.open: set[str] = set()
        self.seen: Counter[str] = Counter()

    async def open_one(self, name: str, consumer: Consumer) -> SlowExchange:
        """Dials, and lets the answer begin."""
        rng, loop = self._rng, asyncio.get_running_loop()
        if rng.random() < 0.5:
            await asyncio.sleep(rng.randrange(3))
        if rng.random() < 0.15:
            raise Fault(Outcome.UPSTREAM_REFUSED, "connection refused", sent=False)
        self.seen[name] += 1
        exchange = SlowExchange(self, name)
        self.open.add(name)
        at = loop.time()
        for act in self._script(consumer):
            at += rng.choice((0, 0, 0, 1, 1, 2, 5))
            exchange.timers.append(loop.call_at(at, self._act, exchange, act))
        return exchange

    def _act(self, exchange: SlowExchange, act: Callable[[], None]) -> None:
        if exchange.open:
            act()

    def _script(self, consumer: Consumer) -> list[Callable[[], None]]:
        rng = self._rng
        if rng.random() < 0.1:
            return [lambda: consumer.failed(Fault(Outcome.UPSTREAM_RESET, "closed", sent=True))]
        acts: list[Callable[[], None]] = [lambda: consumer.head(200, JSON)]
        acts += [lambda: consumer.body(PIECE)] * rng.randrange(4)
        ending = rng.randrange(6)
        if ending < 3:
            acts += [lambda: consumer.body(DONE), lambda: consumer.end(framed=True)]
        elif ending == 3:
            acts += [lambda: consumer.failed(Fault(Outcome.UPSTREAM_RESET, "broke off", sent=True))]
        elif ending == 4:
            acts += [lambda: consumer.end(framed=True)]
        return acts  # else it falls silent


class NamedUpstream:
    """The upstream of one call, which knows whose it is by the body."""

    def __init__(self, ollama: ScriptedOllama) -> None:
        self._ollama = ollama

    async def open(self, request: UpstreamRequest, consumer: Consumer) -> SlowExchange:
        return await self._ollama.open_one(request.body.decode(), consumer)


class SlowSink:
    """A client that takes its answer at once, later, or never."""

    def __init__(self, rng: random.Random) -> None:
        self.started = self.finished = self.aborted = False
        self.body = b""
        self._left = rng.choice((0, 0, 0, 1, 3, 50))

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        assert not self.started
        self.started = True

    def write(self, data: bytes) -> None:
        assert self.started
        assert not self.finished
        assert not self.aborted
        self.body += data

    def finish(self) -> None:
        assert not self.aborted
        self.finished = True

    def abort(self) -> None:
        self.aborted = True

    def backlog(self) -> int:
        return len(self.body) if self._left else 0

    def set_flow(self, pause: Callable[[], None] | None, resume: Callable[[], None] | None) -> None: ...

    async def drained(self) -> None:
        await asyncio.sleep(self._left)
        self._left = 0


class SmallOllama:
    """Ollama's small answers."""

    async def version(self) -> str:
        return "0.33.0"

    async def installed(self) -> frozenset[str]:
        return frozenset({"m:latest", "n:latest"})

    async def resident(self) -> tuple[ResidentModel, ...]:
        return (ResidentModel(name="m:latest", size_bytes=1, vram_bytes=1, context=None, expires=None),)

    async def get(self, target: str, *, timeout_s: float) -> tuple[int, str, bytes]:
        raise NotImplementedError

    async def upload(self, method: str, target: str, chunks: AsyncIterator[bytes]) -> tuple[int, str, bytes]:
        raise NotImplementedError


@dataclass
class Client:
    """One call and what its client was told."""

    name: str
    who: Principal
    sink: SlowSink
    task: asyncio.Task[None] | None = None
    error: BaseException | None = None
    began: float | None = None
    ended: float = 0.0


@dataclass
class World:
    """A gateway, everybody around it, and the books."""

    loop: PermutingLoop
    rng: random.Random
    clients: list[Client] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    ledger: FakeLedger = field(default_factory=FakeLedger)

    def __post_init__(self) -> None:
        self.ollama = ScriptedOllama(self.rng)
        self.scheduler = Scheduler()
        self.scheduler.add_backend("b", slots=self.rng.randint(1, SLOTS))
        self.scheduler.add_backend("e", slots=1, lane=Lane.EMBED)
        limits = QueueLimits(max_waiting=6, max_waiting_per_person=4)
        self.slots = LocalSlots(self.scheduler, limits=limits, clock=self.loop.time, jitter=lambda: 0.5)
        health = Health(
            self.slots, backends=("b", "e"), grace_s=1.0, clock=self.loop.time, jitter=lambda: 0.5
        )
        monitor = Monitor(
            SmallOllama(),
            slots=self.slots,
            health=health,
            backends=("b", "e"),
            heard=lambda: 0,
            interval_s=5,
            clock=self.loop.time,
        )
        self.monitor = monitor
        config = parse(SETTINGS, source="test", env={})
        self.gateway = Gateway(
            config,
            slots=self.slots,
            upstream=NamedUpstream(self.ollama),
            ollama=SmallOllama(),
            monitor=monitor,
            ledger=self.ledger,
            health=health,
            observe=self.records.append,
            clock=self.loop.time,
            wall=self.loop.time,
        )
        self.loop.after = self.check

    # --- what happens

    def ask(self, owner: str, *, model: str = "m:latest", max_wait_s: float = 3.0) -> Client:
        """A client asks."""
        client = Client(f"{owner}{len(self.clients)}", person(owner), SlowSink(self.rng))
        self.clients.append(client)
        client.task = self.loop.create_task(self._carry(client, model, max_wait_s))
        return client

    async def _carry(self, client: Client, model: str, max_wait_s: float) -> None:
        client.began = self.loop.time()
        try:
            await self.gateway.handle(
                generation(client.name, model),
                client.who,
                client.sink,
                request_id=client.name,
                tool="curl",
                max_wait_s=max_wait_s,
            )
        except (GpushareError, asyncio.CancelledError) as error:
            client.error = error
        finally:
            client.ended = self.loop.time()

    def leave(self, client: Client) -> None:
        """A client's connection is gone."""
        if client.task is not None:
            client.task.cancel()

    def withdraw(self, client: Client) -> None:
        """A person cancels a call of theirs on a page."""
        self.gateway.cancel(client.name, client.who)

    def drain(self) -> None:
        """The operator ends the server."""
        self.slots.close()

    def cut(self) -> None:
        """The grace of a drain is over."""
        self.gateway.cut(lambda _: True, Restarting)

    def revoke(self, owner: str) -> None:
        """The operator withdraws somebody's keys."""
        self.slots.evict(lambda who: who.owner == owner, KeyRevoked)
        self.gateway.cut(lambda who: who.owner == owner, KeyRevoked)

    def resize(self, count: int) -> None:
        """The operator reloads another number of slots, and other terms."""
        self.slots.resize("b", count)
        terms = OwnerTerms(
            weight=self.rng.choice((0.5, 1, 3)), max_waiting=0, max_running=self.rng.randrange(3)
        )
        self.slots.set_people({"a": terms})

    def pause(self) -> None:
        """The operator holds the queue for a while."""
        self.slots.pause()
        self.loop.call_later(1, self.slots.resume)

    def swap(self) -> None:
        """Ollama says what it holds."""
        self.slots.set_resident(("b", "e"), frozenset({self.rng.choice(("m:latest", "n:latest"))}))

    # --- the books

    def check(self) -> None:
        """Checks what must be so after every pass of the loop."""
        self.scheduler.check()
        view = self.slots.snapshot()
        assert view.granted_total - view.released_total == view.held
        assert len(self.ollama.open) <= SLOTS
        for waiter in self.slots._waiters.values():  # noqa: SLF001 - who has left must not hold a slot
            gone = waiter.future is not None and waiter.future.cancelled()
            assert not gone or waiter.grant is None or waiter.grant.released

    async def close(self) -> None:
        """Waits for everybody, and checks what must be so in the end."""
        tasks = [client.task for client in self.clients if client.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        arrived = [
            client for client in self.clients if client.began is not None
        ]  # not cut before its first step
        assert self.slots.snapshot().held == 0
        assert self.scheduler.n_wait == 0
        assert self.gateway.live == {}
        assert self.ollama.open == set()
        told = Counter(record.request_id for record in self.records)
        assert told == Counter(client.name for client in arrived), "each call has one record"
        noted = Counter(admission.request_id for admission in self.ledger.let_in)
        assert noted <= told, "a call was let in twice, or has no end"
        outcomes = {record.request_id: record.outcome for record in self.records}
        for client in arrived:
            self._check_client(client, outcomes[client.name])

    def _check_client(self, client: Client, outcome: Outcome) -> None:
        sink, error = client.sink, client.error
        assert self.ollama.seen[client.name] <= 1, "sent twice"
        assert outcome not in QUEUED or not self.ollama.seen[client.name]
        assert client.began is not None
        assert client.ended - client.began < LONGEST_S
        if isinstance(error, GpushareError):
            assert not sink.started, "an error with a status, behind a begun answer"
        elif error is None:
            assert sink.finished or sink.aborted, "the client was told nothing"
        if outcome is Outcome.OK:
            assert sink.body.endswith(DONE)
        elif sink.finished and outcome is not Outcome.UPSTREAM_TRUNCATED and error is None:
            assert b'"error"' in sink.body or sink.body.endswith(DONE), outcome


def person(owner: str) -> Principal:
    """A caller."""
    return Principal(key_id=f"k{owner}", name=owner, owner=owner)


def generation(name: str, model: str) -> Call:
    """A streaming call whose body is its name."""
    endpoint, target = find_endpoint("POST", "/api/generate")
    return Call(
        endpoint=endpoint,
        target=target,
        body=name.encode(),
        content_type="application/json",
        model=model,
        asked=model,
        framing=Framing.NDJSON,
        lane=endpoint.lane,
    )
