"""A call of alice's in each of its states, with bare sockets on both sides: the stage of the fault matrix."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from gpushare.core.model import Phase, UpstreamRequest
from gpushare.engine.live import LiveCall
from gpushare.engine.ports import Consumer, Exchange
from tests.conformance.tools import body_of, dial, know_models, post, unchunk
from tests.harness import Gate, chat, gateway
from tests.unit.web.wire import Wire
from tests.upstream import LAST_CHUNK, NATIVE, Connection, Form, RawOllama, chunk, raw_ollama

MANY = 3000
"""So many records that are not read keep an answer from being delivered, and fit into what is kept of it."""
OTHER = "openai"
"""The tool of further calls of alice's."""
SETTINGS = {"ollama.connect_timeout": "20s"}
"""A dial that hangs does so until the test ends it."""


class State(StrEnum):
    """How far a call has come."""

    AUTH = "auth"
    QUEUED = "queued"
    GRANTED = "granted"
    CONNECTING = "connecting"
    WAITING = "waiting"
    STREAMING = "streaming"
    FINISHING = "finishing"


@dataclass(kw_only=True)
class Scene:
    """The call, what holds it where it is, and how it goes on from there.

    Attributes:
        form: what Ollama streams on the route of the call.
        late: what the client has still to send.
        early: what of the answer it has read.
        sent: the records that Ollama has sent for it.
        call: its connection at Ollama, None before there is one.
        holder: the connection of the call that has the slot, None where this one has it.
        crowd: whether other calls wait beside it.
        patch: undone when the scene ends; ``stack`` is closed then.
    """

    gate: Gate
    ollama: RawOllama
    wire: Wire
    state: State
    form: Form
    patch: pytest.MonkeyPatch
    stack: AsyncExitStack
    late: bytes = b""
    early: bytes = b""
    sent: bytes = b""
    call: Connection | None = None
    holder: Connection | None = None
    crowd: bool = False
    hold: asyncio.Event = field(default_factory=asyncio.Event)

    def living(self) -> list[LiveCall]:
        """Returns the call, while it is one."""
        lives = self.gate.parts.gateway.live.values()
        return [live for live in lives if live.who.name == "alice" and live.tool != OTHER]

    def reading(self) -> bool:
        """Whether its body is kept for being read."""
        return self.state is State.AUTH and bool(self.gate.parts.body_budget.held_bytes) and not self.crowd

    @property
    def contacts(self) -> int:
        """How many connections Ollama had for this call."""
        return len(self.ollama.calls) - (self.holder is not None)

    def lines(self) -> list[dict[str, Any]]:
        """Returns the final log lines of the call; the ledger is compared with them when the test ends."""
        lines = [line for line in self.gate.logs if line["event"] == "request.done"]
        return [line for line in lines if line["person"] == "alice" and line["tool"] != OTHER]

    async def said(self, *pieces: bytes) -> None:
        """Has Ollama send records."""
        assert self.call is not None
        for piece in pieces:
            self.sent += piece
            await self.call.send(chunk(piece))

    async def go_on(self) -> None:
        """Lets the call go on to Ollama from wherever it is."""
        if self.late:
            await self.wire.send(self.late)
        await self.end_holder()
        self.hold.set()
        if self.state is State.CONNECTING:
            await self.ollama.start()

    async def end_holder(self) -> None:
        """Ends the answer of the call that has the slot."""
        if self.holder is not None and not self.holder.done:
            await self.holder.answer(chunk(NATIVE.end), LAST_CHUNK)

    async def finish(self, *, pause_s: float = 0.0) -> None:
        """Lets the call go on to its end, with Ollama's pauses between its records."""
        await self.go_on()
        if self.call is None:
            self.call = await self.ollama.call(0 if self.holder is None else 1)
        if not self.sent:
            await self.call.send(self.form.head)
        if self.sent.endswith(self.form.end):
            return
        for _ in range(4):
            await self.said(self.form.piece)
            await asyncio.sleep(pause_s)
        await self.said(self.form.end)
        await self.call.send(LAST_CHUNK)

    async def read_stream(self) -> bytes:
        """Returns the body of an answer that is properly ended, whatever is in it."""
        answer = self.early + await self.wire.until(b"\r\n" + LAST_CHUNK)
        headers, _, body = answer.partition(b"\r\n\r\n")
        assert headers.startswith(b"HTTP/1.1 200 ")
        return unchunk(body)

    async def read_error(self) -> tuple[int, bytes, bytes]:
        """Returns status, head and body of an answer that is an error."""
        headers = await self.wire.until(b"\r\n\r\n")
        length = int(headers.partition(b"\r\nContent-Length: ")[2].partition(b"\r\n")[0])
        return int(headers.split(b" ", 2)[1]), headers, await self.wire.exactly(length)


