"""What a service manager sees: readiness, reloads, the end, the watchdog, sockets that outlive a process."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gpushare.sim import SimOllama, State
from tests.conformance.tools import SERVE, Server, dial, environment, head, run_command, served
from tests.harness import chat
from tests.integration.manager import Manager, service_manager, slow_ollama
from tests.integration.process import PEOPLE, Client
from tests.integration.test_reload import hang_up
from tests.simulated import sim

__all__ = ["sim"]

NOBODY = "http://127.0.0.1:9"
"""An Ollama that is not there."""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """A service manager that listens."""
    with service_manager(tmp_path) as found:
        yield found


async def test_ready_once_it_listens_and_ollama_was_asked(tmp_path: Path, manager: Manager) -> None:
    """READY comes neither before the port is open nor before the first answer of Ollama's."""
    async with (
        slow_ollama() as ollama,
        served(tmp_path, ollama.url, people=PEOPLE, env=manager.env) as server,
    ):
        await ollama.asked.wait()
        async with dial(server.port):
            assert manager.pending() == []
        ollama.released.set()
        assert server.url in (await manager.heard("READY"))["STATUS"]


async def test_ready_without_ollama(tmp_path: Path, manager: Manager) -> None:
    """An Ollama that is down keeps nobody from the pages, so the service has started."""
    async with served(tmp_path, NOBODY, people=PEOPLE, env=manager.env):
        await manager.heard("READY")


async def test_a_reload_is_told_from_its_begin_to_its_end(tmp_path: Path, manager: Manager) -> None:
    """RELOADING with the time it began, then READY; what could not be taken is in the status."""
    async with served(tmp_path, NOBODY, people=PEOPLE, env=manager.env) as server:
        await manager.heard("READY")
        hang_up(server)
        assert (await manager.heard("RELOADING"))["MONOTONIC_USEC"].isdecimal()
        assert "cannot be used" not in (await manager.heard("READY"))["STATUS"]
        server.config.unlink()
        hang_up(server)
        await manager.heard("RELOADING")
        assert "cannot be used" in (await manager.heard("READY"))["STATUS"]
        server.terminate()
        assert (await manager.heard("STOPPING"))[
            "EXTEND_TIMEOUT_USEC"
        ] == "80000000"  # 60 s of grace, and 20 s
        assert await server.process.wait() == 0


async def test_the_watchdog_is_fed_while_all_is_well(tmp_path: Path, manager: Manager) -> None:
    """P40: as often as asked, from the loop: a process that is stopped feeds nothing."""
    env = {**manager.env, "WATCHDOG_USEC": "100000"}
    async with served(tmp_path, NOBODY, people=PEOPLE, env=env) as server:
        for _ in range(3):
            assert (await manager.heard("WATCHDOG"))["STATUS"].endswith(". 0 running, 0 waiting.")
        server.process.send_signal(signal.SIGSTOP)
        await stopped(server)
        manager.pending()
        assert manager.pending() == []
        server.process.send_signal(signal.SIGCONT)
        await manager.heard("WATCHDOG")


async def stopped(server: Server) -> None:
    """Waits until a process is stopped."""
    async with asyncio.timeout(30):
        while server.state() != "T":
            await asyncio.sleep(0.002)


# --- sockets that are handed over ---------------------------------------------------------------------------


class Hammer:
    """Calls on new connections, eight at a time; ``found`` says what came of each."""

    def __init__(self, port: int, key: str, tasks: asyncio.TaskGroup) -> None:
        self.found: list[str] = []
        self._port = port
        self._request = head("GET", "/api/version", f"Authorization: Bearer {key}", "Connection: close")
        self._enough = False
        self._tasks = [tasks.create_task(self._ask()) for _ in range(8)]

    async def answered(self, more: int) -> None:
        """Waits until so many further calls got what they asked for."""
        before = self.found.count("200")
        async with asyncio.timeout(30):
            while self.found.count("200") < before + more:
                await asyncio.sleep(0.002)

    async def stop(self) -> None:
        """Waits for the last answers."""
        self._enough = True
        await asyncio.wait(self._tasks)

    async def _ask(self) -> None:
        while not self._enough:
            try:
                async with dial(self._port) as wire:
                    await wire.send(self._request)
                    answer = await wire.rest()
            except OSError as error:
                self.found.append(type(error).__name__)
            else:
                self.found.append(answer.split(b" ")[1].decode() if answer else "closed without an answer")


async def test_a_restart_refuses_nobody(tmp_path: Path, sim: SimOllama) -> None:
    """P23: with a listener handed over, nobody is refused or cut while processes follow each other."""
    hammer = None
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        async with asyncio.TaskGroup() as tasks:
            for last in (False, False, False, True):
                people = PEOPLE if hammer is None else {}
                async with served(tmp_path, sim.url, people=people, listener=listener) as server:
                    hammer = hammer or Hammer(server.port, server.keys["alice"], tasks)
                    await hammer.answered(50)
                    if last:
                        await hammer.stop()
                    server.terminate()
                    assert await server.process.wait() == 0
    assert hammer is not None
    assert set(hammer.found) <= {"200", "503"}


