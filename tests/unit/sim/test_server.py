"""Connections, the log, and a server that comes and goes."""

import asyncio

import pytest

from gpushare.sim import Plan, SimOllama, State

from .conftest import Ask, chat, request_bytes


async def test_the_log_has_what_arrived(ask: Ask, sim: SimOllama) -> None:
    """Target, headers and body are recorded as they came, in order."""
    await ask("POST", "/v1/messages?beta=true", b"{}", headers="X-One: 1\r\n")
    await ask("GET", "/api/tags")
    first, second = sim.log
    assert (first.target, first.path, first.header("x-one"), first.body) == (
        "/v1/messages?beta=true",
        "/v1/messages",
        "1",
        b"{}",
    )
    assert (first.state, second.state) == (State.REFUSED, State.DONE)


async def test_planned_requests_are_used_once_and_by_path(ask: Ask, sim: SimOllama) -> None:
    """A plan for a path waits for that path; a standing plan stays."""
    sim.next(Plan(status=500), path="/api/tags")
    sim.script.plans["/api/version"] = Plan(status=404)
    assert [(await ask("GET", path)).status for path in ("/api/ps", "/api/tags", "/api/tags")] == [
        200,
        500,
        200,
    ]
    assert [(await ask("GET", "/api/version")).status for _ in range(2)] == [404, 404]


async def test_arrived_counts_by_path(ask: Ask, sim: SimOllama) -> None:
    """The number counts requests to the path."""
    await ask("GET", "/api/tags")
    waiting = asyncio.ensure_future(sim.arrived(0, path="/api/ps"))
    await ask("GET", "/api/ps")
    assert (await waiting).number == 1


@pytest.mark.parametrize("leave", ["fin", "reset", "half-close"])
async def test_a_leaving_client_is_noticed_at_its_record(sim: SimOllama, leave: str) -> None:
    """FIN, RST and half-close in the middle of a stream cancel it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sim.url.rpartition(":")[2]))
    writer.write(request_bytes("POST", "/api/chat", chat("#sim:fault=stall@3")))
    entry = await sim.arrived(0)
    await entry.reached(State.STALLED)
    await reader.readuntil(b'"content":"the "')
    if leave == "fin":
        writer.close()
    elif leave == "reset":
        writer.transport.abort()
    else:
        writer.write_eof()
    await entry.reached(State.CANCELLED)
    assert (entry.records, sim.gpu.computing) == (3, 0)
    await sim.events.until(lambda: sim.connections == 0)
    writer.close()


async def test_a_refusing_server_can_come_back_on_its_port(ask: Ask, sim: SimOllama) -> None:
    """While it refuses, dials fail; then the same address answers again."""
    sim.refuse()
    with pytest.raises(ConnectionRefusedError):
        await ask("GET", "/")
    await sim.accept()
    assert (await ask("GET", "/")).status == 200


async def test_a_hanging_dial_does_not_connect(sim: SimOllama) -> None:
    """A dial neither succeeds nor fails while the server hangs."""
    sim.hang()
    dial = asyncio.ensure_future(asyncio.open_connection("127.0.0.1", int(sim.url.rpartition(":")[2])))
    done, _ = await asyncio.wait([dial], timeout=0.2)
    assert not done
    dial.cancel()
    await asyncio.wait([dial])


async def test_a_crash_resets_everything(ask: Ask, sim: SimOllama) -> None:
    """Running streams are reset, models are forgotten, the port is closed."""
    running = asyncio.ensure_future(ask("POST", "/api/chat", chat("#sim:fault=stall@1")))
    entry = await sim.arrived(0)
    await entry.reached(State.STALLED)
    sim.crash()
    with pytest.raises(ConnectionResetError):
        await running
    assert entry.state is State.FAULTED
    assert not sim.gpu.resident
    await sim.accept()
    assert (await ask("POST", "/api/chat", chat())).status == 200


async def test_stopping_ends_what_is_stalled() -> None:
    """stop() does not wait for a stall, and may be called twice."""
    sim = SimOllama()
    await sim.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sim.url.rpartition(":")[2]))
    writer.write(request_bytes("POST", "/api/chat", chat("#sim:fault=stall")))
    await (await sim.arrived(0)).reached(State.STALLED)
    await sim.stop()
    await sim.stop()
    assert await reader.read() == b""
    writer.close()


async def test_a_typo_in_a_marker_fails_loudly(ask: Ask) -> None:
    """A marker nobody understands is a 500, not an ordinary answer."""
    assert (await ask("POST", "/api/chat", chat("#sim:tokns=3"))).status == 500
