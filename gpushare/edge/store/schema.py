"""The tables of the ledger, how they came to be, and how the file is opened.

Rules: a file is only ever brought to a newer form, in one transaction for each step; one of a newer gpushare
is left alone.  Only the writer opens it for writing.  The file itself is never opened but through SQLite: to
close a second descriptor would drop the locks of the first.
"""

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from gpushare.core.problems import ConfigErrors, unusable

BUSY_S = 1.0  # how long to wait for a lock: nobody else writes, and the next round tries again
# Days are the machine's own: kept and reported by the same two.
DAY = "SELECT date(?, 'unixepoch', 'localtime')"
DAY_BEGIN = "SELECT CAST(strftime('%s', ?, 'utc') AS REAL)"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

# Times are seconds since 1970, names those of ``core.model.Record``.
MIGRATIONS = (
    """
    BEGIN IMMEDIATE;
    CREATE TABLE calls (
      request_id TEXT NOT NULL UNIQUE, key_id TEXT NOT NULL, owner TEXT NOT NULL, person TEXT NOT NULL,
      tool TEXT NOT NULL, api TEXT NOT NULL, route TEXT NOT NULL, model TEXT NOT NULL, service TEXT NOT NULL,
      queued INTEGER NOT NULL, phase TEXT NOT NULL, outcome TEXT NOT NULL, status INTEGER NOT NULL,
      ended_at REAL NOT NULL, waited_s REAL, connect_s REAL, first_s REAL, total_s REAL NOT NULL,
      slot_s REAL NOT NULL, load_s REAL, input_tokens INTEGER, output_tokens INTEGER,
      records INTEGER NOT NULL, bytes_out INTEGER NOT NULL, swap INTEGER NOT NULL, delivered INTEGER NOT NULL,
      suspect INTEGER NOT NULL, energy_j REAL);
    CREATE INDEX calls_ended ON calls (ended_at);
    CREATE INDEX calls_owner ON calls (owner, ended_at);
    CREATE INDEX calls_key ON calls (key_id, ended_at);
    CREATE TABLE running (
      request_id TEXT NOT NULL PRIMARY KEY, key_id TEXT NOT NULL, owner TEXT NOT NULL, person TEXT NOT NULL,
      tool TEXT NOT NULL, api TEXT NOT NULL, route TEXT NOT NULL, model TEXT NOT NULL, service TEXT NOT NULL,
      queued INTEGER NOT NULL, began_at REAL NOT NULL);
    CREATE TABLE refusals (
      minute INTEGER NOT NULL, key_id TEXT NOT NULL, owner TEXT NOT NULL, person TEXT NOT NULL,
      outcome TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (minute, key_id, outcome));
    CREATE INDEX refusals_owner ON refusals (owner, minute);
    CREATE TABLE actions (
      at REAL NOT NULL, key_id TEXT NOT NULL, name TEXT NOT NULL, what TEXT NOT NULL, target TEXT NOT NULL,
      detail TEXT NOT NULL);
    CREATE INDEX actions_at ON actions (at);
    CREATE TABLE days (
      day TEXT NOT NULL, owner TEXT NOT NULL, person TEXT NOT NULL, model TEXT NOT NULL, tool TEXT NOT NULL,
      requests INTEGER NOT NULL, waited_s REAL NOT NULL, slot_s REAL NOT NULL, load_s REAL NOT NULL,
      input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, energy_j REAL,
      PRIMARY KEY (day, owner, model, tool));
    PRAGMA user_version = 1;
    COMMIT;
    """,
    # Tokens that nobody knows are not 0.
    """
    BEGIN IMMEDIATE;
    ALTER TABLE days RENAME TO older_days;
    CREATE TABLE days (
      day TEXT NOT NULL, owner TEXT NOT NULL, person TEXT NOT NULL, model TEXT NOT NULL, tool TEXT NOT NULL,
      requests INTEGER NOT NULL, waited_s REAL NOT NULL, slot_s REAL NOT NULL, load_s REAL NOT NULL,
      input_tokens INTEGER, output_tokens INTEGER, energy_j REAL, PRIMARY KEY (day, owner, model, tool));
    INSERT INTO days SELECT * FROM older_days;
    DROP TABLE older_days;
    PRAGMA user_version = 2;
    COMMIT;
    """,
)


def open_writer(path: Path) -> sqlite3.Connection:
    """Returns the connection that writes; the file is made if there is none.

    Raises:
        ConfigErrors: it cannot be used until somebody does something about it.
        sqlite3.Error: it cannot be used now.
        OSError: likewise.
    """
    _make_private(path)
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Returns a connection that cannot write; where there is no ledger yet, it finds an empty one.

    Raises:
        ConfigErrors: as ``open_writer``.
        sqlite3.Error: it cannot be read now.
    """
    if not path.exists():
        return _empty()
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None)
    try:
        with judged(path):
            connection.execute("PRAGMA query_only = ON")
            version = _check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    if version < len(MIGRATIONS):
        connection.close()
        if version == 0:  # it is being made
            return _empty()
        raise unusable(path, "was written by an older gpushare", "fix: start gpushare serve, which renews it")
    return connection


def _empty() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for script in MIGRATIONS:
        connection.executescript(script)
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Does everything of the block, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _make_private(path: Path) -> None:
    """Makes the file for its owner alone, and refuses one that others may read."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return
    if not stat.S_ISREG(found.st_mode):
        raise unusable(path, "is not a plain file")
    if found.st_mode & 0o077:
        raise unusable(path, "others may read or write the ledger", f"fix: chmod 600 {path}")


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = _check_version(connection, path)
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError(f"journal mode is {mode}")
    connection.execute("PRAGMA synchronous = FULL")
    for script in MIGRATIONS[version:]:
        try:
            connection.executescript(script)
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _check_version(connection: sqlite3.Connection, path: Path) -> int:
    """Returns the version of the tables.

    Raises:
        ConfigErrors: this gpushare does not know it.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise unusable(
            path,
            f"was written by a newer gpushare (ledger {version}; this one knows {len(MIGRATIONS)})",
            "fix: install that gpushare again, or move the file away to begin a new ledger",
        )
    return int(version)


@contextmanager
def judged(path: Path) -> Iterator[None]:
    """Tells a damaged file from one that cannot be used just now.

    Raises:
        ConfigErrors: it is damaged.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _DAMAGED:
            raise damaged(path) from error
        raise


def damaged(path: Path) -> ConfigErrors:
    """Returns that a file cannot be used as the ledger."""
    return unusable(
        path,
        "is damaged, or no ledger at all",
        f"fix: mv {path} {path}.damaged; a new one is begun, and sqlite3 may .recover the old one",
    )
