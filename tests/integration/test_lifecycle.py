"""Start, changes of the key file while calls run, and the end of the process."""

import asyncio
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpushare.app import serving
from gpushare.core.keys import KeyRing
from gpushare.core.model import Role
from gpushare.sim import State
from tests.conformance import tools
from tests.conformance.tools import (
    body_of,
    busy,
    calls,
    dial,
    error_of,
    frames,
    head,
    run_command,
    served,
)
from tests.harness import Gate, chat, gateway
from tests.integration.process import PEOPLE, process, streaming
from tests.unit.web.wire import Wire, statuses
from tests.upstream import Connection, raw_ollama


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
async def test_a_signal_lets_running_answers_finish(tmp_path: Path, number: signal.Signals) -> None:
    """P22: the running answer is whole, the waiting and the new call are 503, and the exit status is 0."""
    async with streaming(tmp_path) as (server, client, entry, running), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(client.ask("/api/chat", chat(), "bob"))
        await client.settled(waiting=1)
        server.process.send_signal(number)
        status, headers, body = await asyncio.shield(waiting)
        assert status == 503
        assert 1 <= int(headers["Retry-After"]) <= 30
        assert "closing down" in error_of("/api/chat", body)
        status, headers, _ = await client.ask("/v1/chat/completions", chat(), "bob")
        assert (status, headers["Connection"]) == (503, "close")
        assert not running.done()
        entry.resume()
        assert (await asyncio.shield(running))[2] == bytes(entry.answer)
        assert await server.process.wait() == 0
    assert running.result()[2].splitlines()[-1].endswith(b"}")
    assert json.loads(running.result()[2].splitlines()[-1])["done"] is True


async def test_what_a_process_has_left_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P1, P36: the check at the end of every process finds a slot that is held, and a line without a row."""
    monkeypatch.setattr(tools, "REST_S", 0.0)
    async with streaming(tmp_path) as (server, _, entry, _):
        with pytest.raises(AssertionError, match="'slots_held': 1"):
            await server.rest()
        entry.resume()
        line = {"event": "request.done", "level": "info", "request": "r_0", "outcome": "ok"}
        server.log.append(line)
        assert ("r_0", "ok") in (await server.left())["log against ledger"]  # type: ignore[operator]
        server.log.remove(line)
        monkeypatch.undo()


async def test_a_second_signal_shortens_the_end(tmp_path: Path) -> None:
    """P22: on a second signal the answer that is still running is cut with an error it can be told by.

    The grace is far longer than any limit of this test: only the second signal can end the process in time.
    """
    settings, path = '[server]\nshutdown_grace = "10m"', "/v1/messages"
    async with streaming(tmp_path, settings, path) as (server, client, entry, running):
        server.terminate()
        async with asyncio.timeout(30):
            while (await client.ask("/api/chat", chat(), "bob"))[0] != 503:
                pass
        assert not running.done()
        server.terminate()
        status, _, body = await asyncio.shield(running)
        assert await server.process.wait() == 0
    assert status == 200
    assert body.startswith(bytes(entry.answer))
    (last,) = frames(body[len(entry.answer) :])
    assert "restarting" in str(last["error"])
    assert entry.cancelled


async def test_an_idle_server_ends_at_once(tmp_path: Path) -> None:
    """P22: with nothing to finish, the process ends by itself and its port is free again."""
    async with process(tmp_path, '[server]\nshutdown_grace = "10m"') as (server, _):
        server.terminate()
        async with asyncio.timeout(30):
            assert await server.process.wait() == 0
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", server.port))


HANGS = """
import os, time
from gpushare.app import examination
def check(path):
    os.write(2, b'{"event": "checking"}\\n')
    time.sleep(3600)
examination.check = check
"""
"""Runs in a server's process before it: reading its ledger through takes longer than any test."""


async def test_an_end_waits_for_no_examination(tmp_path: Path) -> None:
    """P22: somebody has looked at ``/admin``, and the disk does not answer."""
    people = {"root": {"role": Role.ADMIN}}
    async with served(tmp_path, "http://127.0.0.1:9", people=people, before=HANGS) as server:
        async with dial(server.port) as wire:
            key = f"Authorization: Bearer {server.keys['root']}"
            await wire.send(head("GET", "/admin", key, "Connection: close"))
            assert statuses(await wire.rest()) == [200]
        await server.said("checking")
        server.terminate()
        async with asyncio.timeout(30):
            assert await server.process.wait() == 0


@asynccontextmanager
async def uploading(
    folder: Path, framing: str, first: bytes, settings: str = ""
) -> AsyncIterator[tuple[tools.Server, Wire, Connection]]:
    """An admin has begun to send a model, and Ollama has the beginning of it."""
    people = {"root": {"role": Role.ADMIN}}
    async with (
        raw_ollama() as ollama,
        served(folder, ollama.url, people=people, settings=settings) as server,
    ):
        await server.said("ollama.up")
        async with dial(server.port) as wire:
            key, path = f"Authorization: Bearer {server.keys['root']}", f"/api/blobs/sha256:{'0' * 64}"
            await wire.send(head("POST", path, key, framing) + first)
            yield server, wire, await ollama.call()


