"""What calls used is written down once, agrees with log and counters, and outlives the process."""

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from gpushare.core.model import Outcome, Record
from gpushare.core.problems import ConfigErrors
from gpushare.edge.store.reading import calls
from gpushare.edge.store.schema import open_reader
from gpushare.sim import SimModel, State
from tests.conformance.tools import body_of, busy, know_models, served
from tests.harness import Gate, chat, gateway, running
from tests.integration.process import Client, process


def written(folder: Path) -> dict[str, Record]:
    """Returns the calls in a ledger, by their ids."""
    with closing(open_reader(folder / "ledger.db")) as connection:
        return {record.request_id: record for record in calls(connection, 0)}


async def test_a_row_says_what_the_log_line_and_the_metric_say(gate: Gate) -> None:
    """P36: outcome, person, tokens and times of a call are the same in all three, and so is its id."""
    status, headers, _ = await gate.post("/api/chat", chat("#sim:tokens=5"), who="bob")
    assert status == 200
    await gate.rest()
    (line,) = [line for line in gate.logs if line["event"] == "request.done"]
    row = written(gate.key_file.path.parent)[headers["X-Request-Id"]]
    assert (row.request_id, row.person, row.model, row.outcome, row.status, row.output_tokens) == (
        line["request"],
        "bob",
        line["model"],
        line["outcome"],
        line["status"],
        line["tokens_out"],
    )
    assert line["slot_s"] == round(row.slot_s, 3)
    assert line["waited_s"] == round(row.waited_s or 0.0, 3)
    assert gate.parts.stats.requests["/api/chat", Outcome.OK] == 1
    assert "gpushare_ledger_rows_total 1.0" in (await gate.request("GET", "/metrics"))[2].decode()


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages"])
async def test_a_load_counts_in_every_dialect(gate: Gate, path: str) -> None:
    """Only Ollama's own dialect says how long a load took; the swaps of a day count all of them."""
    await know_models(gate)
    gate.sim.store.put("n", SimModel(name="n", load_s=0.5))
    for model in ("n", "n"):
        assert (await gate.post(path, body_of(path, model=model)))[0] == 200
    await gate.rest()
    first, second = written(gate.key_file.path.parent).values()
    assert first.load_s is not None
    assert first.load_s > 0.2
    assert second.load_s is None
    day = gate.parts.stats.day(time.time())
    assert (day.swaps, day.loading_s) == (1, first.load_s)


async def test_tokens_of_an_answer_that_broke_off_are_unknown(gate: Gate) -> None:
    """Ollama counts at the end; what nobody counted is null and not 0, and those that are known count."""
    for who, prompt in (
        ("alice", "#sim:fault=reset@2"),
        ("bob", "#sim:fault=reset@2"),
        ("bob", "#sim:tokens=5"),
    ):
        await gate.post("/api/chat", chat(prompt), who=who)
    await gate.rest()
    _, _, body = await gate.request("GET", "/gpushare/v1/usage", who="root")
    used = {row["name"]: (row["requests"], row["tokens_out"]) for row in json.loads(body)["rows"]}
    assert used == {"alice": (1, None), "bob": (2, 5)}


async def test_energy_is_measured_where_the_power_is_known(tmp_path: Path) -> None:
    """Watts of the cards, for as long as the call had its slot."""
    async with gateway(tmp_path, gpu="fake") as gate:
        await gate.until(lambda: gate.parts.gpus is not None and gate.parts.gpus.view.watts is not None)
        await gate.post("/api/chat", chat("#sim:tokens=5"))
        await gate.rest()
        (row,) = written(tmp_path).values()
    assert row.energy_j is not None
    assert 0 < row.energy_j <= 376 * row.total_s


async def test_every_kind_of_end_has_its_row(gate: Gate) -> None:
    """P36: whole, refused, broken, cancelled and waited for in vain; ``Gate.rest`` compares them all."""
    await gate.post("/api/chat", chat())
    await gate.post("/v1/chat/completions", chat("#sim:fault=reset@2"))
    await gate.post("/api/chat", {"model": "nothing"})
    await gate.post("/api/chat", {"model": "m", "messages": 1})
    await gate.request("GET", "/api/tags")
    await gate.request("DELETE", "/api/delete", who="root", json={"model": "m"})
    async with busy(gate):
        assert (await gate.post("/api/chat", chat(), headers={"X-Gpushare-Max-Wait": "1"}))[0] == 429
    await gate.rest()
    outcomes = [row.outcome for row in written(gate.key_file.path.parent).values()]
    assert set(outcomes) >= {Outcome.OK, Outcome.UPSTREAM_RESET, Outcome.QUEUE_TIMEOUT}


async def test_figures_survive_a_restart(tmp_path: Path) -> None:
    """P26: the last day and each person's last call come from the ledger; counters begin anew."""
    async with gateway(tmp_path) as gate:
        for who in ("alice", "bob", "bob"):
            await gate.post("/api/chat", chat("#sim:tokens=3"), who=who)
        await gate.rest()
        stats = gate.parts.stats
        day, last = stats.day(gate.began), dict(stats.last)
        people = [(row.person, row.requests, row.slot_s) for row in day.persons]
    async with (
        running(gate.parts.config, gate.key_file) as server,
        aiohttp.ClientSession(headers=gate.bearer()) as session,
    ):
        stats = server.parts.stats
        again = stats.day(gate.began)
        assert [(row.person, row.requests, row.slot_s) for row in again.persons] == people
        assert (again.requests, again.wait_p95_s, again.hours) == (3, day.wait_p95_s, day.hours)
        assert stats.last == last
        assert last.keys() == {row.owner for row in gate.parts.ring.records if row.name in ("alice", "bob")}
        assert stats.requests.total() == 0
        async with session.get(f"{server.url}/gpushare/v1/status") as answer:
            assert (await answer.json())["day"]["requests"] == 3