@asynccontextmanager
async def scene(
    folder: Path,
    state: State,
    *,
    settings: Mapping[str, object],
    form: Form = NATIVE,
    tail: bytes = b"",
    slow: bool = False,
) -> AsyncIterator[Scene]:
    """Brings a call to a state.

    Args:
        folder: for keys and ledger.
        state: where to.
        settings: by dotted name.
        form: of the answer, which decides the route.
        tail: what Ollama sends in one piece with its last record, where the state is to be after it.
        slow: whether the client takes little at a time.
    """
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in {**SETTINGS, **settings}.items())
    async with (
        raw_ollama() as ollama,
        gateway(folder, engine=ollama.url, settings=text) as gate,
        AsyncExitStack() as stack,
    ):
        await know_models(gate)
        await gate.until(lambda: gate.parts.monitor.view.loaded)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        small = 4096 if slow or state is State.FINISHING else 0
        wire = await stack.enter_async_context(dial(gate.port, receive_bytes=small))
        stand = Scene(gate=gate, ollama=ollama, wire=wire, state=state, form=form, patch=patch, stack=stack)
        request = post(gate, form.path, body_of(form.path, stream=True))
        await REACH[state](stand, request, tail)
        yield stand


# --- the way to each state --------------------------------------------------------------------------------


async def _auth(stand: Scene, request: bytes, _tail: bytes) -> None:
    """Half of the body is there."""
    half = len(request) - 20
    stand.late = request[half:]
    await stand.wire.send(request[:half])
    await stand.gate.until(lambda: stand.gate.parts.body_budget.held_bytes)


async def _queued(stand: Scene, request: bytes, _tail: bytes) -> None:
    """Carol's answer has begun and holds the slot."""
    gate = stand.gate
    tasks = await stand.stack.enter_async_context(asyncio.TaskGroup())
    tasks.create_task(gate.post("/api/chat", chat(), who="carol"))
    holder = stand.holder = await stand.ollama.call()
    stand.stack.push_async_callback(stand.end_holder)
    await holder.send(NATIVE.head, chunk(NATIVE.piece))
    await stand.wire.send(request)
    await gate.waiting(1)


async def _granted(stand: Scene, request: bytes, _tail: bytes) -> None:
    """The slot is taken, and nothing was done with it yet."""
    upstream = stand.gate.parts.gateway._upstream  # noqa: SLF001 - the seam between the grant and the dial
    dial_now: Callable[[UpstreamRequest, Consumer], Awaitable[Exchange]] = upstream.open

    async def open_later(request: UpstreamRequest, consumer: Consumer) -> Exchange:
        await stand.hold.wait()
        return await dial_now(request, consumer)

    stand.patch.setattr(upstream, "open", open_later)
    await stand.wire.send(request)
    await stand.gate.until(lambda: stand.gate.parts.slots.snapshot().held)


async def _connecting(stand: Scene, request: bytes, _tail: bytes) -> None:
    """The dial hangs."""
    await stand.ollama.hang()
    await stand.wire.send(request)
    gate = stand.gate
    await gate.until(lambda: [live.phase for live in gate.parts.gateway.live.values()] == [Phase.CONNECT])


async def _waiting(stand: Scene, request: bytes, _tail: bytes) -> None:
    """Ollama has the request and says nothing."""
    await stand.wire.send(request)
    stand.call = await stand.ollama.call()
    gate = stand.gate
    await gate.until(lambda: [live.phase for live in gate.parts.gateway.live.values()] == [Phase.FIRST])


async def _streaming(stand: Scene, request: bytes, tail: bytes) -> None:
    """The client has read the first record."""
    await _waiting(stand, request, tail)
    assert stand.call is not None
    await stand.call.send(stand.form.head)
    await stand.said(stand.form.piece)
    stand.early = await stand.wire.until(stand.form.piece)


async def _finishing(stand: Scene, request: bytes, tail: bytes) -> None:
    """Ollama's last record is here, and the client has not read what came before it."""
    await _waiting(stand, request, tail)
    assert stand.call is not None
    stand.sent = stand.form.piece * MANY + stand.form.end
    stand.call.push(stand.form.head + chunk(stand.sent) + tail)
    gate = stand.gate
    await gate.until(lambda: not gate.parts.slots.snapshot().held)
    assert len(gate.parts.gateway.live) == 1, "the client took all of it"


REACH: dict[State, Callable[[Scene, bytes, bytes], Awaitable[None]]] = {
    State.AUTH: _auth,
    State.QUEUED: _queued,
    State.GRANTED: _granted,
    State.CONNECTING: _connecting,
    State.WAITING: _waiting,
    State.STREAMING: _streaming,
    State.FINISHING: _finishing,
}
