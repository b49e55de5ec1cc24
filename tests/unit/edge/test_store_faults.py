"""A disk that takes nothing: rows wait, the loop does not, and everything is told."""

import asyncio
import json
import os
import sqlite3
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gpushare.core.errors import LedgerUnavailable
from gpushare.core.model import Outcome, Principal
from gpushare.edge.beside import NAME as BESIDE
from gpushare.edge.store import READERS, Store, schema
from tests.harness import PATIENCE_S
from tests.unit.edge.test_store import Clock, Reports, admission, call, make, rows
from tests.unit.source import ROOT

LIMIT = 10
NOBODY = 65_534
COUNT = "SELECT count(*) FROM calls"


async def until(store: Store, *, writable: bool) -> None:
    """Waits until the ledger works, or until it has noticed that it does not."""
    while store.state.writable is not writable:
        await asyncio.sleep(0.002)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else holds the write lock for the block."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@pytest.fixture
async def reports() -> Reports:
    """What the ledger tells."""
    return Reports()


@pytest.fixture
async def store(tmp_path: Path, reports: Reports, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    """An open ledger in which only a few rows may wait, and that soon gives up waiting for a lock."""
    monkeypatch.setattr(schema, "BUSY_S", 0.1)
    ledger = Store(tmp_path / "ledger.db", keep_s=1e10, report=reports, limit=LIMIT)
    await ledger.open()
    yield ledger
    await ledger.close()


async def test_a_locked_file_only_delays(store: Store, reports: Reports) -> None:
    """Rows wait, in order and counted; the loop turns all the while; then they are written."""
    with locked(store.path):
        for number in range(5):
            store.append(call(number))
        turns = 0
        while not reports:
            turns += 1
            await asyncio.sleep(0)
        assert turns > 1000
        assert (reports[0][0], reports[0][1]["reason"]) == ("ledger.failed", "SQLITE_BUSY")
        assert (store.state.waiting, store.state.written) == (5, 0)
        assert await store.calls(0, list) == []
    await store.flush()
    assert store.state.writable
    assert [record.request_id for record in await store.calls(0, list)] == [
        f"r_{number}" for number in range(5)
    ]
    assert reports.events == ["ledger.failed", "ledger.recovered"]


async def test_a_disk_that_takes_nothing_is_not_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What admins did is shown as far as it is written; who looks waits for no other."""
    monkeypatch.setattr("gpushare.edge.store.FRESH_S", 3600.0)
    who = Principal(key_id="7f3a2c", name="root", owner="7f3a2c")
    store.note_action(who, "queue pause")
    assert [action.what for action in await store.actions(5)] == ["queue pause"]
    with locked(store.path):
        store.note_action(who, "queue resume")
        await until(store, writable=False)
        async with asyncio.timeout(30):
            assert [action.what for action in await store.actions(5)] == ["queue pause"]


async def test_a_failure_ends_no_call(store: Store, reports: Reports) -> None:
    """After a failure the file is opened anew; what runs meanwhile is not taken for what a crash left."""
    store.admitted(admission(1))
    await store.flush()
    with locked(store.path):
        store.admitted(admission(2))
        await until(store, writable=False)
    await store.flush()
    assert rows(store.path, "SELECT request_id FROM running") == [("r_1",), ("r_2",)]
    for number in (1, 2):
        store.append(call(number))
    await store.flush()
    assert {record.outcome for record in await store.calls(0, list)} == {Outcome.OK}
    assert "calls.lost" not in reports.events


async def test_a_silent_thread_is_no_ledger(tmp_path: Path) -> None:
    """Even if nothing has failed: whoever has not come round for long does not write."""
    clock = Clock()
    store = make(tmp_path / "ledger.db", clock=clock)
    await store.open()
    await store.flush()
    await until(store, writable=True)
    clock.now += 60.0
    while (state := store.state).writable:  # it comes round by itself, and may have done so just now
        clock.now += 60.0
    assert state.answered_s >= 60.0
    await store.close()


async def test_what_waits_is_bounded_and_the_oldest_goes(store: Store, reports: Reports) -> None:
    """A disk that is full for a week costs rows, never memory; how many is known."""
    with locked(store.path):
        for number in range(100):
            store.append(call(number))
        await until(store, writable=False)
        assert store.state.waiting == LIMIT
    await store.flush()
    assert [record.request_id for record in await store.calls(0, list)] == [f"r_{n}" for n in range(90, 100)]
    assert store.state.lost == 90
    assert reports.events.count("ledger.overflowed") == 1


async def test_a_failure_is_told_once_a_minute(tmp_path: Path, reports: Reports) -> None:
    """A disk that fails each round does not fill the log, which may lie on the same disk."""
    store = Store(tmp_path / "later" / "ledger.db", keep_s=1e10, report=reports)
    await store.open()
    rounds, ago = 0, store.state.answered_s
    while rounds < 2:
        await asyncio.sleep(0.002)
        before, ago = ago, store.state.answered_s
        rounds += ago < before
    assert reports == [("ledger.failed", {"reason": "FileNotFoundError", "waiting": 0})]
    await store.close()


async def test_a_refusal_displaces_no_call(store: Store) -> None:
    """A flood of refusals has a place of its own."""
    with locked(store.path):
        store.append(call(1))
        for number in range(1000):
            store.append(replace(call(number), admitted=False, key_id=f"{number:06x}", outcome="invalid"))
        await until(store, writable=False)
    await store.flush()
    assert [record.request_id for record in await store.calls(0, list)] == ["r_1"]


async def test_a_folder_that_comes_later(tmp_path: Path) -> None:
    """At the start too, a place that takes no file is waited for."""
    reports = Reports()
    store = make(tmp_path / "later" / "ledger.db", reports)
    assert await store.open() == 0
    store.append(call(1))
    assert not store.state.writable
    store.path.parent.mkdir()
    await store.flush()
    assert rows(store.path, COUNT) == [(1,)]
    assert reports.events == ["ledger.failed", "ledger.recovered"]
    await store.close()


async def test_a_file_that_was_moved_away(store: Store, reports: Reports) -> None:
    """Rows never go where nobody finds them: a new ledger is begun."""
    store.append(call(1))
    await store.flush()
    moved = store.path.rename(store.path.with_name("old.db"))
    for suffix in ("-wal", "-shm"):
        os.rename(f"{store.path}{suffix}", f"{moved}{suffix}")  # noqa: PTH104 - shorter so
    store.append(call(2))
    await store.flush()
    assert (rows(moved, COUNT), rows(store.path, COUNT)) == ([(1,)], [(1,)])
    assert reports.events == ["ledger.failed", "ledger.recovered"]


async def test_a_file_that_must_not_be_used_any_more(tmp_path: Path) -> None:
    """If it turns out so while the server runs, the log says why, and rows wait."""
    reports, clock = Reports(), Clock()
    store = make(tmp_path / "later" / "ledger.db", reports, clock=clock)
    await store.open()
    ready = tmp_path / "ready"
    ready.mkdir()
    (ready / store.path.name).symlink_to(tmp_path / "elsewhere")
    ready.rename(store.path.parent)  # at once, since the writer may look at any moment
    store.append(call(1))
    clock.now += 61.0
    while len(reports) < 2:
        await asyncio.sleep(0.002)
    assert (reports[1][0], reports[1][1]["reason"]) == ("ledger.failed", "is not a plain file")
    store.path.unlink()
    await store.flush()
    assert rows(store.path, COUNT) == [(1,)]
    await store.close()


async def test_what_cannot_be_read_is_an_error_of_ours(store: Store) -> None:
    """Who asks for figures gets a refusal with a time to come back, not a fault."""
    await store.flush()
    store.path.rename(store.path.with_name("old.db"))
    store.path.mkdir()
    with pytest.raises(LedgerUnavailable):
        await store.calls(0, list)
    store.path.rmdir()


async def test_a_row_that_cannot_be_written_stops_nothing(store: Store, reports: Reports) -> None:
    """Whatever a fault of ours put into a row, later rows are written, and the loss is counted."""
    store.append(replace(call(1), tool="\ud800"))
    await store.flush()
    store.append(call(2))
    await store.flush()
    assert [record.request_id for record in await store.calls(0, list)] == ["r_2"]
    assert store.state.lost == 1
    assert reports[0] == ("ledger.failed", {"reason": "UnicodeEncodeError", "waiting": 0})


async def test_a_thread_that_hangs_is_seen(tmp_path: Path) -> None:
    """The loop goes on, what waits is bounded, and the watchdog can tell."""
    hanging, release = threading.Event(), threading.Event()

    def hang(event: str, fields: dict[str, object]) -> None:
        """Stands in for a disk that does not come back."""
        hanging.set()
        release.wait()

    clock = Clock()
    store = Store(tmp_path / "later" / "ledger.db", keep_s=1e10, report=hang, clock=clock, limit=LIMIT)
    opening = asyncio.ensure_future(store.open())
    while not hanging.is_set():
        await asyncio.sleep(0.002)
    for number in range(100):
        store.append(call(number))
    assert store.state.waiting == LIMIT
    assert store.state.lost == 90
    before = store.answering
    clock.now += 60.0
    assert (before, store.answering) == (True, False)
    assert (store.state.writable, store.state.lag_s) == (False, 60.0)
    release.set()
    await opening
    await store.close()


async def test_a_disk_that_hangs_while_it_is_read_holds_up_no_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger closes, and nobody waits for the threads, however many had asked."""
    release = threading.Event()

    def hang(path: Path) -> sqlite3.Connection:
        release.wait()
        return schema.open_reader(path)

    monkeypatch.setattr("gpushare.edge.store.open_reader", hang)
    asked = [asyncio.create_task(store.calls(0, list)) for _ in range(9)]
    await asyncio.sleep(0)
    reading = [thread for thread in threading.enumerate() if thread.name == BESIDE]
    assert len(reading) == READERS
    assert all(thread.daemon for thread in reading)
    await store.close()
    release.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(answer) for answer in answers[READERS:]} == {LedgerUnavailable}


