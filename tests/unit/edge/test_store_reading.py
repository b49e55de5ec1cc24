"""What is asked of the ledger, compared with the same sums done by hand."""

import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gpushare.core.model import Outcome, Principal, Record, Role
from gpushare.core.usage import By, DayLoad, KeyUse, Refusal, Since, UsageRow
from gpushare.edge.store import Store
from tests.unit.edge.test_store import DAY_S, NOON, Clock, Reports, admission, call

ADMIN = Principal(key_id="000000", name="root", owner="000000", role=Role.ADMIN)


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Days begin when they begin where the machine is: here two and a half hours behind UTC in summer."""
    monkeypatch.setenv("TZ", "America/St_Johns")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def day_of(instant: float) -> str:
    """Returns the day of an instant on this machine."""
    return time.strftime("%Y-%m-%d", time.localtime(instant))


def some_calls() -> list[Record]:
    """Returns a fortnight of calls of three people; some waited in vain, some were lost in a crash."""
    chance = random.Random(7)
    return [
        call(
            number,
            owner=owner,
            key_id=f"{owner}{chance.randrange(2)}",
            person=f"person-{owner}",
            model=chance.choice(["qwen3:8b", "gemma3:27b"]),
            tool=chance.choice(["curl", "zed"]),
            ended_at=NOON - chance.random() * 14 * DAY_S,
            waited_s=chance.choice([0.0, 1.5, 20.25, 80.0]),
            slot_s=chance.randrange(100) / 4,
            load_s=chance.choice([None, 2.5]),
            input_tokens=chance.choice([None, 100]),
            output_tokens=chance.choice([None, chance.randrange(50)]) if owner != "cc" else None,
            energy_j=chance.choice([None, 8.0]) if owner != "cc" else None,
        )
        for number in range(400)
        for owner in [chance.choice(["aa", "bb", "cc"])]
    ]


CALLS = some_calls()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A ledger with these calls, and with some that were never queued."""
    ledger = Store(
        tmp_path / "ledger.db", keep_s=400 * DAY_S, report=Reports(), clock=Clock(), wall=lambda: NOON
    )
    await ledger.open()
    for record in CALLS:
        ledger.append(record)
    for number in range(5):
        ledger.append(call(1000 + number, owner="aa", waited_s=None, route="/api/pull"))
    await ledger.flush()
    yield ledger
    await ledger.close()


def known_sum(values: Iterable[float | None]) -> Any:
    """Returns the sum of those that are known, None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def added(rows: list[Record], **known: object) -> UsageRow:
    """Returns what these calls used together."""
    return UsageRow(
        **{"name": "", **known},  # type: ignore[arg-type]
        requests=len(rows),
        slot_s=sum(row.slot_s for row in rows),
        tokens_in=known_sum(row.input_tokens for row in rows),
        tokens_out=known_sum(row.output_tokens for row in rows),
        waited_s=sum(row.waited_s or 0 for row in rows),
        energy_j=known_sum(row.energy_j for row in rows),
    )


NAMES: dict[By, Callable[[Record], str]] = {
    By.PERSON: lambda row: row.person,
    By.MODEL: lambda row: row.model,
    By.TOOL: lambda row: row.tool,
    By.DAY: lambda row: day_of(row.ended_at),
}


@pytest.mark.parametrize("by", By)
@pytest.mark.parametrize("owner", [None, "bb"])
@pytest.mark.parametrize("days", [0.5, 7, 30])
async def test_usage_is_what_the_calls_used(store: Store, by: By, owner: str | None, days: float) -> None:
    """Every figure, by every distinction, for one person and for all."""
    found = await store.usage(by, Since(seconds=days * DAY_S), owner=owner)
    name = NAMES[by]
    rows = [row for row in CALLS if row.ended_at >= NOON - days * DAY_S and owner in (None, row.owner)]
    total = added(rows, name="total")
    assert found.total == total
    assert {row.name for row in found.rows} == set(map(name, rows))
    for row in found.rows:
        same = added([each for each in rows if name(each) == row.name], name=row.name)
        assert row == replace(same, share=round(row.slot_s / total.slot_s, 4))
    assert found.since == datetime.fromtimestamp(NOON - days * DAY_S, UTC)
    assert found.now == datetime.fromtimestamp(NOON, UTC)


async def test_a_report_may_begin_with_a_day(store: Store) -> None:
    """From its midnight on this machine's clock."""
    day = day_of(NOON - 5 * DAY_S)
    found = await store.usage(By.DAY, Since(day=day))
    assert min(row.name for row in found.rows) == day
    assert found.total.requests == sum(day_of(row.ended_at) >= day for row in CALLS)
    begin = found.since.astimezone(None)
    assert f"{begin:%Y-%m-%d %H:%M}" == f"{day} 00:00"


