"""What is written to the ledger: rows, sums, and what becomes of them with age.

Called by: ``edge.store.writer``, in its thread.  Rules: each function is one transaction.  Many rows
go in with one statement, because each statement hands the interpreter over twice and, beside a busy event
loop, each time waits for it.
"""

import sqlite3
from collections.abc import Collection
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec

from gpushare.core.ledger import Backlog, begun
from gpushare.core.model import Dialect, Outcome, Phase, Service
from gpushare.edge.store.schema import DAY, DAY_BEGIN, transaction

# Told how to write these, the library looks it up; else it asks each value in vain what it may offer.
sqlite3.register_adapter(bool, int)
for _words in (Dialect, Service, Phase, Outcome):
    sqlite3.register_adapter(_words, str)


class _Insert:
    """One statement for any number of rows.

    Args:
        into: table and columns.
        fields: the attributes of a row, for the columns in their order.
        then: what follows the values.
    """

    def __init__(self, into: str, fields: str, then: str = "") -> None:
        names = fields.split()
        self._into = into
        self._then = then
        self._marks = f"({', '.join('?' * len(names))})"
        self._row = attrgetter(*names)

    def run(self, connection: sqlite3.Connection, rows: Collection[object]) -> None:
        """Inserts the rows, many with each statement."""
        values = list(map(self._row, rows))
        for size in _SIZES:
            while len(values) >= size:
                some, values = values[:size], values[size:]
                marks = ", ".join([self._marks] * size)
                statement = f"INSERT {self._into} VALUES {marks} {self._then}"  # noqa: S608 - constants
                connection.execute(statement, tuple(chain.from_iterable(some)))


# Few different statements, so that each is prepared once; 512 rows are 15,000 values.
_SIZES = (512, 64, 8, 1)
_NOTE_RUNNING = _Insert(
    """OR REPLACE INTO running
    (request_id, key_id, owner, person, tool, api, route, model, service, queued, began_at)""",
    "request_id key_id owner person tool api route model service queued began_at",
)
_FORGET_RUNNING = "DELETE FROM running WHERE request_id IN (SELECT value FROM json_each(?))"
# A row that is there already was committed by a round that was told it had failed.
_ADD_CALLS = _Insert(
    """INTO calls
    (request_id, key_id, owner, person, tool, api, route, model, service, queued, phase, outcome, status,
    ended_at, waited_s, connect_s, first_s, total_s, slot_s, load_s, input_tokens, output_tokens, records,
    bytes_out, swap, delivered, suspect, energy_j)""",
    """request_id key_id owner person tool api route model service queued phase outcome status
    ended_at waited_s connect_s first_s total_s slot_s load_s input_tokens output_tokens records
    bytes_out swap delivered suspect energy_j""",
    "ON CONFLICT (request_id) DO NOTHING",
)
_ADD_REFUSALS = _Insert(
    "INTO refusals (minute, key_id, owner, person, outcome, count)",
    "minute key_id owner person outcome count",
    "ON CONFLICT (minute, key_id, outcome) DO UPDATE SET count = count + excluded.count",
)
_ADD_ACTIONS = _Insert(
    "INTO actions (at, key_id, name, what, target, detail)", "at key_id name what target detail"
)
# How far a call had come is not known, only that it had a place in the queue; it counts for its admission.
_END_LOST = """
INSERT INTO calls
  (request_id, key_id, owner, person, tool, api, route, model, service, queued, phase, outcome, status,
   ended_at, total_s, slot_s, records, bytes_out, swap, delivered, suspect)
SELECT request_id, key_id, owner, person, tool, api, route, model, service, queued,
  CASE WHEN queued THEN 'queue' ELSE 'connect' END, 'lost_crash', 0, began_at, 0, 0, 0, 0, 0, 0, 0
FROM running WHERE true ON CONFLICT (request_id) DO NOTHING
"""
_OLDEST_DAY = "SELECT date(min(ended_at), 'unixepoch', 'localtime') FROM calls"
_NEXT_DAY_BEGIN = "SELECT CAST(strftime('%s', ?, '+1 day', 'utc') AS REAL)"
_SUM_DAY = """
INSERT INTO days (day, owner, person, model, tool, requests, waited_s, slot_s, load_s, input_tokens,
  output_tokens, energy_j)
SELECT ?1, owner, max(person), model, tool, count(*), total(waited_s), total(slot_s), total(load_s),
  sum(input_tokens), sum(output_tokens), sum(energy_j)
FROM calls WHERE ended_at < ?2 AND queued GROUP BY owner, model, tool
ON CONFLICT (day, owner, model, tool) DO UPDATE SET
  requests = requests + excluded.requests, waited_s = waited_s + excluded.waited_s,
  slot_s = slot_s + excluded.slot_s, load_s = load_s + excluded.load_s,
  input_tokens = coalesce(input_tokens + excluded.input_tokens, input_tokens, excluded.input_tokens),
  output_tokens = coalesce(output_tokens + excluded.output_tokens, output_tokens, excluded.output_tokens),
  energy_j = coalesce(energy_j + excluded.energy_j, energy_j, excluded.energy_j)
"""


def write(connection: sqlite3.Connection, backlog: Backlog) -> None:
    """Writes everything that waits, and nothing if that fails."""
    with transaction(connection):
        _NOTE_RUNNING.run(connection, [begun(each) for each in backlog.begun.values()])
        if backlog.left:
            connection.execute(_FORGET_RUNNING, (msgspec.json.encode(backlog.left).decode(),))
        _ADD_CALLS.run(connection, backlog.ended.values())
        _ADD_REFUSALS.run(connection, backlog.refused.values())
        _ADD_ACTIONS.run(connection, backlog.actions.values())


def end_lost(connection: sqlite3.Connection) -> int:
    """Gives each call that an earlier process left running its outcome; returns how many there were."""
    with transaction(connection):
        ended = connection.execute(_END_LOST).rowcount
        connection.execute("DELETE FROM running")
    return ended


def prune(connection: sqlite3.Connection, before: float) -> bool:
    """Turns the oldest day of calls into totals if it ended before the day of an instant.

    Refusals and what admins did before that day are gone for good.

    Returns:
        Whether there was such a day: then there may be another.
    """
    kept, oldest = _value(connection, DAY, before), _value(connection, _OLDEST_DAY)
    begin = _value(connection, DAY_BEGIN, kept)
    with transaction(connection):
        connection.execute("DELETE FROM refusals WHERE minute < ? / 60", (begin,))
        connection.execute("DELETE FROM actions WHERE at < ?", (begin,))
        if oldest is None or oldest >= kept:
            return False
        end = _value(connection, _NEXT_DAY_BEGIN, oldest)
        connection.execute(_SUM_DAY, (oldest, end))
        connection.execute("DELETE FROM calls WHERE ended_at < ?", (end,))
    return True


def _value(connection: sqlite3.Connection, statement: str, *values: object) -> Any:  # noqa: ANN401 - as asked
    return connection.execute(statement, values).fetchone()[0]
