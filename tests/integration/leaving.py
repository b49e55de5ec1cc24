"""What the suites about departures share: every state a call can be in, and every way a client can go."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from gpushare.core.model import Phase
from gpushare.sim import Entry, Fault, FaultKind, Plan, SimModel, State
from tests.conformance.tools import body_of, busy, dial, know_models, post
from tests.harness import Gate
from tests.unit.web.wire import Wire

WAYS: dict[str, Callable[[Wire], None]] = {
    "fin": Wire.close,
    "rst": Wire.reset,
    "half-close": Wire.half_close,
}
LONG = 60_000
"""Milliseconds that no test waits for."""


@dataclass(frozen=True, slots=True)
class Stand:
    """One call in a known state: its client, and what Ollama sees of it (None where it sees nothing)."""

    wire: Wire
    entry: Entry | None = None


Reach = Callable[[Gate], AbstractAsyncContextManager[Stand]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A state, how to get a call there, and the outcome it must have when its client leaves."""

    reach: Reach
    outcome: str
    phase: str


@asynccontextmanager
async def asked(gate: Gate, path: str, text: str, **fields: Any) -> AsyncIterator[Wire]:
    """Sends a call on a bare socket."""
    async with dial(gate.port) as wire:
        await wire.send(post(gate, path, body_of(path, text, **fields)))
        yield wire


@asynccontextmanager
async def queued(gate: Gate) -> AsyncIterator[Stand]:
    """A call that waits for the slot another one holds."""
    await know_models(gate)
    async with busy(gate), asked(gate, "/api/chat", "waits") as wire:
        await gate.waiting(1)
        yield Stand(wire)
        await gate.waiting(0)


@asynccontextmanager
async def connecting(gate: Gate) -> AsyncIterator[Stand]:
    """A call whose dial hangs, as with a host that drops packets."""
    await know_models(gate)
    gate.sim.hang()
    try:
        async with asked(gate, "/api/chat", "dials") as wire:
            await gate.until(
                lambda: [live.phase for live in gate.parts.gateway.live.values()] == [Phase.CONNECT]
            )
            yield Stand(wire)
            await gate.until(lambda: not gate.parts.gateway.live)
    finally:
        await gate.sim.accept()


def at_ollama(state: State, path: str, text: str, *, model: str = "m", **fields: Any) -> Reach:
    """Returns how to get a call to a state that Ollama knows."""

    @asynccontextmanager
    async def reach(gate: Gate) -> AsyncIterator[Stand]:
        await know_models(gate)
        before = sum(entry.path == path for entry in gate.sim.log)
        async with asked(gate, path, text, model=model, **fields) as wire:
            entry = await gate.sim.arrived(before, path=path)
            await entry.reached(state)
            yield Stand(wire, entry)

    return reach


@asynccontextmanager
async def loading(gate: Gate) -> AsyncIterator[Stand]:
    """A call whose model is being loaded."""
    gate.sim.store.put("n", SimModel(name="n", load_s=LONG / 1000))
    async with at_ollama(State.LOADING, "/api/chat", "loads", model="n", stream=True)(gate) as stand:
        yield stand


def streaming(path: str) -> Reach:
    """Returns how to get a call to where its first record is out and its client reads."""

    @asynccontextmanager
    async def reach(gate: Gate) -> AsyncIterator[Stand]:
        state, text = State.STREAMING, "#sim:tokens=3000,delay_ms=2"
        async with at_ollama(state, path, text, stream=True)(gate) as stand:
            await stand.wire.until(b"\r\n\r\n")
            yield stand

    return reach


def passed(path: str, body: object, who: str) -> Reach:
    """Returns how to get a call that needs no slot to where Ollama does not answer."""

    @asynccontextmanager
    async def reach(gate: Gate) -> AsyncIterator[Stand]:
        await know_models(gate)
        gate.sim.next(Plan(fault=Fault(FaultKind.DEAF)), path=path)
        async with dial(gate.port) as wire:
            await wire.send(post(gate, path, body, who=who))
            entry = await gate.sim.arrived(sum(entry.path == path for entry in gate.sim.log), path=path)
            await entry.reached(State.STALLED)
            yield Stand(wire, entry)

    return reach


QUEUED_STATES = {"queued": Situation(reach=queued, outcome="client_gone_queued", phase="queue")}
RUNNING_STATES = {
    "connecting": Situation(reach=connecting, outcome="client_gone_running", phase="connect"),
    "loading": Situation(reach=loading, outcome="client_gone_running", phase="first"),
    **{
        name: Situation(reach=reach, outcome="client_gone_running", phase=phase)
        for name, phase, reach in (
            ("prefill", "first", at_ollama(State.PROMPT, "/api/chat", f"#sim:ttft_ms={LONG}", stream=True)),
            ("single", "first", at_ollama(State.PROMPT, "/v1/chat/completions", f"#sim:ttft_ms={LONG}")),
            ("embed", "first", at_ollama(State.PROMPT, "/api/embed", f"#sim:ttft_ms={LONG}", model="embed")),
            ("ndjson", "data", streaming("/api/chat")),
            ("sse", "data", streaming("/v1/chat/completions")),
            ("messages", "data", streaming("/v1/messages")),
            ("show", "first", passed("/api/show", {"model": "m"}, "alice")),
            ("pull", "first", passed("/api/pull", {"model": "m"}, "root")),
        )
    },
}
STATES = QUEUED_STATES | RUNNING_STATES