async def test_an_upload_that_is_cut_is_not_ollama_s_fault(tmp_path: Path) -> None:
    """P22: an admin who sends a model when the grace is over is told that the server restarts."""
    settings = '[server]\nshutdown_grace = "100ms"'
    async with uploading(tmp_path, "Content-Length: 100000", b"x", settings) as (server, wire, _):
        server.terminate()
        answer = await wire.rest()
        assert await server.process.wait() == 0
    assert statuses(answer) == [503]
    assert b"restarting" in answer
    assert (await server.said("request.done"))["outcome"] == "drained"


async def test_an_upload_that_ollama_breaks_off_meanwhile_is_told_so(tmp_path: Path) -> None:
    """P22: within the grace an upload goes on, and what ends it then is what it is told."""
    async with uploading(tmp_path, "Content-Length: 100000", b"x") as (server, wire, sending):
        server.terminate()
        await server.said("server.draining")
        sending.reset()
        answer = await wire.rest()
        assert await server.process.wait() == 0
    assert statuses(answer) == [502]
    assert (await server.said("request.done"))["outcome"] == "upstream_reset"


async def test_an_upload_that_is_no_body_is_its_clients_fault(tmp_path: Path) -> None:
    """P17: Ollama is not blamed for chunks that are none."""
    chunk = b"5\r\nhello\r\n"
    async with uploading(tmp_path, "Transfer-Encoding: chunked", chunk) as (server, wire, sending):
        await wire.send(b"zz\r\n")
        answer = await wire.rest()
        await sending.gone()
        assert statuses(answer) == [400]
        assert (await server.said("request.done"))["outcome"] == "invalid"


