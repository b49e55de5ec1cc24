"""What is written to the ledger: rows, sums, and what becomes of them with age.

Called by: ``edge.store.writer``, in its thread.  Rules: each function is one transaction.  Rows go in as one
JSON text and one statement, because each statement hands the interpreter over twice and, beside a busy event
loop, each time waits for it.
"""

import re
import sqlite3
from collections.abc import Collection
from typing import Any

import msgspec

from gpushare.core.ledger import Backlog
from gpushare.edge.store.schema import transaction


def _of_json(statement: str) -> str:
    """Returns a statement in which each ``@name`` is that field of a row of JSON."""
    return re.sub(r"@(\w+)", r"json_extract(value, '$.\1')", statement)


_NOTE_RUNNING = _of_json("""
INSERT OR REPLACE INTO running
  (request_id, key_id, owner, person, tool, api, route, model, service, queued, began_at)
SELECT @request_id, @key_id, @owner, @person, @tool, @api, @route, @model, @service, @queued, @began_at
FROM json_each(?)
""")
_FORGET_RUNNING = "DELETE FROM running WHERE request_id IN (SELECT value FROM json_each(?))"
# A row that is there already was committed by a round that was told it had failed.
_ADD_CALLS = _of_json("""
INSERT INTO calls
  (request_id, key_id, owner, person, tool, api, route, model, service, queued, phase, outcome, status,
   ended_at, waited_s, connect_s, first_s, total_s, slot_s, load_s, input_tokens, output_tokens, records,
   bytes_out, swap, delivered, suspect, energy_j)
SELECT @request_id, @key_id, @owner, @person, @tool, @api, @route, @model, @service, @waited_s IS NOT NULL,
  @phase, @outcome, @status, @ended_at, @waited_s, @connect_s, @first_s, @total_s, @slot_s, @load_s,
  @input_tokens, @output_tokens, @records, @bytes_out, @swap, @delivered, @suspect, @energy_j
FROM json_each(?) WHERE true ON CONFLICT (request_id) DO NOTHING
""")
_ADD_REFUSALS = _of_json("""
INSERT INTO refusals (minute, key_id, owner, person, outcome, count)
SELECT @minute, @key_id, @owner, @person, @outcome, @count FROM json_each(?) WHERE true
ON CONFLICT (minute, key_id, outcome) DO UPDATE SET count = count + excluded.count
""")
_ADD_ACTIONS = _of_json("""
INSERT INTO actions (at, key_id, name, what, target, detail)
SELECT @at, @key_id, @name, @what, @target, @detail FROM json_each(?)
""")
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
_DAY = "SELECT date(?, 'unixepoch', 'localtime')"
_DAY_BEGIN = "SELECT CAST(strftime('%s', ?, 'utc') AS REAL)"
_NEXT_DAY_BEGIN = "SELECT CAST(strftime('%s', ?, '+1 day', 'utc') AS REAL)"
_SUM_DAY = """
INSERT INTO days (day, owner, person, model, tool, requests, waited_s, slot_s, load_s, input_tokens,
  output_tokens, energy_j)
SELECT ?1, owner, max(person), model, tool, count(*), total(waited_s), total(slot_s), total(load_s),
  coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), sum(energy_j)
FROM calls WHERE ended_at < ?2 AND queued GROUP BY owner, model, tool
ON CONFLICT (day, owner, model, tool) DO UPDATE SET
  requests = requests + excluded.requests, waited_s = waited_s + excluded.waited_s,
  slot_s = slot_s + excluded.slot_s, load_s = load_s + excluded.load_s,
  input_tokens = input_tokens + excluded.input_tokens,
  output_tokens = output_tokens + excluded.output_tokens,
  energy_j = coalesce(energy_j + excluded.energy_j, energy_j, excluded.energy_j)
"""


def write(connection: sqlite3.Connection, backlog: Backlog) -> None:
    """Writes everything that waits, and nothing if that fails."""
    with transaction(connection):
        _each(connection, _NOTE_RUNNING, backlog.begun.values())
        _each(connection, _FORGET_RUNNING, backlog.left)
        _each(connection, _ADD_CALLS, backlog.ended.values())
        _each(connection, _ADD_REFUSALS, backlog.refused.values())
        _each(connection, _ADD_ACTIONS, backlog.actions.values())


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
    kept, oldest = _value(connection, _DAY, before), _value(connection, _OLDEST_DAY)
    begin = _value(connection, _DAY_BEGIN, kept)
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


def _each(connection: sqlite3.Connection, statement: str, rows: Collection[object]) -> None:
    if rows:
        connection.execute(statement, (msgspec.json.encode(list(rows)).decode(),))
