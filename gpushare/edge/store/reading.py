"""What is read from the ledger, each by one short-lived connection that cannot write.

Called by: ``edge.store``, in its readers' threads, and by commands on the server itself.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta

import msgspec

from gpushare.core.ledger import Action
from gpushare.core.model import Outcome, Record
from gpushare.core.usage import By, DayLoad, KeyUse, Refusal, Since, Usage, UsageRow, report
from gpushare.edge.store.schema import DAY, DAY_BEGIN

# The newest call of each owner, found by stepping from owner to owner in the index.
_LAST_CALLS = """
WITH RECURSIVE owners (owner) AS (
  SELECT min(owner) FROM calls
  UNION ALL
  SELECT (SELECT min(calls.owner) FROM calls WHERE calls.owner > owners.owner) FROM owners
  WHERE owners.owner IS NOT NULL)
SELECT calls.* FROM owners JOIN calls ON calls.rowid = (
  SELECT rowid FROM calls AS newest WHERE newest.owner = owners.owner AND newest.waited_s IS NOT NULL
  ORDER BY newest.ended_at DESC LIMIT 1)
"""
_CALLS = "SELECT * FROM calls WHERE ended_at >= ? ORDER BY ended_at"

_OWN_CALLS = """
SELECT * FROM calls WHERE owner = ? AND ended_at >= ? AND queued ORDER BY ended_at DESC LIMIT ?
"""
_USAGE = """
SELECT name, person, sum(requests), total(slot_s), sum(input_tokens), sum(output_tokens), total(waited_s),
  sum(energy_j), max(ended_at)
FROM (
  SELECT
    CASE :by WHEN 'person' THEN owner WHEN 'model' THEN model WHEN 'tool' THEN tool
      ELSE date(ended_at, 'unixepoch', 'localtime') END AS name,
    person, 1 AS requests, slot_s, input_tokens, output_tokens, waited_s, energy_j, ended_at
  FROM calls WHERE queued AND ended_at >= :start
  UNION ALL
  SELECT
    CASE :by WHEN 'person' THEN owner WHEN 'model' THEN model WHEN 'tool' THEN tool ELSE day END,
    person, requests, slot_s, input_tokens, output_tokens, waited_s, energy_j, 0
  FROM days
  WHERE CAST(strftime('%s', day, 'utc') AS REAL) >= :start)
GROUP BY name
"""
_OWN_USAGE = _USAGE.replace("WHERE ", "WHERE owner = :owner AND ")  # so that an index by owner is used
_REFUSALS = """
SELECT 60 * minute AS at, outcome, count FROM refusals WHERE owner = :owner AND minute >= :since / 60
UNION ALL
SELECT ended_at, outcome, 1 FROM calls WHERE owner = :owner AND ended_at >= :since
  AND outcome IN ('rejected_overload', 'queue_timeout', 'breaker_open', 'drained')
ORDER BY at DESC LIMIT :limit
"""
# As above, from key to key.
_KEY_USES = """
WITH RECURSIVE keys (key_id) AS (
  SELECT min(key_id) FROM calls
  UNION ALL
  SELECT (SELECT min(calls.key_id) FROM calls WHERE calls.key_id > keys.key_id) FROM keys
  WHERE keys.key_id IS NOT NULL)
SELECT key_id, (SELECT total(slot_s) FROM calls WHERE calls.key_id = keys.key_id AND ended_at >= ?),
  (SELECT max(ended_at) FROM calls WHERE calls.key_id = keys.key_id)
FROM keys WHERE key_id IS NOT NULL
"""
# The wait of rank 95 %: the smallest that at least so many calls of the day did not exceed.
_DAY_LOADS = """
SELECT day, count(*), max(CASE WHEN waited_s IS NOT NULL AND place * 20 >= waits * 19
    AND (place - 1) * 20 < waits * 19 THEN waited_s END),
  total(slot_s) + total(load_s), total(load_s)
FROM (
  SELECT date(ended_at, 'unixepoch', 'localtime') AS day, waited_s, slot_s, load_s,
    row_number() OVER (
      PARTITION BY date(ended_at, 'unixepoch', 'localtime'), waited_s IS NULL ORDER BY waited_s) AS place,
    count(waited_s) OVER (PARTITION BY date(ended_at, 'unixepoch', 'localtime')) AS waits
  FROM calls
  WHERE queued AND ended_at >= :start
    AND CAST(strftime('%H', ended_at, 'unixepoch', 'localtime') AS INTEGER) BETWEEN :first AND :last - 1)
