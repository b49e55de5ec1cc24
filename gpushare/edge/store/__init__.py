"""The usage ledger: one SQLite file, written by one thread, read by short-lived connections.

Called by: ``app``, which hands it to the gateway as ``engine.ports.Ledger`` and to the pages as
``LedgerReader``.  Rules: writing is synchronous and never waits, reading is asynchronous; neither touches the
disk in the event loop.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from gpushare.core.errors import LedgerUnavailable
from gpushare.core.ledger import Action, Admission, LedgerState
from gpushare.core.model import Principal, Record
from gpushare.core.problems import ConfigErrors
from gpushare.core.usage import By, DayLoad, KeyUse, Refusal, Since, Usage, UsageRow
from gpushare.edge.beside import beside
from gpushare.edge.store import reading
from gpushare.edge.store.schema import damaged, judged, open_reader
from gpushare.edge.store.writer import LIMIT, SILENCE_S, Report, Writer

NAME = "ledger.db"
CLOSE_S = 3.0
FRESH_S = 1.0
READERS = 2  # at once; SQLite keeps the file open for as many as there once were
READ_S = 30.0  # the longest that a page waits
STEPS = 100_000  # of SQLite's, which take a millisecond or so: so often a reader looks whether it is over

_Found = TypeVar("_Found")


class Store:
    """The ledger of one server.

    Args:
        path: the file; it is made when the store is opened.
        keep_s: after how many seconds calls become daily totals.
        report: told, in a thread, of an event of the log and its fields.
        clock: monotonic seconds.
        wall: seconds since 1970.
        limit: how many rows may wait for a disk that takes none.
    """

    def __init__(
        self,
        path: Path,
        *,
        keep_s: float,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        limit: int = LIMIT,
    ) -> None:
        self.path = path
        self._wall = wall
        self._writer = Writer(path, keep_s=keep_s, clock=clock, wall=wall, report=report, limit=limit)
        self._closed = False
        self._readers = asyncio.Semaphore(READERS)

    # --- writing ---------------------------------------------------------------------------------------

    async def open(self) -> int:
        """Opens the file and begins to write; returns how many calls an earlier process left running.

        Raises:
            ConfigErrors: it is damaged, unsafe, or of a newer gpushare.  One that merely cannot be written
                now is no error: rows wait.
        """
        return await asyncio.wrap_future(self._writer.start())

    def admitted(self, admission: Admission) -> None:
        """Notes that a call was let in, so that a crash does not leave it without an outcome."""
        self._writer.take(admission)

    def append(self, record: Record) -> None:
        """Adds a call that ended."""
        self._writer.take(record)

    def note_action(self, who: Principal, what: str, target: str = "", detail: str = "") -> None:
        """Adds what an admin did."""
        action = Action(
            at=self._wall(), key_id=who.key_id, name=who.name, what=what, target=target, detail=detail
        )
        self._writer.take(action)

    def set_keep(self, seconds: float) -> None:
        """Changes after how many seconds calls become daily totals."""
        self._writer.keep_s = seconds

    async def flush(self) -> None:
        """Waits until everything noted so far is written."""
        await asyncio.wrap_future(self._writer.flush())

    async def close(self) -> None:
        """Writes what waits and closes the file; what the disk does not take in time is lost.

        What is being read is given up.
        """
        self._closed = True
        thread = self._writer.stop()
        if thread.ident is not None:
            await beside(lambda: thread.join(CLOSE_S))

    @property
    def state(self) -> LedgerState:
        """How the writing goes."""
        return self._writer.state()

    @property
    def answering(self) -> bool:
        """Whether the thread that writes comes round, be it in vain."""
        return self._writer.state().answered_s < SILENCE_S

    # --- reading ---------------------------------------------------------------------------------------

    async def calls(self, since: float, take: Callable[[Iterator[Record]], _Found]) -> _Found:
        """Returns what ``take`` makes of every admitted call that ended since an instant, oldest first.

        Args:
            since: seconds since 1970.
            take: called in another thread, so that a busy day need not lie in memory as a whole.

        Raises:
            LedgerUnavailable: it cannot be read now.
        """
        return await self._look(lambda connection: take(reading.calls(connection, since)))

    async def last_calls(self) -> list[Record]:
        """Returns each owner's newest queued call that is known to have ended; raises as ``calls``."""
        return await self._look(reading.last_calls)

    async def own_calls(self, owner: str, since: float) -> list[Record]:
        """Returns an owner's queued calls since an instant, newest first; raises as ``calls``."""
        return await self._read(lambda connection: reading.own_calls(connection, owner, since))

    async def usage(self, by: By, since: Since, *, owner: str | None = None) -> Usage:
        """Returns what one owner used, or all did; raises as ``calls``."""
        now = self._wall()
        return await self._read(lambda connection: reading.usage(connection, by, since, now, owner=owner))

    async def own_days(self, owner: str, count: int) -> list[UsageRow]:
        """Returns what an owner used on each of the last days, today last; raises as ``calls``."""
        now = self._wall()
        return await self._read(lambda connection: reading.own_days(connection, owner, count, now))

    async def refusals(self, owner: str, since: float) -> list[Refusal]:
        """Returns which of an owner's calls were turned away, newest first; raises as ``calls``."""
        return await self._read(lambda connection: reading.refusals(connection, owner, since))

    async def key_uses(self, since: float) -> Mapping[str, KeyUse]:
        """Returns for each key what it used since an instant, and its last use; raises as ``calls``."""
        return await self._read(lambda connection: reading.key_uses(connection, since))

    async def day_loads(self, count: int, *, hours: tuple[int, int] = (0, 24)) -> list[DayLoad]:
        """Returns how the last days went within these hours, today last; raises as ``calls``."""
        now = self._wall()
        return await self._read(lambda connection: reading.day_loads(connection, count, now, hours=hours))

    async def actions(self, limit: int) -> list[Action]:
        """Returns what admins did last, newest first; raises as ``calls``.

        What was noted is written first, unless the disk takes nothing, or too long.
        """
        if self.state.writable:
            with suppress(TimeoutError):
                async with asyncio.timeout(FRESH_S):
                    await asyncio.shield(self.flush())
        return await self._read(lambda connection: reading.actions(connection, limit))

    async def _read(self, query: Callable[[sqlite3.Connection], _Found]) -> _Found:
        """Reads for somebody who does not wait for ever."""
        try:
            async with asyncio.timeout(READ_S):
                return await self._look(query)
        except TimeoutError:
            raise LedgerUnavailable from None

    async def _look(self, query: Callable[[sqlite3.Connection], _Found]) -> _Found:
        return await beside(lambda: self._query(query), within=self._readers)

    def _query(self, query: Callable[[sqlite3.Connection], _Found]) -> _Found:
        if self._closed:
            raise LedgerUnavailable
        try:
            with closing(open_reader(self.path)) as connection:
                connection.set_progress_handler(lambda: self._closed, STEPS)
                return query(connection)
        except (sqlite3.Error, ConfigErrors, OSError) as error:
            raise LedgerUnavailable from error


def check(path: Path) -> None:
    """Reads the whole file and looks for damage; called in a thread, by whoever examines the server.

    Raises:
        ConfigErrors: it is damaged, or of another gpushare.
        LedgerUnavailable: it cannot be read now.
    """
    try:
        with closing(open_reader(path)) as connection, judged(path):
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except (sqlite3.Error, OSError) as error:
        raise LedgerUnavailable from error
    if said != "ok":
        raise damaged(path)
