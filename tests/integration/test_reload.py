"""SIGHUP: settings and keys are taken into use whole or not at all, and no call notices."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from gpushare.edge.files import KeyFile
from gpushare.sim import Entry, SimOllama, State
from tests.conformance.tools import Server, body_of, run_command
from tests.harness import chat
from tests.integration.process import Client, process, streaming

STALL = "#sim:tokens=4,fault=stall@2"


def rewrite(server: Server, settings: str) -> None:
    """Puts other settings into the file, besides those every test needs."""
    kept = server.config.read_text().split("[server]")[0].split("[queue]")[0].split("[auth]")[0]
    server.config.write_text(kept + settings)


def hang_up(server: Server) -> None:
    """Asks for a reload, as ``systemctl reload`` does."""
    server.process.send_signal(signal.SIGHUP)


async def second(sim: SimOllama) -> Entry:
    """Returns the next streaming call once it stalls."""
    entry = await sim.arrived(1, path="/api/chat")
    await entry.reached(State.STALLED)
    return entry


async def test_a_slot_more_acts_at_once(tmp_path: Path) -> None:
    """P21: a reload that adds a slot lets the waiting call start; the running answer passes byte for byte."""
    async with streaming(tmp_path) as (server, client, entry, running), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(client.ask("/api/chat", chat(), "bob"))
        await client.settled(waiting=1)
        rewrite(server, "[queue]\nslots = 2\n[server]\nshutdown_grace = '30s'\n")
        hang_up(server)
        assert (await server.said("config.loaded"))["changed"] == ["server.shutdown_grace", "queue.slots"]
        assert (await asyncio.shield(waiting))[0] == 200
        assert not running.done()
        entry.resume()
        assert (await asyncio.shield(running))[2] == bytes(entry.answer)
        server.terminate()
        assert await server.process.wait() == 0


async def test_fewer_slots_interrupt_nobody(tmp_path: Path) -> None:
    """P2: a slot that is taken away is not granted again; who holds or waits keeps what they have."""
    async with (
        process(tmp_path, "[queue]\nslots = 2\n") as (server, sim),
        aiohttp.ClientSession() as session,
        asyncio.TaskGroup() as tasks,
    ):
        client = Client(server, session)
        body = body_of("/api/chat", STALL, stream=True)
        running = [tasks.create_task(client.ask("/api/chat", body, who)) for who in ("alice", "bob")]
        entries = [await sim.arrived(number, path="/api/chat") for number in (0, 1)]
        for entry in entries:
            await entry.reached(State.STALLED)
        waiting = tasks.create_task(client.ask("/api/chat", chat(), "alice"))
        await client.settled(waiting=1)
        rewrite(server, "[queue]\nslots = 1\n")
        hang_up(server)
        await server.said("config.loaded")
        entries[0].resume()
        await server.said("request.done")
        await client.settled(waiting=1)
        assert sum(entry.path == "/api/chat" for entry in sim.log) == 2
        entries[1].resume()
        assert (await asyncio.shield(waiting))[0] == 200
        assert [task.result()[2] for task in running] in (
            [bytes(entry.answer) for entry in entries],
            [bytes(entry.answer) for entry in reversed(entries)],
        )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda config: config.write_text("[queue]\nslots = 'two'\nmax_wiat = '1m'\n"), "queue.slots"),
        (lambda config: config.write_text("[queue"), ":1:7"),
        (Path.unlink, "cannot be read (No such file or directory)"),
    ],
    ids=["values", "syntax", "removed"],
)
async def test_a_broken_file_changes_nothing(
    tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    """P21: the log says all that is wrong, and everything goes on with the settings from before."""
    async with streaming(tmp_path) as (server, client, entry, running):
        before = server.config.read_text()
        spoil(server.config)
        hang_up(server)
        line = await server.said("config.rejected")
        assert said in line["problems"][0]
        assert len(line["problems"]) == (2 if said == "queue.slots" else 1)
        code, stderr = await run_command("config", "check", "-c", str(server.config))
        assert (code, line["problems"][0] in stderr) == (3, True)
        assert not running.done()
        entry.resume()
        assert (await asyncio.shield(running))[2] == bytes(entry.answer)
        server.config.write_text(before)
        hang_up(server)
        assert (await server.said("config.loaded"))["changed"] == []
        assert (await client.ask("/api/chat", chat(), "bob"))[0] == 200


async def test_settings_that_hang_are_given_up(tmp_path: Path) -> None:
    """P21: nothing waits for them but a thread: not the answers, not the next reload, and not the end."""
    async with streaming(tmp_path) as (server, client, entry, running):
        before = server.config.read_text()
        server.config.unlink()
        os.mkfifo(server.config, 0o600)  # whoever opens it waits for a writer
        hang_up(server)
        assert (await client.ask("/api/tags", {}, "bob"))[0] == 405
        line = await server.said("config.rejected")
        assert line["problems"] == ["cannot be read within 5 s"]
        fifo = server.config.rename(tmp_path / "fifo")
        server.config.write_text(before)
        hang_up(server)
        await server.said("config.loaded")
        entry.resume()
        assert (await asyncio.shield(running))[2] == bytes(entry.answer)
        server.terminate()
        assert await server.process.wait() == 0
        assert fifo.is_fifo()


async def test_keys_with_mistakes_hold_back_the_settings(tmp_path: Path) -> None:
    """P21: both are taken or neither, so that no setting acts without the keys it came with."""
    async with streaming(tmp_path) as (server, client, entry, _), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(client.ask("/api/chat", chat(), "bob"))
        await client.settled(waiting=1)
        keys = tmp_path / "state" / "keys.toml"
        before = keys.read_text()
        keys.write_text("[[key]]\nname = 'eve'\n")
        rewrite(server, "[queue]\nslots = 2\n")
        hang_up(server)
        assert "keys.toml" in (await server.said("config.rejected"))["problems"][0]
        assert not waiting.done()
        keys.write_text(before)
        hang_up(server)
        await server.said("config.loaded")
        assert (await asyncio.shield(waiting))[0] == 200
        entry.resume()


async def test_a_reload_ends_revoked_keys(tmp_path: Path) -> None:
    """P32: keys that ended by the time of a reload leave with it, not at some later look."""
    async with (
        streaming(tmp_path, "[auth]\nrevoke_running = 'finish'\n") as (server, client, entry, running),
        asyncio.TaskGroup() as tasks,
    ):
        waiting = tasks.create_task(client.ask("/api/chat", chat(), "alice"))
        await client.settled(waiting=1)
        file = KeyFile(tmp_path / "state")
        file.edit(
            lambda ring: ring.changed(
                [record.id for record in ring.records if record.name == "alice"], revoked=datetime.now(UTC)
            )
        )
        rewrite(server, "[auth]\nrevoke_running = 'cut'\n")
        hang_up(server)
        await server.said("config.loaded")
        assert (await asyncio.shield(waiting))[0] == 401
        status, _, body = await asyncio.shield(running)
        assert (status, "error" in json.loads(body.splitlines()[-1])) == (200, True)
        await entry.reached(State.CANCELLED)


async def test_what_needs_a_restart_is_named_and_kept(tmp_path: Path) -> None:
    """P21: an address cannot change under its connections; the log says that it waits for a restart."""
    async with process(tmp_path) as (server, _), aiohttp.ClientSession() as session:
        text = server.config.read_text()
        server.config.write_text(
            f"{text}\n[metrics]\nenabled = false\n[queue]\nslots = 2\n".replace(
                "[ollama]\nurl", "[ollama]\ncloud = true\nurl"
            ).replace(f'dir = "{tmp_path}/state"', 'dir = "/nowhere"')
        )
        hang_up(server)
        line = await server.said("config.loaded")
        assert line["restart"] == ["state.dir"]
        assert line["changed"] == ["ollama.cloud", "queue.slots", "metrics.enabled"]
        async with session.get(server.url + "/metrics") as answer:
            assert answer.status == 404
        assert (await Client(server, session).ask("/api/chat", chat(), "alice"))[0] == 200
        server.config.write_text(text)  # its metrics are looked at in the end
        hang_up(server)
        await server.said("config.loaded", 2)


async def test_asking_twice_and_while_closing_down_is_harmless(tmp_path: Path) -> None:
    """P21: signals that come together are one reload or two; one that comes during the end does nothing."""
    async with streaming(tmp_path) as (server, client, entry, running):
        rewrite(server, "[log]\nlevel = 'debug'\n")
        hang_up(server)
        hang_up(server)
        await server.said("config.loaded")
        loads = [line["changed"] for line in server.log if line["event"] == "config.loaded"]
        assert loads[0] == ["log.level"]
        await client.ask("/nowhere", {}, "bob")
        await server.said("request.refused")
        server.terminate()
        await server.said("server.draining")
        loaded = sum(line["event"] == "config.loaded" for line in server.log)
        hang_up(server)
        entry.resume()
        assert (await asyncio.shield(running))[2] == bytes(entry.answer)
        assert await server.process.wait() == 0
        assert sum(line["event"] == "config.loaded" for line in server.log) == loaded