async def test_folded_days_say_the_same(tmp_path: Path) -> None:
    """What is kept as daily totals counts in reports like the calls it was made of."""
    path = tmp_path / "folded.db"
    whole = Store(path, keep_s=400 * DAY_S, report=Reports(), clock=Clock(), wall=lambda: NOON)
    await whole.open()
    for record in CALLS:
        whole.append(record)
    await whole.flush()
    since = Since(seconds=30 * DAY_S)
    before = [await whole.usage(by, since, owner=owner) for by in By for owner in (None, "aa")]
    await whole.close()
    clock = Clock()
    folded = Store(path, keep_s=5 * DAY_S, report=Reports(), clock=clock, wall=lambda: NOON)
    await folded.open()
    while min(row.ended_at for row in await folded.calls(0, list)) < NOON - 6 * DAY_S:
        await folded.flush()
    assert [await folded.usage(by, since, owner=owner) for by in By for owner in (None, "aa")] == before
    assert len(await folded.calls(0, list)) < len(CALLS) / 2
    await folded.close()


async def test_own_calls_come_newest_first(store: Store) -> None:
    """Those of one person alone, downloads left out."""
    found = await store.own_calls("aa", NOON - DAY_S)
    rows = [row for row in CALLS if row.owner == "aa" and row.ended_at >= NOON - DAY_S]
    assert found == sorted(rows, key=lambda row: -row.ended_at)


async def test_own_days_have_no_gaps(store: Store) -> None:
    """A value for each day of a chart, today last; a day without calls is zero."""
    days = [day_of(NOON - ago * DAY_S) for ago in reversed(range(30))]
    found = await store.own_days("cc", 30)
    assert [row.name for row in found] == days
    for row in found:
        mine = [each for each in CALLS if each.owner == "cc" and day_of(each.ended_at) == row.name]
        assert row == (added(mine, name=row.name) if mine else UsageRow(name=row.name))
    assert await store.own_days("nobody", 2) == [UsageRow(name=days[-2]), UsageRow(name=days[-1])]


