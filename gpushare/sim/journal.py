"""What happened to each request, and events a test can wait for instead of sleeping."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from gpushare.sim.script import Plan

T = TypeVar("T")


class State(StrEnum):
    """Where a request is; the last four are ends."""

    ARRIVED = "arrived"  # its head is read
    READ = "read"  # its body is read
    PENDING = "pending"  # its model must be loaded first; waits for the loader
    LOADING = "loading"
    WAITING = "waiting"  # for a slot of the loaded model
    PROMPT = "prompt"  # has a slot, no token yet
    STREAMING = "streaming"  # the first record is out
    STALLED = "stalled"  # in a scripted stall
    DONE = "done"
    REFUSED = "refused"  # answered with an error status
    FAULTED = "faulted"  # ended by its scripted fault
    CANCELLED = "cancelled"  # the client left


ENDS = frozenset({State.DONE, State.REFUSED, State.FAULTED, State.CANCELLED})


class Events:
    """Wakes waiters when a condition they name has come true."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], object], asyncio.Future[object]]] = []

    def changed(self) -> None:
        """Looks at every awaited condition again; called after each change of anything observable."""
        still = []
        for condition, future in self._waiting:
            if future.done():
                continue
            if value := condition():
                future.set_result(value)
            else:
                still.append((condition, future))
        self._waiting = still

    async def until(self, condition: Callable[[], T], *, timeout_s: float = 30.0) -> T:
        """Waits until ``condition()`` is true and returns its value.

        Raises:
            TimeoutError: it did not come true within ``timeout_s``; only a broken test gets there.
        """
        if value := condition():
            return value
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting.append((condition, future))
        async with asyncio.timeout(timeout_s):
            await future
        return condition()


@dataclass(eq=False, slots=True, kw_only=True)
class Entry:
    """One request as the simulated Ollama saw it.

    ``records`` counts records written (the final one included); in the compatibility dialects one record
    may be several events.  ``answer`` is the body sent so far, without framing.  Times in ``at`` are the
    event loop's seconds.
    """

    number: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    events: Events = field(repr=False)
    body: bytes = b""
    body_bytes: int = 0
    model: str = ""
    plan: Plan = field(default_factory=Plan)
    state: State = State.ARRIVED
    at: dict[State, float] = field(default_factory=dict)
    records: int = 0
    status: int = 0
    keep_body: bool = True
    answer: bytearray = field(default_factory=bytearray, repr=False)
    _go: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def ended(self) -> bool:
        """Whether the request is over, in whatever way."""
        return self.state in ENDS

    @property
    def cancelled(self) -> bool:
        """Whether the client left before the end; ``records`` then says after how many records."""
        return self.state is State.CANCELLED

    @property
    def closed_at(self) -> float | None:
        """When the client was seen to have left, in the event loop's seconds."""
        return self.at.get(State.CANCELLED)

    def header(self, name: str) -> str | None:
        """Returns the last value of a header, or None."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return values[-1] if values else None

    def enter(self, state: State) -> None:
        """Notes a new state and its time; after an end nothing changes any more."""
        if self.ended or self.state is state:
            return
        self.state = state
        self.at.setdefault(state, asyncio.get_running_loop().time())
        self.events.changed()

    def wrote_record(self) -> None:
        """Counts one record."""
        self.records += 1
        self.enter(State.STREAMING)
        self.events.changed()

    def resume(self) -> None:
        """Ends a scripted stall."""
        self._go.set()

    async def stall(self) -> None:
        """Waits for ``resume``; afterwards the request is where it was."""
        before = self.state
        self.enter(State.STALLED)
        await self._go.wait()
        self.enter(before)

    async def reached(self, *states: State) -> None:
        """Waits until the request has been in one of ``states`` (or in any end, if none is named)."""
        wanted = states or tuple(ENDS)
        await self.events.until(lambda: any(state in self.at for state in wanted))

    async def sent(self, records: int) -> None:
        """Waits until that many records are written."""
        await self.events.until(lambda: self.records >= records)
