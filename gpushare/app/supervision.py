"""What the service manager is told: that the server serves, reloads, closes down, and makes progress.

Called by: ``app.process``.
"""

import asyncio

import structlog

from gpushare.app.serving import Running
from gpushare.edge.systemd import Notifier

AFTER_GRACE_S = 20.0  # the end takes less than 10 s longer than the answers
CLOSING = "Closing down; running answers may finish."
LOOK_AGAIN_S = 1.0  # a part that fails is asked again so soon: one bad moment must not end the service

_log = structlog.get_logger()


class Supervision:
    """One server and its service manager.

    Args:
        server: what is watched.
        notifier: how the service manager is told.
    """

    def __init__(self, server: Running, notifier: Notifier) -> None:
        self._server = server
        self._notifier = notifier

    def serving(self) -> None:
        """The server serves: after its start, and after a reload."""
        self._notifier.ready(self._doing())

    def reloading(self) -> None:
        """Settings and keys are being read."""
        self._notifier.reloading()

    def closing_down(self, grace_s: float) -> None:
        """The server takes nothing new, and running answers have so long."""
        self._notifier.stopping(CLOSING, within_s=grace_s + AFTER_GRACE_S)

    async def watch(self) -> None:
        """Feeds the watchdog, if there is one, while every part makes progress; until cancelled."""
        limit_s = self._notifier.watchdog_s
        if limit_s is None:
            return
        told: tuple[str, ...] = ()
        while True:
            failing = self._server.life.failing()
            if failing and failing != told:
                _log.error("watchdog.withheld", failing=failing)
            told = failing
            if not failing:
                counts = self._server.parts.slots.counts()
                self._notifier.alive(f"{self._doing()} {counts.held} running, {counts.waiting} waiting.")
            await asyncio.sleep(min(LOOK_AGAIN_S, limit_s / 2) if failing else limit_s / 2)

    def _doing(self) -> str:
        """Returns what the server does, and what keeps it from doing what is on disk."""
        if self._server.parts.closing:
            return CLOSING
        refused = " Settings or keys on disk cannot be used." if self._server.parts.config_rejected else ""
        return f"Serving on {self._server.url}.{refused}"
