"""How each fault of the matrix strikes."""

import asyncio
import os
import resource
import socket
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from datetime import UTC, datetime

from msgspec import structs

from gpushare.app.reload import Reload
from gpushare.core.breaker import DIALS_TO_OPEN
from gpushare.core.config import Config
from gpushare.core.dialects.usage import UsageTap
from gpushare.core.framing import LINE_MAX
from gpushare.core.keys import KeyRing
from gpushare.core.problems import ConfigErrors, Problem
from gpushare.edge import upstream
from gpushare.engine.gateway import Gateway
from gpushare.engine.live import LiveCall
from tests.conformance.tools import dial, head, post
from tests.harness import chat
from tests.integration.scenes import OTHER, Scene, State
from tests.unit.web.wire import Wire, statuses
from tests.upstream import CHUNKED, LAST_CHUNK, chunk, document

Strike = Callable[[Scene], Awaitable[None]]

BUSY = document(
    b'{"error":"server busy, please try again.  maximum pending requests exceeded"}',
    status=b"503 Service Unavailable",
)
NOT_FOUND = b'{"error":"model not found"}'
FAILED = b'{"error":"model runner has unexpectedly stopped"}'
STILL_S = 0.8
"""Longer than the limits of the row."""
SLOW_S = 0.2
"""Between two records; four of them take longer than a silence may."""
DAY_S = 86400


def acting(act: Callable[[Scene], object]) -> Strike:
    """Returns a strike that needs no time."""

    async def strike(stand: Scene) -> None:
        act(stand)

    return strike


async def nothing(_stand: Scene) -> None:
    """The state itself is the fault: somebody goes on doing nothing."""


# --- clients ----------------------------------------------------------------------------------------------


async def vanish(stand: Scene) -> None:
    """The kernel will find out: its limits are on the connection.  What it does then is a reset."""
    if stand.state is State.AUTH:
        return
    server = stand.gate.running.runner.server
    assert server is not None
    transports = [each.transport for each in server.connections if each.transport is not None]
    (sock,) = [
        each.get_extra_info("socket")
        for each in transports
        if each.get_extra_info("peername") == stand.wire.name
    ]
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    idle_s, pause_s, count, silent_ms = (
        sock.getsockopt(socket.IPPROTO_TCP, option)
        for option in (
            socket.TCP_KEEPIDLE,
            socket.TCP_KEEPINTVL,
            socket.TCP_KEEPCNT,
            socket.TCP_USER_TIMEOUT,
        )
    )
    assert idle_s + pause_s * count <= 60
    assert 0 < silent_ms <= 30_000
    stand.wire.reset()


async def stop_reading(stand: Scene) -> None:
    """Ollama sends more than is kept for a client."""
    if stand.state is State.STREAMING:
        assert stand.call is not None
        stand.call.push(chunk(stand.form.piece * 100_000))


async def dribble(stand: Scene) -> None:
    """A byte at a time, for longer than the body may take."""
    for at in range(len(stand.late) - 1):
        stand.wire.send_what_fits(stand.late[at : at + 1])
        await asyncio.sleep(0.05)


async def ask_again(stand: Scene) -> None:
    """Another request lies behind the one that is not answered yet."""
    behind = head("GET", "/healthz", "Connection: close")
    if stand.state is State.AUTH:
        stand.late += behind
    else:
        await stand.wire.send(behind)


# --- Ollama -----------------------------------------------------------------------------------------------


async def refuse(stand: Scene) -> None:
    """Nobody listens; in the middle of a body for a moment only."""
    await stand.ollama.refuse()
    await _on_to_a_dial(stand)


async def hang(stand: Scene) -> None:
    """Dials get no answer; in the middle of a body for a moment only."""
    await stand.ollama.hang()
    await _on_to_a_dial(stand)


async def _on_to_a_dial(stand: Scene) -> None:
    if stand.state is State.AUTH:
        await stand.ollama.start()
    elif stand.state is not State.CONNECTING:
        await stand.go_on()


def from_ollama(*pieces: bytes, then: str = "") -> Strike:
    """Returns how Ollama sends bytes, and then closes or resets; behind an end mark it is too late."""

    async def strike(stand: Scene) -> None:
        if stand.state is State.FINISHING:
            return
        assert stand.call is not None
        await stand.call.send(*pieces)
        if then:
            getattr(stand.call, then)()

    return strike


def by_state(first: Strike, later: Strike) -> Strike:
    """Returns a strike that differs before and after the first byte."""

    async def strike(stand: Scene) -> None:
        await (first if stand.state is State.WAITING else later)(stand)

    return strike


