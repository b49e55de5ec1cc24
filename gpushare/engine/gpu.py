"""The picture of the GPUs: what was read last, and how busy each card was in the last 15 minutes.

Owns: ``GpuWatch.view`` and the history behind it.  Called by: ``app`` (runs it), pages and metrics (read
``view``).

Rules: nothing waits for a reading, and no failure of a reading reaches anything else.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from gpushare.core.gpu import GpuHistory, GpuReport, GpuView
from gpushare.engine.ports import GpuSource

AGAIN_S = 60.0  # pause after a fault of ours

_log = structlog.get_logger()


class GpuWatch:
    """Keeps the picture of the GPUs.

    ``on_power`` are told what the cards draw whenever it was read.

    Args:
        source: where readings come from.
        required: whether a machine without a driver is a fault that people are told of.
        clock: monotonic seconds.
    """

    def __init__(self, source: GpuSource, *, required: bool, clock: Callable[[], float]) -> None:
        self._source = source
        self._required = required
        self._clock = clock
        self._history = GpuHistory()
        self.view = GpuView()
        self.on_power: list[Callable[[float | None], None]] = []

    async def run(self) -> None:
        """Takes readings until cancelled."""
        while True:
            try:
                await self._source.run(self.take)
            except Exception:  # noqa: BLE001 - GPU numbers are worth no call
                _log.exception("gpu.failed")
                self.take(GpuReport(error="a fault of gpushare"))
            await asyncio.sleep(AGAIN_S)

    def take(self, report: GpuReport) -> None:
        """Publishes the picture after a report, and logs what has changed for better or worse."""
        now = self._clock()
        before = self.view
        view = before.after(report, at=now, required=self._required)
        self._history.take(view.readings, at=now)
        self.view = replace(view, history=self._history.points())
        for tell in self.on_power:
            tell(view.watts)
        if view.note is not None and view.note != before.note:
            say = _log.warning if view.fault else _log.info
            say("gpu.incomplete" if view.readable else "gpu.unreadable", reason=view.note)
        elif view.note is None and before.note is not None:
            _log.info("gpu.readable")