async def test_nobody_waits_for_ever_for_a_disk_that_hangs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P19: a page is told that the figures cannot be read, whether it reads or waits for its turn to."""
    release = threading.Event()
    monkeypatch.setattr("gpushare.edge.store.open_reader", lambda _: release.wait())
    monkeypatch.setattr("gpushare.edge.store.READ_S", 0.01)
    asked = [asyncio.create_task(store.own_calls("anna", 0)) for _ in range(READERS + 1)]
    done, waiting = await asyncio.wait(asked, timeout=PATIENCE_S)
    release.set()
    assert not waiting
    assert {type(task.exception()) for task in done} == {LedgerUnavailable}


# --- in a process of its own ------------------------------------------------------------------------------


class Child:
    """A process with a ledger; see ``ledger_child.py``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def tell(self, word: str, value: int = 0) -> dict[str, Any]:
        """Gives an order and returns how the ledger is doing after it."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{word} {value}\n".encode())
        answer: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return answer

    async def until(self, *, writable: bool) -> dict[str, Any]:
        """Waits until the ledger works, or until it has noticed that it does not."""
        while (state := await self.tell("state"))["writable"] is not writable:
            await asyncio.sleep(0.01)
        return state


@asynccontextmanager
async def child(path: Path, *, user: int = 0) -> AsyncIterator[Child]:
    """Runs a process with a ledger."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.unit.edge.ledger_child", str(path), str(user)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield Child(process)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined] # noqa: SLF001 - or it is closed too late


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can reach."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        yield folder
        folder.chmod(0o755)