async def error_record(stand: Scene) -> None:
    """Ollama has begun and fails."""
    assert stand.call is not None
    await stand.said(FAILED + b"\n")
    await stand.call.send(LAST_CHUNK)


async def busy_twice(stand: Scene) -> None:
    """The second time is the last."""
    for number in (0, 1):
        await (await stand.ollama.call(number)).answer(BUSY)


async def go_on_and_on(stand: Scene) -> None:
    """Records keep coming, if they have begun."""
    assert stand.call is not None
    while stand.state is State.STREAMING and not stand.call.left.is_set():
        await stand.said(stand.form.piece)
        await asyncio.sleep(0.05)


async def no_end_of_message(stand: Scene) -> None:
    """The end mark comes, and nothing behind it."""
    if stand.state is State.STREAMING:
        await stand.said(stand.form.end)


# --- the gateway ------------------------------------------------------------------------------------------


async def open_breaker(stand: Scene) -> None:
    """Our own probes fail."""
    for _ in range(DIALS_TO_OPEN):
        stand.gate.parts.health.probed(up=False)
    if stand.state is State.AUTH:
        await stand.go_on()


async def fill_queue(stand: Scene) -> None:
    """One call runs and one waits when the body is whole."""
    stand.crowd = True
    for who in ("carol", "alice"):
        wire = await stand.stack.enter_async_context(dial(stand.gate.port))
        await wire.send(post(stand.gate, "/api/chat", chat(), f"User-Agent: {OTHER}/8", who=who))
        if who == "carol":
            stand.holder = await stand.ollama.call()
    await stand.gate.waiting(1)
    await stand.wire.send(stand.late)


class Quiet:
    """A service manager that is not there."""

    def reloading(self) -> None:
        """Nobody is told."""

    def serving(self) -> None:
        """Nobody is told."""


def reload(*, good: bool) -> Strike:
    """Returns a reload, of settings that hold or of some that do not."""

    async def strike(stand: Scene) -> None:
        parts = stand.gate.parts

        def read() -> tuple[Config, KeyRing]:
            if not good:
                raise ConfigErrors((Problem(source="config.toml", message="is wrong"),))
            limits = structs.replace(parts.config.ollama, first_byte_timeout=0.4, connect_timeout=0.3)
            config = structs.replace(parts.config, ollama=limits)
            return (config if stand.state is State.AUTH else parts.config), parts.ring

        await Reload(parts, stand.gate.running.life, read, Quiet()).once()
        assert parts.config_rejected is not good
        if good and stand.state is State.AUTH:
            await stand.go_on()
            stand.call = await stand.ollama.call()

    return strike


def drain(grace_s: float) -> Strike:
    """Returns a drain with so much time for running answers."""

    async def strike(stand: Scene) -> None:
        task = asyncio.ensure_future(stand.gate.running.drain(grace_s))

        async def ended() -> None:
            await stand.end_holder()
            await task

        stand.stack.push_async_callback(ended)
        await asyncio.sleep(0)

    return strike


async def revoke(stand: Scene) -> None:
    """The key file says so, and the gateway has read it."""
    gate = stand.gate
    ids = [record.id for record in gate.parts.ring.records if record.name == "alice"]
    gate.key_file.edit(lambda ring: ring.changed(ids, revoked=datetime.now(UTC)))
    await gate.until(lambda: not gate.parts.ring.active(ids[0], datetime.now(UTC)))
    if stand.state is State.AUTH:
        await stand.go_on()


async def lock_ledger(stand: Scene) -> None:
    """Somebody else writes into it, for longer than the answer takes."""
    path = stand.gate.key_file.path.parent / "ledger.db"
    other = stand.stack.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
    other.execute("BEGIN IMMEDIATE")


async def stand_still(stand: Scene) -> None:
    """What comes next is there when the process goes on; so is the end of every limit."""
    if stand.state is State.AUTH:
        stand.wire.send_what_fits(stand.late)
        stand.late = b""
    elif stand.state in (State.WAITING, State.STREAMING):
        assert stand.call is not None
        begun = stand.state is State.STREAMING
        piece, end = stand.form.piece, stand.form.end
        stand.sent += piece + end
        stand.call.push((b"" if begun else stand.form.head) + chunk(piece) + chunk(end) + LAST_CHUNK)
    time.sleep(STILL_S)  # noqa: ASYNC251 - that is the fault


