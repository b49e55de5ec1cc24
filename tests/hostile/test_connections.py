"""Items 67 to 74: many connections, slow ones, and clients and viewers that do not read or do not stay."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gpushare.web.pages import hub
from tests.conformance.tools import busy, dial, exchange, know_models, last_done, post
from tests.harness import CANARY, Gate, chat, gateway
from tests.hostile.tools import chat_shot, refused, shot
from tests.unit.web.wire import Wire, statuses

SILENT = 100
PATIENT = '[server]\nheader_timeout = "1s"\nmax_connections = 100\nmax_connections_per_address = 60'


async def closed(wire: Wire) -> bytes:
    """Returns what came until the gateway closed."""
    return await wire.rest()


@pytest.mark.item(67)
async def test_connections_that_send_nothing(tmp_path: Path) -> None:
    """P8, P18: a quarter of the places is for those without a key; the rest is refused; all are closed."""
    async with gateway(tmp_path, settings=PATIENT) as gate, AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(dial(gate.port)) for _ in range(SILENT)]
        answers = await asyncio.gather(*map(closed, wires))
        told = [answer for answer in answers if answer]
        assert len(told) >= SILENT - 25
        assert {status for answer in told for status in statuses(answer)} <= {503, 408}
        doors = gate.parts.connections
        assert doors is not None
        assert doors.open == 0
        assert doors.events["anonymous"] >= SILENT - 25
        assert statuses(await exchange(gate, chat_shot(gate))) == [200]


@pytest.mark.item(68)
async def test_headers_byte_by_byte(tmp_path: Path) -> None:
    """P18, P19: the deadline for a head is absolute: bytes that trickle do not move it."""
    async with gateway(tmp_path, settings=PATIENT) as gate, AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(dial(gate.port)) for _ in range(20)]
        endings = [asyncio.create_task(closed(wire)) for wire in wires]
        head = b"GET / HTTP/1.1\r\nX-Slow: " + b"x" * 1000
        for at in range(len(head)):
            if all(ending.done() for ending in endings):
                break
            for wire in wires:
                wire.send_what_fits(head[at : at + 1])
            await asyncio.sleep(0.02)
        answers = [ending.result() for ending in endings]
        assert [statuses(answer) for answer in answers] == [[408]] * len(wires)


STALL = '[server]\nwrite_stall = "400ms"'


@pytest.mark.item(69)
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
async def test_a_client_that_reads_nothing(tmp_path: Path, path: str) -> None:
    """P18: it is given up while the answer waits, and the next person is served."""
    async with gateway(tmp_path, settings=STALL) as gate:
        await know_models(gate)
        async with dial(gate.port, receive_bytes=4096) as wire:
            body = chat(f"{CANARY} #sim:tokens=20000,gather=100", max_tokens=20_000)
            await wire.send(post(gate, path, body))
            await gate.sim.arrived(0, path=path)
            await gate.until(lambda: not gate.parts.gateway.live)
            assert last_done(gate)["outcome"] == "client_slow"
            answer = await wire.rest()
        assert not answer.endswith(b"0\r\n\r\n")
        assert (await gate.post(path, chat(stream=False, max_tokens=5), who="bob"))[0] == 200


@pytest.mark.item(70)
async def test_a_client_that_reads_byte_by_byte(tmp_path: Path) -> None:
    """Reading a little now and then is not reading."""
    async with gateway(tmp_path, settings=STALL) as gate:
        await know_models(gate)
        async with dial(gate.port, receive_bytes=4096) as wire:
            await wire.send(post(gate, "/api/chat", chat("#sim:tokens=20000,gather=100")))
            await gate.sim.arrived(0, path="/api/chat")
            while gate.parts.gateway.live:
                await wire.take(1)
                await asyncio.sleep(0.005)
        assert last_done(gate)["outcome"] == "client_slow"


@pytest.mark.item(71)
async def test_clients_that_never_stay(gate: Gate) -> None:
    """P1, P18: hundreds that send a call and reset leave nothing but their lines, each id in one."""
    await know_models(gate)
    for _ in range(300):
        async with dial(gate.port) as wire:
            await wire.send(chat_shot(gate))
            wire.reset()
    assert statuses(await exchange(gate, chat_shot(gate))) == [200]  # taken after all the others
    await gate.rest()
    assert {line["event"] for line in gate.logs if line["log_level"] != "debug"} <= {
        "request.done",
        "ollama.up",
    }


async def watch(wire: Wire, gate: Gate, *fields: str, who: str = "alice") -> bytes:
    """Opens the live stream of the page on a bare socket; returns the head of the answer."""
    await wire.send(shot(gate, "GET /events HTTP/1.1", *fields, who=who))
    return await wire.until(b"\r\n\r\n")


@pytest.mark.item(72)
async def test_many_viewers(tmp_path: Path) -> None:
    """Who comes beyond the limits is told when to come back; calls and other viewers go on."""
    settings = "[status]\nmax_viewers = 12\nmax_viewers_per_address = 10"
    async with gateway(tmp_path, settings=settings) as gate, AsyncExitStack() as stack:
        await know_models(gate)
        for number in range(30):
            wire = await stack.enter_async_context(dial(gate.port))
            head = await watch(wire, gate)
            assert statuses(head) == [200 if number < 10 else 503]
            assert (b"\r\nRetry-After: " in head) == (number >= 10)
        assert statuses(await exchange(gate, chat_shot(gate))) == [200]


@pytest.mark.item(73)
async def test_a_viewer_that_never_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is dropped once a write has been stuck; until then it costs the newest state, and others nothing."""
    monkeypatch.setattr(hub, "STUCK_S", 0.3)
    monkeypatch.setattr(hub, "TICK_S", 0.005)
    async with gateway(tmp_path) as gate, dial(gate.port, receive_bytes=4096) as wire:
        await know_models(gate)
        await watch(wire, gate)
        doors = gate.parts.connections
        assert doors is not None
        async with asyncio.timeout(30):
            while doors.open:
                async with busy(gate), dial(gate.port) as waiting:
                    await waiting.send(chat_shot(gate))
                    await gate.waiting(1)
                await gate.waiting(0)
        assert statuses(await exchange(gate, chat_shot(gate))) == [200]


@pytest.mark.item(74)
@pytest.mark.parametrize(
    "value", ["x" * 8000, "b000-1", "-1", "<script>", "a" * 16 + "-" + "9" * 30, "\u00e9"]
)
async def test_an_odd_place_to_go_on_from(gate: Gate, value: str) -> None:
    """What is no place of ours is no place: everything is told again."""
    async with dial(gate.port) as wire:
        assert statuses(await watch(wire, gate, f"Last-Event-ID: {value}")) == [200]
        told = await wire.until(b"event: meta")
    assert b"event: part" in told
    assert value.encode() not in told or value == "-1"


@pytest.mark.item(74)
async def test_a_place_with_a_line_end(gate: Gate) -> None:
    """It is no header."""
    await refused(gate, shot(gate, "GET /events HTTP/1.1", "Last-Event-ID: a\rX: b"), 400)