async def test_refusals_have_a_time_a_reason_and_a_count(store: Store) -> None:
    """Sums from before the queue and calls that waited in vain, newest first, of one person alone."""
    for number in range(3):
        store.append(call(2000 + number, admitted=False, waited_s=None, outcome=Outcome.REJECTED_KEY_LIMIT))
    store.append(call(2010, outcome=Outcome.QUEUE_TIMEOUT, ended_at=NOON + 90))
    store.append(call(2011, outcome=Outcome.OK))
    store.append(call(2012, owner="aa", outcome=Outcome.QUEUE_TIMEOUT))
    await store.flush()
    assert await store.refusals("7f3a2c", NOON - DAY_S) == [
        Refusal(at=NOON + 90, outcome=Outcome.QUEUE_TIMEOUT, count=1),
        Refusal(at=NOON // 60 * 60, outcome=Outcome.REJECTED_KEY_LIMIT, count=3),
    ]


async def test_keys_tell_what_they_used_and_when_last(store: Store) -> None:
    """Within a time, and ever; a key that was never used is not there."""
    since = NOON - DAY_S
    expected = {
        key: KeyUse(
            slot_s=sum(row.slot_s for row in CALLS if row.key_id == key and row.ended_at >= since),
            last_used=max(row.ended_at for row in CALLS if row.key_id == key),
        )
        for key in {row.key_id for row in CALLS}
    }
    found = dict(await store.key_uses(since))
    pulls = found.pop("7f3a2c")
    assert found == expected
    assert pulls == KeyUse(slot_s=20.0, last_used=NOON)


@pytest.mark.parametrize("hours", [(0, 24), (8, 18)])
async def test_days_tell_how_busy_they_were(store: Store, hours: tuple[int, int]) -> None:
    """What 95 % waited at most, and the loads among the busy time, within working hours or all day."""
    counted = [row for row in CALLS if hours[0] <= time.localtime(row.ended_at).tm_hour < hours[1]]
    expected = []
    for ago in reversed(range(7)):
        day = day_of(NOON - ago * DAY_S)
        rows = [row for row in counted if day_of(row.ended_at) == day]
        waits = sorted(row.waited_s or 0.0 for row in rows)
        if rows:
            expected.append(
                DayLoad(
                    day=day,
                    requests=len(rows),
                    wait_p95_s=waits[-(-95 * len(waits) // 100) - 1],
                    busy_s=sum(row.slot_s + (row.load_s or 0.0) for row in rows),
                    load_s=sum(row.load_s or 0.0 for row in rows),
                )
            )
    assert await store.day_loads(7, hours=hours) == expected
    assert Counter(day.day for day in expected).total() > 3


async def test_ninety_five_of_a_hundred(tmp_path: Path) -> None:
    """The wait that so many did not exceed is that of the 19th of 20, of the 20th of 21."""
    store = Store(tmp_path / "ledger.db", keep_s=400 * DAY_S, report=Reports(), wall=lambda: NOON)
    await store.open()
    for number in range(1, 22):
        store.append(call(number, waited_s=float(number)))
        await store.flush()
        if number in (1, 20, 21):
            (day,) = await store.day_loads(1)
            assert day.wait_p95_s == {1: 1.0, 20: 19.0, 21: 20.0}[number]
    await store.close()


async def test_calls_that_a_crash_ended_are_requests_without_a_wait(tmp_path: Path) -> None:
    """They count, and spoil no percentile."""
    path = tmp_path / "ledger.db"
    first = Store(path, keep_s=400 * DAY_S, report=Reports(), clock=Clock(), wall=lambda: NOON)
    await first.open()
    first.append(call(1, waited_s=4.0))
    first.admitted(admission(2))
    await first.close()
    second = Store(path, keep_s=400 * DAY_S, report=Reports(), clock=Clock(), wall=lambda: NOON)
    await second.open()
    (day,) = await second.day_loads(1)
    (row,) = (await second.usage(By.PERSON, Since(seconds=DAY_S))).rows
    await second.close()
    assert (day.requests, day.wait_p95_s) == (2, 4.0)
    assert (row.name, row.requests, row.waited_s) == ("bob", 2, 4.0)


async def test_what_admins_did_comes_newest_first(store: Store) -> None:
    """Who, what, to what, and when; the last too, which nobody has waited to be written."""
    store.note_action(ADMIN, "pause")
    store.note_action(ADMIN, "unload", "qwen3:8b", "3 people waited")
    first, second = await store.actions(10)
    assert (first.what, first.target, first.detail) == ("unload", "qwen3:8b", "3 people waited")
    assert (second.what, second.name, second.key_id, second.at) == ("pause", "root", "000000", NOON)
    assert await store.actions(1) == [first]


async def test_an_empty_ledger_answers_everything(tmp_path: Path) -> None:
    """Before the first call every question has an answer."""
    store = Store(tmp_path / "none.db", keep_s=1.0, report=Reports())
    assert (await store.usage(By.PERSON, Since(seconds=60.0))).rows == ()
    assert await store.own_calls("aa", 0) == []
    assert await store.refusals("aa", 0) == []
    assert dict(await store.key_uses(0)) == {}
    assert await store.day_loads(5) == []
    assert await store.actions(5) == []
    assert [row.requests for row in await store.own_days("aa", 3)] == [0, 0, 0]
    await store.close()