GROUP BY day ORDER BY day
"""
_ACTIONS = "SELECT at, key_id, name, what, target, detail FROM actions ORDER BY at DESC LIMIT ?"
MOST = 1000  # rows of a list for a page


def calls(connection: sqlite3.Connection, since: float) -> Iterator[Record]:
    """Yields every admitted call that ended since an instant, oldest first."""
    return _records(connection.execute(_CALLS, (since,)))


def last_calls(connection: sqlite3.Connection) -> list[Record]:
    """Returns the newest call of each owner that was queued and is known to have ended."""
    return list(_records(connection.execute(_LAST_CALLS)))


def own_calls(connection: sqlite3.Connection, owner: str, since: float) -> list[Record]:
    """Returns an owner's queued calls that ended since an instant, newest first, at most ``MOST``."""
    return list(_records(connection.execute(_OWN_CALLS, (owner, since, MOST))))


def usage(
    connection: sqlite3.Connection, by: By, since: Since, now: float, *, owner: str | None = None
) -> Usage:
    """Returns what was used, told apart by one thing; of one owner, or of all.

    Of days that are only kept as totals, those count that began since.
    """
    start = now - since.seconds if since.seconds is not None else _day_begin(connection, since.day)
    return report(
        _usage_rows(connection, by, start, owner),
        by=by,
        since=datetime.fromtimestamp(start, UTC).replace(microsecond=0),
        now=datetime.fromtimestamp(now, UTC).replace(microsecond=0),
    )


def _usage_rows(
    connection: sqlite3.Connection, by: By, start: float, owner: str | None
) -> Iterator[UsageRow]:
    statement = _USAGE if owner is None else _OWN_USAGE
    found = connection.execute(statement, {"by": by.value, "start": start, "owner": owner})
    for name, person, requests, slot_s, tokens_in, tokens_out, waited_s, energy_j, _ in found:
        yield UsageRow(
            name=person if by is By.PERSON else name,
            requests=requests,
            slot_s=slot_s,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            waited_s=waited_s,
            energy_j=energy_j,
        )


def own_days(connection: sqlite3.Connection, owner: str, count: int, now: float) -> list[UsageRow]:
    """Returns what an owner used on each of the last days, today last; days without calls too."""
    days = _last_days(connection, count, now)
    rows = _usage_rows(connection, By.DAY, _day_begin(connection, days[0]), owner)
    found = {row.name: row for row in rows}
    return [found.get(day, UsageRow(name=day)) for day in days]


def refusals(connection: sqlite3.Connection, owner: str, since: float) -> list[Refusal]:
    """Returns which of an owner's calls were turned away since an instant, newest first, at most ``MOST``."""
    found = connection.execute(_REFUSALS, {"owner": owner, "since": since, "limit": MOST})
    return [Refusal(at=at, outcome=Outcome(outcome), count=count) for at, outcome, count in found]


def key_uses(connection: sqlite3.Connection, since: float) -> Mapping[str, KeyUse]:
    """Returns for each key that was ever used what it used since an instant, and its last use."""
    found = connection.execute(_KEY_USES, (since,))
    return {key_id: KeyUse(slot_s=slot_s, last_used=last) for key_id, slot_s, last in found if key_id}


def day_loads(
    connection: sqlite3.Connection, count: int, now: float, *, hours: tuple[int, int] = (0, 24)
) -> list[DayLoad]:
    """Returns how the last days went, today last, days without calls left out.

    Args:
        connection: to the ledger.
        count: how many days.
        now: seconds since 1970.
        hours: from which hour of the day to before which other one a call that counts ended.
    """
    start = _day_begin(connection, _last_days(connection, count, now)[0])
    found = connection.execute(_DAY_LOADS, {"start": start, "first": hours[0], "last": hours[1]})
    return [
        DayLoad(day=day, requests=requests, wait_p95_s=wait, busy_s=busy_s, load_s=load_s)
        for day, requests, wait, busy_s, load_s in found
    ]


def actions(connection: sqlite3.Connection, limit: int) -> list[Action]:
    """Returns what admins did last, newest first."""
    found = connection.execute(_ACTIONS, (limit,))
    return [
        Action(at=at, key_id=key_id, name=name, what=what, target=target, detail=detail)
        for at, key_id, name, what, target, detail in found
    ]


def _last_days(connection: sqlite3.Connection, count: int, now: float) -> list[str]:
    """Returns the names of the last days, as the clock of this machine counts them, today last."""
    (today,) = connection.execute(DAY, (now,)).fetchone()
    newest = date.fromisoformat(today)
    return [(newest - timedelta(days=ago)).isoformat() for ago in reversed(range(count))]


def _day_begin(connection: sqlite3.Connection, day: str) -> float:
    (begin,) = connection.execute(DAY_BEGIN, (day,)).fetchone()
    return float(begin)


def _records(rows: sqlite3.Cursor) -> Iterator[Record]:
    names = [column[0] for column in rows.description]
    for row in rows:
        yield msgspec.convert(dict(zip(names, row, strict=True)), Record, strict=False)
