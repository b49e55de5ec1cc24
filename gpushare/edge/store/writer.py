"""The thread that writes the ledger: it comes round twice a second and writes all that has come in.

Owns: the one connection that writes.  Called by: ``edge.store``.

Rules:
- What comes in is put into a bounded queue without a lock or a wake-up; the thread looks by itself.
- A disk that takes nothing is never the caller's trouble: rows wait, the oldest are given up beyond the
  limit, and each round tries again.  It is told at most once a minute.
- Only the thread uses the connection and the backlog; others see numbers that may be a round old.
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from gpushare.core.ledger import Backlog, Entry, LedgerState
from gpushare.core.model import Record
from gpushare.core.problems import ConfigErrors
from gpushare.edge.store import schema, writing

ROUND_S = 0.5
LIMIT = 10_000  # rows that may wait; a team makes so many in a day
SILENCE_S = 10.0  # rows wait no longer than this in a ledger that is well
TELL_S = 60.0
PRUNE_S = 60.0

# Errors of a row, not of the disk.
_UNWRITABLE = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    TypeError,
    ValueError,
)

Report = Callable[[str, dict[str, object]], None]
"""Told of an event of the log and its fields, in the writer's thread."""


class Writer:
    """Writes rows until it is closed.

    Args:
        path: the ledger's file.
        keep_s: after how many seconds calls become daily totals.
        clock: monotonic seconds.
        wall: seconds since 1970.
        report: told when the ledger fails, works again, or rows were given up.
    """

    def __init__(
        self,
        path: Path,
        *,
        keep_s: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
        report: Report,
        limit: int = LIMIT,
    ) -> None:
        self._path = path
        self.keep_s = keep_s
        self._clock = clock
        self._wall = wall
        self._report = report
        self._limit = limit
        self._calls: deque[Entry] = deque()
        self._refusals: deque[Entry] = deque()  # apart, so that a flood of them displaces no call
        self._overflown = 0
        self._backlog = Backlog(limit)
        self._since: float | None = None  # when what is in the backlog came
        self._connection: sqlite3.Connection | None = None
        self._place = (0, 0)
        self._recovered = False  # what an earlier process left running is looked for once
        self._lost_calls = 0
        self._failed = ""
        self._told_at: float | None = None
        self._told_lost = 0
        self._told_lost_at: float | None = None
        self._prune_at = 0.0
        self._written = 0
        self._answered = clock()
        self._flushes: deque[Future[None]] = deque()
        self._opened: Future[int] = Future()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    # --- for the event loop ----------------------------------------------------------------------------

    def start(self) -> Future[int]:
        """Starts the thread; the result is how many calls an earlier process left running.

        The future raises ``ConfigErrors`` if the file cannot be used until somebody does something about it.
        One that cannot be written just now is no error: it is tried again.
        """
        self._thread.start()
        return self._opened

    def take(self, entry: Entry) -> None:
        """Queues an entry.  Never waits, never raises."""
        refusal = isinstance(entry, Record) and not entry.admitted
        queue = self._refusals if refusal else self._calls
        if len(queue) >= self._limit:  # the thread hangs in the disk
            with suppress(IndexError):
                queue.popleft()
                self._overflown += 1
        queue.append(entry)

    def flush(self) -> Future[None]:
        """Returns what is done once everything queued so far is written."""
        done: Future[None] = Future()
        self._flushes.append(done)
        self._wake.set()
        return done

    def stop(self) -> threading.Thread:
        """Asks the thread for a last round; returns it, to be joined."""
        self._stopping.set()
        self._wake.set()
        return self._thread

    def state(self) -> LedgerState:
        """Returns how the writing goes."""
        now = self._clock()
        queued = len(self._calls) + len(self._refusals)
        since = self._since if self._since is not None else self._answered if queued else now
        lag_s, answered_s = max(0.0, now - since), max(0.0, now - self._answered)
        return LedgerState(
            writable=self._connection is not None and not self._failed and max(lag_s, answered_s) < SILENCE_S,
            lag_s=lag_s,
            waiting=queued + len(self._backlog),
            written=self._written,
            lost=self._overflown + self._backlog.lost,
            answered_s=answered_s,
        )

    # --- in the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._connect()
        except ConfigErrors as error:
            self._opened.set_exception(error)
            return
        except Exception as error:  # noqa: BLE001 - as in _round
            self._fail(error)
        self._opened.set_result(self._lost_calls)
        while not self._stopping.is_set():
            self._round()
            self._wake.wait(ROUND_S)
            self._wake.clear()
        self._round()
        self._end()

    def _round(self) -> None:
        """Takes in what came and tries to write it; a failure only costs this round."""
        flushes = len(self._flushes)
        self._take_in()
        try:
            connection = self._connection or self._connect()
            if len(self._backlog):
                self._check_place()
                writing.write(connection, self._backlog)
                self._written += self._backlog.written()
            self._since = None
            self._prune(connection)
        except Exception as error:  # noqa: BLE001 - the thread must outlive whatever a disk can do
            self._fail(error)
        else:
            self._succeed()
            for _ in range(flushes):
                self._flushes.popleft().set_result(None)
        self._answered = self._clock()

    def _take_in(self) -> None:
        for queue in (self._calls, self._refusals):
            with suppress(IndexError):  # the loop may have given one up meanwhile
                for _ in range(len(queue)):
                    self._backlog.take(queue.popleft())
        if self._since is None and len(self._backlog):
            self._since = self._clock()
        self._tell_lost()

    def _connect(self) -> sqlite3.Connection:
        with schema.judged(self._path):
            connection = schema.open_writer(self._path)
        try:
            if not self._recovered:
                with schema.judged(self._path):
                    self._lost_calls = writing.end_lost(connection)
            self._place = _place(self._path)
        except BaseException:
            connection.close()
            raise
        if self._lost_calls and not self._recovered:
            self._report("calls.lost", {"lost": self._lost_calls})
        self._connection, self._recovered = connection, True
        return connection

    def _check_place(self) -> None:
        """Looks whether the file is still where it was; else rows would go where nobody finds them."""
        if _place(self._path) != self._place:
            raise FileNotFoundError(self._path)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Folds at most one day, so that rows never wait long for it."""
        now = self._clock()
        if now >= self._prune_at and not writing.prune(connection, self._wall() - self.keep_s):
            self._prune_at = now + PRUNE_S

    def _fail(self, error: Exception) -> None:
        self._failed = _reason(error)
        self._disconnect()
        if isinstance(error, _UNWRITABLE):  # a fault of ours: trying again would be for ever
            self._backlog.give_up()
            self._since = None
        now = self._clock()
        if self._told_at is None or now - self._told_at >= TELL_S:
            self._told_at = now
            self._report("ledger.failed", {"reason": self._failed, "waiting": len(self._backlog)})

    def _succeed(self) -> None:
        if self._failed:
            self._failed, self._told_at = "", None
            self._report("ledger.recovered", {})

    def _tell_lost(self) -> None:
        lost, now = self._overflown + self._backlog.lost, self._clock()
        if lost > self._told_lost and (self._told_lost_at is None or now - self._told_lost_at >= TELL_S):
            self._told_lost, self._told_lost_at = lost, now
            self._report("ledger.overflowed", {"lost": lost})

    def _end(self) -> None:
        """Gives up what could not be written to the last."""
        self._backlog.give_up()
        self._told_lost_at = None
        self._tell_lost()
        self._disconnect()
        for flush in self._flushes:
            flush.cancel()


def _place(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _reason(error: Exception) -> str:
    """Returns what to tell of a failure: our own sentence, SQLite's word or the class; no text with input."""
    if isinstance(error, ConfigErrors):
        return error.problems[0].message
    return getattr(error, "sqlite_errorname", None) or type(error).__name__