async def test_a_ledger_that_cannot_be_written_is_told_and_stops_nobody(gate: Gate) -> None:
    """P27, P37: calls are served; the readiness probe and the metrics say what is wrong."""
    folder = gate.key_file.path.parent
    with closing(sqlite3.connect(folder / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert (await gate.post("/api/chat", chat()))[0] == 200
        while (await gate.request("GET", "/readyz", who=None))[0] != 503:
            pass
        assert (await gate.request("GET", "/readyz", who=None))[2] == b"ledger"
        assert (await gate.request("GET", "/healthz", who=None))[0] == 200
        assert (await gate.post("/api/chat", chat()))[0] == 200
        metrics = (await gate.request("GET", "/metrics"))[2].decode()
        assert "gpushare_ledger_writable 0.0" in metrics
        assert written(folder) == {}
    await gate.rest()
    assert len(written(folder)) == 2
    assert (await gate.request("GET", "/readyz", who=None))[2] == b"ok"


async def test_a_damaged_ledger_stops_the_start(tmp_path: Path) -> None:
    """P25: one line says which file and what to do; nothing listens and nothing is changed."""
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a ledger " * 1000)
    path.chmod(0o600)
    with pytest.raises(ConfigErrors, match=f"mv {path} {path}.damaged"):
        async with gateway(tmp_path):
            raise AssertionError
    assert path.read_bytes() == b"not a ledger " * 1000


# --- kill -9 ----------------------------------------------------------------------------------------------


async def test_what_waits_or_runs_when_the_process_is_killed_has_an_outcome(tmp_path: Path) -> None:
    """P24: after kill -9 every call has one outcome: its own, or ``lost_crash`` if it waited or ran."""
    stalled = body_of("/api/chat", "#sim:tokens=4,fault=stall@2", stream=True)
    state = tmp_path / "state"
    async with process(tmp_path) as (server, sim), aiohttp.ClientSession() as session:
        client = Client(server, session)
        done = [await client.ask("/api/chat", chat(), "alice") for _ in range(5)]
        tasks = [asyncio.ensure_future(client.ask("/api/chat", stalled, "alice"))]
        await (await sim.arrived(5, path="/api/chat")).reached(State.STALLED)
        tasks += [asyncio.ensure_future(client.ask("/api/chat", chat(), "bob")) for _ in range(2)]
        await client.settled(waiting=2)
        while len(written(state)) < 5 or notes(state) < 3:
            await asyncio.sleep(0.01)
        server.process.kill()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.process.wait()
        async with served(tmp_path, sim.url, people={}) as again:
            assert (await again.said("calls.lost"))["lost"] == 3
    rows = written(state)
    own = {name: row for name, row in rows.items() if row.outcome is Outcome.OK}
    assert own.keys() == {request_id(headers) for _, headers, _ in done}
    lost = [(row.person, row.outcome) for name, row in rows.items() if name not in own]
    assert sorted(lost) == [(who, Outcome.LOST_CRASH) for who in ("alice", "bob", "bob")]
    assert notes(state) == 0


@pytest.mark.parametrize("answers", [30, 100, 200])
async def test_a_process_killed_amid_traffic_loses_only_the_last_moment(tmp_path: Path, answers: int) -> None:
    """P24: no row older than a second is missing, none is there twice, and the file is whole.

    Two seconds are allowed for: where tests run the processor may be busy.
    """
    answered: dict[str, float] = {}
    state = tmp_path / "state"
    async with process(tmp_path) as (server, sim), aiohttp.ClientSession() as session:
        client = Client(server, session)

        async def keep_asking(who: str) -> None:
            while True:
                _, headers, _ = await client.ask("/api/chat", chat("#sim:tokens=2"), who)
                answered[request_id(headers)] = time.monotonic()

        tasks = [asyncio.ensure_future(keep_asking(who)) for who in ("alice", "bob", "bob")]
        while len(answered) < answers:
            await asyncio.sleep(0.001)
        if answers == 200:  # once long enough for the promise to mean something
            while time.monotonic() - min(answered.values()) < 2.5:
                await asyncio.sleep(0.01)
        server.process.kill()
        killed = time.monotonic()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.process.wait()
        async with served(tmp_path, sim.url, people={}):
            pass
    with closing(open_reader(state / "ledger.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    rows = written(state)
    old = {name for name, at in answered.items() if killed - at > 2.0}
    assert old or answers < 200
    assert {name for name in old if name not in rows or rows[name].outcome is not Outcome.OK} == set()
    assert {row.outcome for row in rows.values()} <= {Outcome.OK, Outcome.LOST_CRASH}
    assert notes(state) == 0


def request_id(headers: dict[str, str]) -> str:
    """Returns the id in the headers of an answer."""
    return {name.lower(): value for name, value in headers.items()}["x-request-id"]


def notes(folder: Path) -> int:
    """Returns how many calls a ledger notes as running."""
    with closing(open_reader(folder / "ledger.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM running").fetchone()[0])
