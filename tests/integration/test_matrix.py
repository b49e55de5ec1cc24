"""The fault matrix: every fault in every state of a call, with bare sockets on both sides.

What must come of each cell stands in ``tests.integration.matrix``; after each the conservation check of
``tests.harness`` runs, which compares log, counters and ledger.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from tests.conformance.tools import Server, before_error, dial, error_of, head, served
from tests.harness import chat
from tests.integration.matrix import Cell, Client, Code, Retry, cells
from tests.integration.process import PEOPLE
from tests.integration.scenes import MANY, Scene, State, scene
from tests.integration.strikes import FAILED, NOT_FOUND, SLOW_S, STRIKES, TAILS
from tests.integration.test_ledger import notes, written
from tests.unit.web.wire import Wire, statuses
from tests.upstream import (
    CHUNKED,
    LAST_CHUNK,
    MESSAGES,
    NATIVE,
    OPENAI,
    PIECE,
    RESPONSES,
    Form,
    RawOllama,
    chunk,
    raw_ollama,
)

KILL = "F27"
"""Needs a process of its own."""
CELLS = [cell for cell in cells() if cell.row.fault != KILL]
KILLED = [cell for cell in cells() if cell.row.fault == KILL]
FIRST = {cell.code: cell for cell in reversed(CELLS)}
OURS = [cell for cell in FIRST.values() if cell.code.client in (Client.STATUS, Client.RECORD)]
"""One cell for each code whose error we word."""
OTHERS = {form.path: form for form in (OPENAI, RESPONSES, MESSAGES)}


@pytest.mark.parametrize("cell", CELLS, ids=str)
async def test_a_fault_in_a_state(tmp_path: Path, cell: Cell) -> None:
    """P1, P12, P13, P21, P22, P27, P32, P36: client, slot, Ollama, row and line are as the matrix says."""
    await strike(tmp_path, cell, NATIVE)


@pytest.mark.parametrize("path", OTHERS)
@pytest.mark.parametrize("cell", OURS, ids=str)
async def test_a_fault_in_another_dialect(tmp_path: Path, cell: Cell, path: str) -> None:
    """P13, P36: so they are where the answer is in the form of another API; only the error's form differs."""
    await strike(tmp_path, cell, OTHERS[path])


async def strike(folder: Path, cell: Cell, form: Form) -> None:
    """Brings a call to the state, lets the fault strike, and checks what comes of it."""
    row, state, code = cell.row, cell.state, cell.code
    tail = TAILS.get(row.fault, b"")
    async with scene(
        folder, state, settings=row.settings, form=form, tail=tail, slow=row.fault == "F4"
    ) as stand:
        await STRIKES[row.name](stand)
        if code.client is Client.WHOLE:
            await stand.finish(pause_s=SLOW_S if row.fault == "F34" else 0.0)
        await SEES[code.client](stand, code)
        if row.fault == "F6":
            assert statuses(await stand.wire.rest()) == [200]
        await over(stand)
        check_line(stand, code)
        await check_ollama(stand, code)


async def over(stand: Scene) -> None:
    """Waits for the end of the call; its slot and its place are free then, and only another's is taken."""
    gate = stand.gate
    await gate.until(lambda: not stand.living() and not stand.reading())
    view = gate.parts.slots.snapshot()
    others = {live.request_id for live in gate.parts.gateway.live.values()}
    assert {row.id for row in view.running} | {row.id for row in view.waiting} <= others


def check_line(stand: Scene, code: Code) -> None:
    """Checks the one line of the call; where it never became one, there is none in the ledger either."""
    lines = stand.lines()
    assert len(lines) <= 1
    told = [line for line in lines if line["log_level"] == "info"]
    assert [line["outcome"] for line in told] == ([code.outcome] if code.outcome else [])
    for line in told:
        assert line["delivered"] is code.delivered
        assert line["slot_s"] == 0 or stand.contacts
    assert stand.gate.parts.stats.requests.total() == len(
        [line for line in stand.gate.logs if line["event"] == "request.done"]
    )


async def check_ollama(stand: Scene, code: Code) -> None:
    """Checks that Ollama's connection is closed, and that it was dialled once, or never where nothing ran."""
    if stand.call is not None:
        await stand.call.gone()
        assert stand.contacts == (2 if code.outcome == "upstream_busy" else 1)
    elif code.outcome == "internal_error":
        assert stand.contacts <= 1
    else:
        assert stand.contacts == 0