async def test_a_full_disk_only_delays(tmp_path: Path) -> None:
    """P27: with no space left rows wait; with space again they are all there."""
    path = tmp_path / "ledger.db"
    async with child(path) as process:
        await process.tell("add", 10)
        await process.until(writable=True)
        await process.tell("limit", 4096)
        await process.tell("add", 500)
        state = await process.until(writable=False)
        assert state["lost"] == 0
        assert state["waiting"] >= 500
        await process.tell("limit", 0)
        await process.until(writable=True)
        state = await process.tell("end")
    assert (state["lost"], state["events"]) == (0, ["ledger.failed", "ledger.recovered"])
    assert rows(path, COUNT) == [(510,)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


async def test_a_folder_one_may_not_write_in_only_delays(open_folder: Path) -> None:
    """P27: a state directory that is read-only at the start is waited for."""
    path = open_folder / "ledger.db"
    os.chmod(open_folder, 0o555)  # noqa: PTH101 - nothing that blocks
    async with child(path, user=NOBODY if os.geteuid() == 0 else 0) as process:
        await process.tell("add", 5)
        assert not (await process.tell("state"))["writable"]
        os.chmod(open_folder, 0o755)  # noqa: PTH101
        await process.until(writable=True)
        state = await process.tell("end")
    assert (state["lost"], state["written"]) == (0, 5)
    assert rows(path, COUNT) == [(5,)]