async def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    """P25: who starts a second server on the same port reads which one, not a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        state = str(tmp_path / "state")
        code, said = await run_command("serve", "--listen", address, cwd=tmp_path, GPUSHARE_STATE__DIR=state)
    assert code == 1
    assert f"cannot listen on {address}" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("step_s", [86400, -86400])
async def test_a_step_of_the_wall_clock_ends_nothing(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, step_s: int
) -> None:
    """F32: deadlines run on another clock; who runs goes on, and who waits keeps the place."""
    async with busy(gate) as entry, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(gate.post("/api/chat", chat(), who="bob"))
        await gate.waiting(1)
        now = time.time
        gate.began = min(gate.began, gate.began + step_s)  # or the ledger would be asked for later rows only
        for where, name in ((time, "time"), (gate.parts.gateway, "_wall")):
            monkeypatch.setattr(where, name, lambda: now() + step_s)
        assert (await gate.request("GET", "/api/version"))[0] == 200
        status = json.loads((await gate.request("GET", "/gpushare/v1/status"))[2])
        assert (len(status["running"]), len(status["waiting"])) == (1, 1)
        assert not entry.ended
        entry.resume()
        assert (await asyncio.shield(waiting))[0] == 200
    assert entry.records == 4
    lines = [line for line in gate.logs if line["event"] == "request.done" and line["route"] == "/api/chat"]
    assert [line["outcome"] for line in lines] == ["ok", "ok"]
    assert all(0 <= line["total_s"] < 600 for line in lines)


async def test_without_descriptors_new_connections_wait(tmp_path: Path) -> None:
    """F33: who cannot be taken waits in the kernel, running answers go on, and the log is not flooded."""
    async with streaming(tmp_path, '[gpu]\nbackend = "none"\n') as (server, client, entry, running):
        held = {int(name) for name in os.listdir(f"/proc/{server.process.pid}/fd")}  # noqa: PTH208
        free = [
            number for number in range(max(held) + 6) if number not in held
        ]  # uvloop's children inherit some
        most = free[5]
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (most, most))
        async with AsyncExitStack() as stack:
            silent = [await stack.enter_async_context(dial(server.port)) for _ in range(20)]
            waiting = await stack.enter_async_context(dial(server.port))
            await waiting.send(head("GET", "/healthz", "Connection: close"))
            assert (await server.said("listen.paused"))["reason"] == "Too many open files"
            entry.resume()
            assert (await asyncio.shield(running))[2] == bytes(entry.answer)
            for wire in silent:
                wire.close()
            assert statuses(await waiting.rest()) == [200]
        assert (await client.ask("/api/chat", chat(), "bob"))[0] == 200
        reports = [line for line in server.log if line["event"] in ("listen.paused", "library.reported")]
        assert len(reports) <= 5
        server.terminate()
        assert await server.process.wait() == 0


async def test_as_many_descriptors_are_allowed_as_are_needed(tmp_path: Path) -> None:
    """F33: the limit of a login shell, which is meant for other programs, is raised."""
    code = "import os, resource, sys\nresource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096))\n"
    inside = (sys.executable, "-c", f"{code}os.execv(sys.argv[1], sys.argv[1:])")
    async with served(tmp_path, "http://127.0.0.1:9", people=PEOPLE, inside=inside) as server:
        assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (4096, 4096)


async def test_a_part_that_fails_ends_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours in what runs beside the calls is logged, and the calls go on."""

    async def bug(*_args: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(serving, "watch_disk", bug)
    async with gateway(tmp_path) as gate:
        await logged(gate, "task.failed")
        assert (await gate.post("/api/chat", chat()))[0] == 200


# --- the key file -----------------------------------------------------------------------------------------


def withdraw(gate: Gate, who: str, how: str) -> None:
    """Ends a key in the key file in one of the ways there are."""

    def change(ring: KeyRing) -> KeyRing:
        (record,) = [record for record in ring.records if record.name == who]
        if how == "removed":
            return KeyRing(each for each in ring.records if each is not record)
        ends: dict[str, object] = {"disabled": True} if how == "disabled" else {how: datetime.now(UTC)}
        return ring.changed([record.id], **ends)

    gate.key_file.edit(change)


async def logged(gate: Gate, event: str, count: int = 1) -> None:
    """Waits until something was logged so often."""
    await gate.until(lambda: sum(line["event"] == event for line in gate.logs) >= count)


async def test_a_new_key_works_while_others_run(gate: Gate) -> None:
    """P21: a key that is added acts at once; the answer that runs meanwhile is untouched."""
    async with busy(gate) as entry:
        gate.add_key("dave")
        await logged(gate, "keys.loaded")
        status, _, _ = await gate.request("GET", "/api/status", who="dave")
        assert status == 200
        assert not entry.ended
    assert entry.records == 4


@pytest.mark.parametrize("how", ["revoked", "disabled", "expires", "removed"])
@pytest.mark.parametrize("policy", ["finish", "cut"])
async def test_an_ended_key_leaves(tmp_path: Path, policy: str, how: str) -> None:
    """P32: however a key ends, its new and waiting calls are 401, and its running one is as configured."""
    async with gateway(tmp_path, settings=f'[auth]\nrevoke_running = "{policy}"') as gate:
        async with asyncio.TaskGroup() as tasks:
            text = "#sim:tokens=4,fault=stall@2"
            running = tasks.create_task(gate.post("/v1/messages", body_of("/v1/messages", text, stream=True)))
            entry = await gate.sim.arrived(0, path="/v1/messages")
            await entry.reached(State.STALLED)
            waiting = tasks.create_task(gate.post("/v1/chat/completions", chat()))
            other = tasks.create_task(gate.post("/api/chat", chat("stays"), who="bob"))
            await gate.waiting(2)
            withdraw(gate, "alice", how)
            status, headers, _ = await asyncio.shield(waiting)
            assert (status, "WWW-Authenticate" in headers) == (401, True)
            assert (await gate.post("/api/chat", chat()))[0] == 401
            assert not other.done() or policy == "cut"
            entry.resume() if policy == "finish" else await entry.reached(State.CANCELLED)
        assert other.result()[0] == 200
        last = frames(running.result()[2])[-1]
        assert last["type"] == ("message_stop" if policy == "finish" else "error")
        assert [entry.path for entry in calls(gate)] == ["/v1/messages", "/api/chat"]
        outcomes = [line["outcome"] for line in gate.logs if line["event"] == "request.done"]
        assert sorted(outcomes) == sorted(["revoked", "ok", "ok" if policy == "finish" else "revoked"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_text("[[key]]\nname = "),
        lambda path: path.write_text("[[key]]\nname = 'eve'\n"),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.chmod(0o644),
    ],
    ids=["syntax", "fields", "bytes", "readable"],
)
async def test_a_broken_key_file_changes_nothing(gate: Gate, spoil: Callable[[Path], object]) -> None:
    """P21: a key file that cannot be used is logged; the keys known before go on working."""
    async with busy(gate) as entry:
        before = gate.key_file.path.read_text()
        spoil(gate.key_file.path)
        os.utime(gate.key_file.path)
        await logged(gate, "keys.rejected")
        assert (await gate.request("GET", "/api/status"))[0] == 200
        assert not entry.ended
        gate.key_file.path.write_text(before)
        gate.key_file.path.chmod(0o600)
        await logged(gate, "keys.loaded")
    assert (await gate.post("/api/chat", chat()))[0] == 200


async def test_smaller_limits_spare_who_waits(gate: Gate) -> None:
    """P21: a limit lowered while calls wait refuses the next one, and takes nobody's place."""
    async with busy(gate), asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(gate.post("/api/chat", chat())) for _ in range(3)]
        await gate.waiting(3)
        (record,) = [record for record in gate.parts.ring.records if record.name == "alice"]
        gate.key_file.edit(lambda ring: ring.changed([record.id], max_waiting=1))
        await logged(gate, "keys.loaded")
        assert (await gate.post("/api/chat", chat()))[0] == 429
        assert len(gate.parts.slots.snapshot().waiting) == 3
        next(entry for entry in gate.sim.log if entry.state is State.STALLED).resume()
        assert [(await asyncio.shield(task))[0] for task in waiting] == [200, 200, 200]