@pytest.mark.parametrize("cell", KILLED, ids=str)
async def test_kill_9_in_a_state(tmp_path: Path, cell: Cell) -> None:
    """P24: the client can tell, and after the next start a call that was let in has one row."""
    ledger = tmp_path / "state"
    async with raw_ollama() as ollama:
        async with served(tmp_path, ollama.url, people=PEOPLE, settings=PATIENT) as server:
            await server.said("ollama.up")
            async with dial(server.port, receive_bytes=4096) as wire, dial(server.port) as other:
                if cell.state is State.QUEUED:
                    await other.send(request_of(server, "bob"))
                    await ollama.call()
                await REACH[cell.state](server, ollama, wire)
                while notes(ledger) < CALLS[cell.state]:
                    await asyncio.sleep(0.01)
                server.process.kill()
                assert not (await wire.rest()).endswith(b"\r\n" + LAST_CHUNK)
                await server.process.wait()
        if cell.state is State.CONNECTING:
            await ollama.start()
        async with served(tmp_path, ollama.url, people={}) as again:
            await again.said("ollama.up")
    rows = [row.outcome.value for row in written(ledger).values() if row.person == "alice"]
    assert rows == ([cell.code.outcome] if cell.code.outcome else [])
    assert notes(ledger) == 0


PATIENT = 'connect_timeout = "20s"'
CALLS = {**dict.fromkeys(State, 1), State.AUTH: 0, State.QUEUED: 2}
"""How many calls are let in where one of them has come so far."""


def request_of(server: Server, who: str) -> bytes:
    """Returns a chat call."""
    body = json.dumps(chat()).encode()
    key, length = f"Authorization: Bearer {server.keys[who]}", f"Content-Length: {len(body)}"
    return head("POST", "/api/chat", key, length) + body


async def to_the_body(server: Server, _ollama: RawOllama, wire: Wire) -> None:
    """Half of the body is sent."""
    await wire.send(request_of(server, "alice")[:-20])


async def to_the_queue(server: Server, _ollama: RawOllama, wire: Wire) -> None:
    """All is sent, and somebody else has the slot."""
    await wire.send(request_of(server, "alice"))


async def to_the_dial(server: Server, ollama: RawOllama, wire: Wire) -> None:
    """Ollama takes no connections."""
    await ollama.hang()
    await wire.send(request_of(server, "alice"))


async def to_ollama(server: Server, ollama: RawOllama, wire: Wire) -> None:
    """Ollama has the request."""
    await wire.send(request_of(server, "alice"))
    await ollama.call()


async def to_the_stream(server: Server, ollama: RawOllama, wire: Wire) -> None:
    """The client has read the first record."""
    await to_ollama(server, ollama, wire)
    await ollama.calls[0].send(CHUNKED, chunk(PIECE))
    await wire.until(PIECE)


async def to_the_tail(server: Server, ollama: RawOllama, wire: Wire) -> None:
    """The end mark is here, and the gateway has closed for it; the client has not read the rest."""
    await to_ollama(server, ollama, wire)
    ollama.calls[0].push(CHUNKED + chunk(PIECE * MANY + NATIVE.end))
    await ollama.calls[0].gone()


REACH: Mapping[State, Callable[[Server, RawOllama, Wire], Awaitable[None]]] = {
    State.AUTH: to_the_body,
    State.QUEUED: to_the_queue,
    State.CONNECTING: to_the_dial,
    State.WAITING: to_ollama,
    State.STREAMING: to_the_stream,
    State.FINISHING: to_the_tail,
}


# --- what the client sees ---------------------------------------------------------------------------------


async def whole(stand: Scene, _code: Code) -> None:
    """Every byte of Ollama's."""
    assert await stand.read_stream() == stand.sent


async def nothing(_stand: Scene, _code: Code) -> None:
    """It has left."""


async def error(stand: Scene, code: Code) -> None:
    """A status of ours, which says whether to try again."""
    status, headers, body = await stand.read_error()
    assert status == code.status
    assert error_of(stand.form.path, body)
    assert (b"\r\nRetry-After: " in headers) == (code.retry is Retry.AFTER)
    assert (b"\r\nx-should-retry: false\r\n" in headers) == (code.retry is Retry.NEVER)
    if code.closes:
        assert b"\r\nConnection: close\r\n" in headers
        stand.wire.half_close()  # else what may still come is waited for
        assert await stand.wire.rest() == b""


async def ollamas_error(stand: Scene, code: Code) -> None:
    """Ollama's status and body."""
    status, _, body = await stand.read_error()
    assert (status, body) == (code.status, NOT_FOUND if code.status == 404 else FAILED)


async def record(stand: Scene, _code: Code) -> None:
    """All that came, one record more, and the end of the message."""
    passed = before_error(stand.form.path, await stand.read_stream())
    assert passed
    assert stand.sent.startswith(passed)


async def unchanged(stand: Scene, _code: Code) -> None:
    """All that came, and nothing else."""
    assert await stand.read_stream() == stand.sent


async def cut(stand: Scene, _code: Code) -> None:
    """A part that nobody takes for the whole."""
    await over(stand)
    assert not (await stand.wire.rest()).endswith(b"\r\n0\r\n\r\n")


SEES: Mapping[Client, Callable[[Scene, Code], Awaitable[None]]] = {
    Client.WHOLE: whole,
    Client.NOTHING: nothing,
    Client.STATUS: error,
    Client.OLLAMAS: ollamas_error,
    Client.RECORD: record,
    Client.UNCHANGED: unchanged,
    Client.CUT: cut,
}
