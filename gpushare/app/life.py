"""What parts want done in the life of the server: at its start, on reload, when it closes down, at its end.

Called by: ``app.build`` enters what each object needs, beside making it; ``app.serving`` does it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog

from gpushare.core.config import Config

AGAIN_S = 1.0  # pause after a fault of ours

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Life:
    """Lists to add to; entries are called in their order, those of ``on_stop`` in the reverse one.

    ``on_start`` is awaited before the server listens.  ``tasks`` are kept up while the server lives.
    ``on_read`` is called with a new configuration, beside the loop, to read what that names; it returns what
    puts this in use, which may not fail.
    ``on_reload`` is called with a new configuration; an entry that raises has changed nothing, and the whole
    reload is undone.  ``on_drain`` is called first thing when the server closes down, while every connection
    still works.  Neither may wait.
    ``on_stop`` is awaited when nothing is served any more.  ``checks`` tell, by name, whether a part makes
    progress; they may not wait either, and while one says no, the service manager's watchdog is not fed.
    """

    on_start: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    tasks: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)
    on_read: list[Callable[[Config], Callable[[], None]]] = field(default_factory=list)
    on_reload: list[Callable[[Config], None]] = field(default_factory=list)
    checks: dict[str, Callable[[], bool]] = field(default_factory=dict)
    on_drain: list[Callable[[], None]] = field(default_factory=list)
    on_stop: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def start(self) -> None:
        """Awaits what must be done before anybody is served."""
        for begin in self.on_start:
            await begin()

    def read(self, new: Config) -> list[Callable[[], None]]:
        """Has everything read that a new configuration names; returns what puts it in use.

        Raises:
            Exception: whatever a part raised that cannot use what it read.
        """
        return [read(new) for read in self.on_read]

    def reload(self, old: Config, new: Config) -> None:
        """Hands everybody the new configuration, or, should one fail, all of them the old one again.

        Raises:
            Exception: whatever the one that failed raised; the old configuration holds.
        """
        told = []
        try:
            for adopt in self.on_reload:
                adopt(new)
                told.append(adopt)
        except BaseException:
            for adopt in told:
                adopt(old)
            raise

    def failing(self) -> tuple[str, ...]:
        """Returns the names of the checks that say no, or cannot say anything."""
        return tuple(name for name, check in self.checks.items() if not _says_yes(check))

    def close_down(self) -> None:
        """Calls what waits for the beginning of the end; once, however often it is asked for."""
        while self.on_drain:
            self.on_drain.pop(0)()

    async def stop(self) -> None:
        """Awaits what waits for the end of everything, the newest entry first."""
        while self.on_stop:
            await self.on_stop.pop()()


def _says_yes(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except Exception:  # noqa: BLE001 - a part that cannot tell is a part that fails
        return False


async def keep_up(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a task until it ends or is cancelled; one that fails is begun again.

    The fault is ours, and everybody's answers would end with the server.
    """
    while True:
        try:
            return await run()
        except Exception:  # noqa: BLE001 - whatever it was, the server goes on
            _log.exception("task.failed")
        await asyncio.sleep(AGAIN_S)
