"""What is read from the ledger, each by one short-lived connection that cannot write.

Called by: ``edge.store``, in its readers' threads, and by commands on the server itself.
"""

import sqlite3

import msgspec

from gpushare.core.model import Record

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


def calls(connection: sqlite3.Connection, since: float) -> list[Record]:
    """Returns every admitted call that ended since an instant, oldest first."""
    return _records(connection.execute(_CALLS, (since,)))


def last_calls(connection: sqlite3.Connection) -> list[Record]:
    """Returns the newest call of each owner that was queued and is known to have ended."""
    return _records(connection.execute(_LAST_CALLS))


def _records(rows: sqlite3.Cursor) -> list[Record]:
    names = [column[0] for column in rows.description]
    return [msgspec.convert(dict(zip(names, row, strict=True)), Record, strict=False) for row in rows]