async def test_who_connects_during_the_end_is_served_by_the_next(tmp_path: Path, sim: SimOllama) -> None:
    """P23: a process that closes down takes nobody from a listener that outlives it."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        async with (
            served(tmp_path, sim.url, people=PEOPLE, listener=listener) as server,
            aiohttp.ClientSession() as session,
            asyncio.TaskGroup() as tasks,
        ):
            client = Client(server, session)
            body = chat("#sim:tokens=4,fault=stall@2")
            running = tasks.create_task(client.ask("/api/chat", body, "alice"))
            entry = await sim.arrived(0, path="/api/chat")
            await entry.reached(State.STALLED)
            server.terminate()
            await server.said("server.draining")
            later = tasks.create_task(client.ask("/api/chat", chat(), "alice"))
            entry.resume()
            assert (await asyncio.shield(running))[2] == bytes(entry.answer)
            assert await server.process.wait() == 0
            assert not later.done()
            async with served(tmp_path, sim.url, people={}, listener=listener):
                assert (await asyncio.shield(later))[0] == 200


@pytest.mark.parametrize("handed_over", [True, False])
async def test_who_has_just_connected_is_answered(
    tmp_path: Path,
    sim: SimOllama,
    handed_over: bool,  # noqa: FBT001 - a parameter
) -> None:
    """P22, P23: a connection that was taken has an answer before it is closed, even in an idle server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        handed = listener if handed_over else None
        async with (
            served(tmp_path, sim.url, people=PEOPLE, listener=handed) as server,
            aiohttp.ClientSession() as session,
            dial(server.port) as wire,
        ):
            await Client(server, session).ask("/api/chat", chat(), "alice")  # so the one before is taken too
            server.terminate()
            await server.said("server.draining")
            key = f"Authorization: Bearer {server.keys['alice']}"
            await wire.send(head("GET", "/api/version", key))
            answer = await wire.rest()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"Connection: close\r\n" in answer
            assert await server.process.wait() == 0


async def test_what_the_manager_hands_over_is_listened_on(tmp_path: Path, sim: SimOllama) -> None:
    """The socket decides where the server is; where the settings say otherwise, the log says so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with (
            served(tmp_path, sim.url, people=PEOPLE, listener=listener) as server,
            aiohttp.ClientSession() as session,
        ):
            assert server.port == listener.getsockname()[1]
            assert (await server.said("listen.overruled"))["address"] == server.url
            assert (await Client(server, session).ask("/api/chat", chat(), "alice"))[0] == 200
            patience_ms = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert patience_ms == 30_000  # accepted connections inherit it


# --- one server for each state directory --------------------------------------------------------------------


async def refused(folder: Path) -> str:
    """Starts a server that must not start, with exit status 1 or 3, and returns what it says."""
    code, said = await run_command("serve", "-c", str(folder / "config.toml"), "-l", "127.0.0.1:0")
    assert code in (1, 3)
    return said


async def test_a_second_server_is_refused(tmp_path: Path) -> None:
    """P25: one line names the state directory and who has it; a server that was killed has it no longer."""
    async with served(tmp_path, NOBODY, people=PEOPLE) as server:
        said = await refused(tmp_path)
        state = tmp_path / "state"
        assert f"another gpushare (process {server.process.pid}) uses the state directory {state}" in said
        assert "Traceback" not in said
        server.process.kill()
        await server.process.wait()
        async with served(tmp_path, NOBODY, people={}) as other:
            assert other.process.returncode is None


@pytest.mark.parametrize(
    ("name", "mode", "said"),
    [
        ("state", 0o777, "others may write in the state directory"),
        ("config.toml", 0o666, "everybody may write in it"),
        ("state/keys.toml", 0o644, "others may read or write it"),
    ],
)
async def test_what_others_may_change_is_refused(tmp_path: Path, name: str, mode: int, said: str) -> None:
    """P25: a state directory, settings or keys that are open to others start nothing."""
    async with served(tmp_path, NOBODY, people=PEOPLE) as server:
        server.terminate()
        await server.process.wait()
    (tmp_path / name).chmod(mode)
    line, *_ = (await refused(tmp_path)).splitlines()
    assert line == f"error: {tmp_path / name}: {said}"


# --- where the log goes -------------------------------------------------------------------------------------


@asynccontextmanager
async def started(folder: Path, manager: Manager, stderr: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs a server whose log goes to a descriptor, with a configuration that was made before."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVE, "serve", "-c", str(folder / "config.toml"), "-l", "127.0.0.1:0"),
        env=environment(**manager.env),
        stderr=stderr,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
        child._transport.close()  # type: ignore[attr-defined] # noqa: SLF001 - or it is closed after the check


async def test_a_log_that_takes_nothing_stops_nobody(
    tmp_path: Path, sim: SimOllama, manager: Manager
) -> None:
    """P27: on a full disk the lines are lost, and calls are answered."""
    async with served(tmp_path, sim.url, people=PEOPLE) as server:
        key = server.bearer("alice")
        server.terminate()
        await server.process.wait()
    with open("/dev/full", "w") as full:  # noqa: ASYNC230, PTH123 - a device
        async with started(tmp_path, manager, full.fileno()) as child, aiohttp.ClientSession() as session:
            url = (await manager.heard("READY"))["STATUS"].removeprefix("Serving on ").rstrip(".")
            async with session.post(url + "/api/chat", json=chat("#sim:tokens=9"), headers=key) as answer:
                body = await answer.read()
            entry = await sim.arrived(0, path="/api/chat")
            assert body == bytes(entry.answer)
            child.send_signal(signal.SIGTERM)
            assert await child.wait() == 0


async def test_a_terminal_that_is_gone_ends_its_server(tmp_path: Path, manager: Manager) -> None:
    """P22: SIGHUP reloads, but from a terminal that somebody has closed it means what it always did."""
    async with served(tmp_path, NOBODY, people=PEOPLE) as server:
        server.terminate()
        await server.process.wait()
    terminal, end = os.openpty()
    async with started(tmp_path, manager, end) as child:
        os.close(end)
        await manager.heard("READY")
        child.send_signal(signal.SIGHUP)
        await manager.heard("RELOADING")
        await manager.heard("READY")
        os.close(terminal)
        child.send_signal(signal.SIGHUP)
        assert await child.wait() == 0