async def fail(stand: Scene) -> None:
    """Something of ours raises, on the way of the call from where it is."""
    parts, patch = stand.gate.parts, stand.patch

    def bug(*_args: object, **_fields: object) -> None:
        raise RuntimeError("a fault of ours")

    match stand.state:
        case State.AUTH:
            patch.setattr(parts.monitor, "knows", bug)
            await stand.go_on()
        case State.QUEUED:
            parts.slots.withdraw(stand.living()[0].request_id, RuntimeError("a fault of ours"))  # type: ignore[arg-type]
        case State.GRANTED:
            patch.setattr(upstream, "HttpExchange", bug)
            await stand.go_on()
        case State.CONNECTING:
            patch.setattr(LiveCall, "sent", bug)
            await stand.go_on()
        case State.WAITING:
            patch.setattr(LiveCall, "first_byte", bug)
            assert stand.call is not None
            await stand.call.send(stand.form.head, chunk(stand.form.piece))
        case State.STREAMING:
            patch.setattr(UsageTap, "feed", bug)
            await stand.said(stand.form.piece)
        case State.FINISHING:
            patch.setattr(Gateway, "_note_end", bug)


def step_clock(seconds: float) -> Strike:
    """Returns a step of the wall clock."""

    async def strike(stand: Scene) -> None:
        gate, now = stand.gate, time.time
        gate.began = min(gate.began, gate.began + seconds)  # or the ledger would be asked for later rows only
        for where, name in ((time, "time"), (gate.parts.gateway, "_wall")):
            stand.patch.setattr(where, name, lambda: now() + seconds)

    return strike


async def use_up_descriptors(stand: Scene) -> None:
    """None is free; a new client connects all the same, and is answered once there are some again."""
    sock = socket.socket()
    sock.setblocking(False)
    waiting = Wire(sock)
    stand.stack.callback(waiting.close)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
    taken: list[int] = []

    async def give_back() -> None:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        waiting.send_what_fits(head("GET", "/healthz", "Connection: close"))
        assert statuses(await waiting.rest()) == [200]

    stand.stack.push_async_callback(give_back)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most + 1, before[1]))
    with suppress(OSError):
        while True:
            taken.append(os.dup(0))
    sock.connect_ex(("127.0.0.1", stand.gate.port))
    if stand.state in (State.AUTH, State.GRANTED):
        await stand.go_on()


STRIKES: dict[str, Strike] = {
    "F1 fin": acting(lambda stand: stand.wire.close()),
    "F1 rst": acting(lambda stand: stand.wire.reset()),
    "F2": acting(lambda stand: stand.wire.half_close()),
    "F3": vanish,
    "F4": stop_reading,
    "F5": dribble,
    "F6": ask_again,
    "F7": refuse,
    "F8": hang,
    "F9 fin": from_ollama(then="close"),
    "F9 rst": from_ollama(then="reset"),
    "F10": from_ollama(then="reset"),
    "F11": by_state(from_ollama(b"SSH-2.0-x\r\n\r\n"), from_ollama(b"zz\r\n")),
    "F12": from_ollama(document(NOT_FOUND, status=b"404 Not Found")),
    "F13": by_state(from_ollama(document(FAILED, status=b"500 Internal Server Error")), error_record),
    "F14": busy_twice,
    "F15": nothing,
    "F16": nothing,
    "F17": go_on_and_on,
    "F18 ended": by_state(from_ollama(CHUNKED, LAST_CHUNK), from_ollama(LAST_CHUNK)),
    "F18 closed": by_state(from_ollama(CHUNKED, then="close"), from_ollama(b"fff\r\n{", then="close")),
    "F19": no_end_of_message,
    "F20": by_state(
        from_ollama(CHUNKED, chunk(b"x" * (LINE_MAX + 1))), from_ollama(chunk(b"x" * (LINE_MAX + 1)))
    ),
    "F21": open_breaker,
    "F22": nothing,
    "F23": fill_queue,
    "F24": reload(good=True),
    "F25": reload(good=False),
    "F26 in time": drain(60.0),
    "F26 cut": drain(0.2),
    "F28 finish": revoke,
    "F28 cut": revoke,
    "F29": lock_ledger,
    "F30": stand_still,
    "F31": fail,
    "F32 on": step_clock(DAY_S),
    "F32 back": step_clock(-DAY_S),
    "F33": use_up_descriptors,
    "F34": nothing,
}
TAILS = {"F11": b"zz\r\n"}
"""What comes in one piece with the last record."""
