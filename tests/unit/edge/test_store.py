"""The ledger on a real disk, with its real threads."""

import asyncio
import os
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import astuple, replace

from gpushare.core import ledger
from gpushare.core.dialects import find_endpoint
from gpushare.core.errors import LedgerUnavailable
from gpushare.core.ledger import Admission
from gpushare.core.model import Outcome, Phase, Principal, Record
from gpushare.core.problems import ConfigErrors
from gpushare.edge.store import Store, check
from gpushare.edge.store.schema import MIGRATIONS, open_reader, open_writer
from tests.unit.records import CALL

NOON = 1_795_000_000.0
DAY_S = 86_400.0
ENDPOINT, _ = find_endpoint("POST", "/api/chat")
WHO = Principal(key_id="7f3a2c", name="bob", owner="7f3a2c")
Open = Callable[[], Store]


class Reports(list[tuple[str, dict[str, object]]]):
    """What a ledger had to tell."""

    def __call__(self, event: str, fields: dict[str, object]) -> None:
        self.append((event, fields))

    @property
    def events(self) -> list[str]:
        """The names alone."""
        return [event for event, _ in self]


class Clock:
    """Monotonic seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(
    path: Path, report: Reports | None = None, *, keep_s: float = 400 * DAY_S, clock: Clock | None = None
) -> Store:
    """Returns a ledger that is not open."""
    report = Reports() if report is None else report
    return Store(path, keep_s=keep_s, report=report, clock=clock or Clock(), wall=lambda: NOON)


def call(number: int, **fields: object) -> Record:
    """Returns a call that ended at noon."""
    return replace(CALL, **{"request_id": f"r_{number}", "ended_at": NOON, "owner": "7f3a2c", **fields})


def admission(number: int) -> Admission:
    """Returns the admission of such a call."""
    return Admission(
        request_id=f"r_{number}", who=WHO, tool="curl", endpoint=ENDPOINT, model="qwen3:8b", at=NOON
    )


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    """Returns what somebody else finds in the file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An open ledger."""
    ledger = make(tmp_path / "ledger.db")
    await ledger.open()
    yield ledger
    await ledger.close()


async def test_a_call_comes_back_as_it_was(store: Store) -> None:
    """Every field of the record is kept, unknown ones as unknown."""
    full = call(
        1,
        connect_s=0.1,
        records=7,
        swap=True,
        delivered=False,
        suspect=True,
        energy_j=12.5,
        phase=Phase.FIRST,
    )
    bare = call(2, waited_s=None, first_s=None, load_s=None, input_tokens=None, output_tokens=None)
    store.append(full)
    store.append(bare)
    await store.flush()
    assert await store.calls(NOON, list) == [full, bare]
    assert await store.calls(NOON + 1, list) == []


def test_the_library_knows_how_to_write_every_value() -> None:
    """For a type it was told nothing of it tries several ways with each value, which costs most of a row."""
    plain = (str, int, float, type(None))
    known = {kind for kind, _ in sqlite3.adapters}
    begun = ledger.begun(
        Admission(request_id="r_1", who=WHO, tool="curl", endpoint=ENDPOINT, model="qwen3:8b", at=NOON)
    )
    kinds = {type(value) for row in (CALL, begun) for value in astuple(row)}
    assert kinds - known <= set(plain)
    assert {bool, Outcome} <= kinds


async def test_the_file_is_its_owners_alone(store: Store) -> None:
    """The ledger and the files SQLite keeps beside it can be read by nobody else."""
    store.append(call(1))
    await store.flush()
    files = [path for path in store.path.parent.iterdir() if path.name.startswith("ledger.db")]
    assert len(files) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


async def test_power_may_fail(store: Store) -> None:
    """Each commit is on the disk before it counts, in a log that readers do not wait for."""
    assert rows(store.path, "PRAGMA journal_mode") == [("wal",)]
    with closing(open_writer(store.path)) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


async def test_rows_are_written_without_being_asked(store: Store) -> None:
    """The thread looks by itself, so a row waits for it less than a second."""
    store.append(call(1))
    while not await store.calls(0, list):
        pass
    while not store.state.written:  # it counts a moment later
        await asyncio.sleep(0)


async def test_refusals_add_up_over_rounds(store: Store) -> None:
    """The sum of a minute grows with each round that has some."""
    refused = call(1, admitted=False, waited_s=None, outcome=Outcome.REJECTED_QUEUE_FULL)
    for _ in range(2):
        for _ in range(3):
            store.append(refused)
        await store.flush()
    found = rows(store.path, "SELECT minute, key_id, person, outcome, count FROM refusals")
    assert found == [(NOON // 60, "7f3a2c", "bob", "rejected_queue_full", 6)]


async def test_a_call_that_runs_is_noted_and_the_note_goes(store: Store) -> None:
    """As long as a call is in the server, the file knows of it."""
    store.admitted(admission(1))
    await store.flush()
    assert rows(store.path, "SELECT request_id, owner, queued FROM running") == [("r_1", "7f3a2c", 1)]
    store.append(call(1))
    await store.flush()
    assert rows(store.path, "SELECT * FROM running") == []
    assert [record.outcome for record in await store.calls(0, list)] == [Outcome.OK]


async def test_what_ran_when_the_process_died_has_an_outcome(tmp_path: Path) -> None:
    """The next process finds the notes, ends their calls as lost, and says how many; once."""
    path = tmp_path / "ledger.db"
    first = make(path)
    assert await first.open() == 0
    for number in range(3):
        first.admitted(admission(number))
    first.append(call(0))
    await first.flush()
    await first.close()
    reports = Reports()
    second = make(path, reports)
    assert await second.open() == 2
    assert reports == [("calls.lost", {"lost": 2})]
    found = {record.request_id: record for record in await second.calls(0, list)}
    assert {name: record.outcome for name, record in found.items()} == {
        "r_0": Outcome.OK,
        "r_1": Outcome.LOST_CRASH,
        "r_2": Outcome.LOST_CRASH,
    }
    lost = found["r_1"]
    assert (lost.person, lost.model, lost.ended_at, lost.waited_s) == ("bob", "qwen3:8b", NOON, None)
    assert lost.queued
    assert rows(path, "SELECT * FROM running") == []
    await second.close()
    third = make(path)
    assert await third.open() == 0
    await third.close()


async def test_a_row_is_never_written_twice(store: Store) -> None:
    """A commit may be told to have failed and yet be there; the next try changes nothing."""
    for _ in range(2):
        store.append(call(1))
        await store.flush()
    assert len(await store.calls(0, list)) == 1


async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    """Rows of the last moment are written, the thread ends, and no log is left beside the file."""
    ledger = make(tmp_path / "ledger.db")
    await ledger.open()
    for number in range(100):
        ledger.append(call(number))
    await ledger.close()
    assert rows(ledger.path, "SELECT count(*) FROM calls") == [(100,)]
    assert os.listdir(tmp_path) == ["ledger.db"]  # noqa: PTH208 - only the names matter
    assert "ledger" not in {thread.name for thread in threading.enumerate()}


async def test_closing_gives_up_what_is_being_read(store: Store) -> None:
    """A question that takes long holds up no end."""
    began = asyncio.Event()
    loop = asyncio.get_running_loop()

    def count_for_ever(connection: sqlite3.Connection) -> object:
        loop.call_soon_threadsafe(began.set)
        return connection.execute(
            "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
        ).fetchone()

    reading = asyncio.create_task(store._read(count_for_ever))  # noqa: SLF001 - no question of ours takes so long
    await began.wait()
    await store.close()
    with pytest.raises(LedgerUnavailable):
        await reading


async def test_a_ledger_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """Reading makes no file; a ledger that was never opened can be closed."""
    ledger = make(tmp_path / "ledger.db")
    ledger.append(call(1))
    assert await ledger.calls(0, list) == []
    assert not ledger.state.writable
    await ledger.close()
    assert not ledger.path.exists()


async def test_the_last_call_of_each_owner(store: Store) -> None:
    """The newest queued one of everybody, however old."""
    for number, (owner, ended_at) in enumerate([("aa", 5), ("aa", 7), ("bb", 1), ("aa", 6)]):
        store.append(call(number, owner=owner, ended_at=NOON + ended_at))
    store.append(call(9, owner="bb", ended_at=NOON + 9, waited_s=None))
    store.append(call(10, owner="cc", waited_s=None))
    await store.flush()
    found = [(record.owner, record.ended_at) for record in await store.last_calls()]
    assert found == [("aa", NOON + 7), ("bb", NOON + 1)]


async def test_old_calls_become_daily_totals(tmp_path: Path) -> None:
    """After ``keep`` only sums are left, which say the same; what is younger is untouched."""
    clock = Clock()
    ledger = make(tmp_path / "ledger.db", keep_s=10 * DAY_S, clock=clock)
    await ledger.open()
    for number in range(40):
        ledger.append(call(number, ended_at=NOON - (number / 2) * DAY_S, model=f"m{number % 3}"))
    ledger.append(call(40, ended_at=NOON - 15 * DAY_S, admitted=False, outcome=Outcome.INVALID))
    await ledger.flush()
    clock.now += 3600
    while len(left := await ledger.calls(0, list)) > 22:
        await ledger.flush()
    assert min(record.ended_at for record in left) >= NOON - 11 * DAY_S
    totals = rows(ledger.path, "SELECT sum(requests), sum(slot_s), sum(input_tokens), count(*) FROM days")[0]
    folded = 40 - len(left)
    assert totals[:3] == (folded, 4.0 * folded, 10 * folded)
    assert rows(ledger.path, "SELECT * FROM refusals") == []
    await ledger.close()


async def test_totals_of_a_day_grow_if_it_is_folded_again(tmp_path: Path) -> None:
    """A call that ended on a day already folded (a clock that was set) is added to its totals."""
    clock = Clock()
    ledger = make(tmp_path / "ledger.db", keep_s=10 * DAY_S, clock=clock)
    await ledger.open()
    for number in range(3):
        ledger.append(
            call(
                number,
                ended_at=NOON - 20 * DAY_S,
                energy_j=2.0 if number else None,
                input_tokens=10 if number else None,
                output_tokens=None,
            )
        )
        await ledger.flush()
        clock.now += 3600
        await ledger.flush()
    totals = rows(ledger.path, "SELECT requests, slot_s, energy_j, input_tokens, output_tokens FROM days")
    assert totals == [(3, 12.0, 4.0, 20, None)]
    await ledger.close()


# --- files that cannot be used ----------------------------------------------------------------------------


async def refusal(path: Path) -> str:
    """Returns why a file is refused, on opening and on reading."""
    ledger = make(path)
    with pytest.raises(ConfigErrors) as caught:
        await ledger.open()
    await ledger.close()
    (problem,) = caught.value.problems
    assert problem.source == str(path)
    assert problem.hint.startswith("fix: ") or "plain file" in problem.message
    return f"{problem.message} {problem.hint}"


async def made(path: Path) -> None:
    """Makes a ledger with some rows."""
    ledger = make(path)
    await ledger.open()
    for number in range(2000):
        ledger.append(call(number))
    await ledger.close()


async def test_a_newer_ledger_is_left_alone(tmp_path: Path) -> None:
    """An older gpushare says so and changes nothing."""
    path = tmp_path / "ledger.db"
    await made(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = path.read_bytes()
    assert "newer gpushare" in await refusal(path)
    assert path.read_bytes() == before
    reader = make(path)
    with pytest.raises(LedgerUnavailable):
        await reader.calls(0, list)
    await reader.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"no ledger, but a text of some length. " * 100),
        lambda path: path.write_bytes(path.read_bytes()[:4096] + os.urandom(path.stat().st_size - 4096)),
    ],
    ids=["text", "rubbish"],
)
async def test_a_damaged_ledger_is_named(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """Who reads the message knows the file and what to type."""
    path = tmp_path / "ledger.db"
    await made(path)
    spoil(path)
    said = await refusal(path)
    assert "damaged" in said
    assert f"mv {path} {path}.damaged" in said


async def test_a_ledger_others_may_read_is_refused(tmp_path: Path) -> None:
    """It holds who used what."""
    path = tmp_path / "ledger.db"
    await made(path)
    path.chmod(0o640)
    assert f"chmod 600 {path}" in await refusal(path)


async def test_a_link_is_no_ledger(tmp_path: Path) -> None:
    """Others might write where it leads."""
    path = tmp_path / "ledger.db"
    path.symlink_to(tmp_path / "elsewhere")
    assert "plain file" in await refusal(path)


async def test_each_step_of_the_tables_is_taken_once(tmp_path: Path) -> None:
    """Opening brings a file to the newest form, and opening it again changes nothing."""
    path = tmp_path / "ledger.db"
    await made(path)
    assert rows(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    tables = rows(path, "SELECT sql FROM sqlite_master")
    await made(path)
    assert rows(path, "SELECT sql FROM sqlite_master") == tables


async def test_an_older_ledger_keeps_what_it_holds(tmp_path: Path) -> None:
    """Totals of days are taken over by the step that lets tokens be unknown."""
    path = tmp_path / "ledger.db"
    path.touch(0o600)
    day = ("2026-11-01", "aa", "alice", "m", "curl", 3, 1.0, 2.0, 0.5, 10, 20, None)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(MIGRATIONS[0])
        connection.execute(f"INSERT INTO days VALUES ({', '.join('?' * len(day))})", day)
        connection.commit()
    await made(path)
    assert rows(path, "SELECT * FROM days") == [day]


async def test_a_check_reads_the_whole_file(store: Store) -> None:
    """Damage in its middle is found, which a look at its beginning does not show."""
    for number in range(2000):
        store.append(call(number))
    await store.flush()
    await store.close()
    check(store.path)
    content = bytearray(store.path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    store.path.write_bytes(content)
    with closing(open_reader(store.path)):  # opens all the same
        pass
    with pytest.raises(ConfigErrors) as caught:
        check(store.path)
    assert f"mv {store.path} {store.path}.damaged" in caught.value.problems[0].hint


def test_a_check_that_cannot_read(tmp_path: Path) -> None:
    """Is no damage; the reason is the cause."""
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(LedgerUnavailable) as caught:
        check(tmp_path / "ledger.db")
    assert isinstance(caught.value.__cause__, sqlite3.Error)
