"""Whether calls go to Ollama: hears how calls and probes ended, and tells the queue.

Owns: the breakers and the timer of those who wait at an open one.  Called by: ``engine.gateway`` (every end
of a call), ``engine.monitor`` (every probe).

Rules:
- While the breaker is open nothing is granted and new calls are refused at once.  Calls that already waited
  go on waiting for ``grace_s``, so that a short restart of Ollama costs nobody anything.
- Half-open, one call at a time is granted.
"""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from gpushare.core.breaker import FAULTS, SILENT, Breaker, Door, ModelBreakers
from gpushare.core.errors import ModelFailing, OllamaDown, spread_retry_s
from gpushare.core.model import Outcome
from gpushare.engine.slots import LocalSlots

_log = structlog.get_logger()


class Health:
    """The breakers of one Ollama.

    Attributes:
        on_change: called whenever a breaker has moved.
        on_silent: called with the name of a model whenever it was shut because it keeps silent.
        drops: how often a model was dropped from memory for that.

    Args:
        slots: told whether to grant, for its ``backends``.
        backends: names of the scheduler's backends behind this Ollama.
        grace_s: how long calls that already wait go on waiting at an open breaker.
        clock: monotonic seconds.
        jitter: returns a number in [0, 1).
    """

    def __init__(
        self,
        slots: LocalSlots,
        *,
        backends: Iterable[str],
        grace_s: float,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self.breaker = Breaker()
        self.grace_s = grace_s
        self._models = ModelBreakers()
        self._slots = slots
        self._backends = tuple(backends)
        self._clock = clock
        self._jitter = jitter
        self._timer: asyncio.TimerHandle | None = None
        self.on_change: list[Callable[[], None]] = []
        self.on_silent: list[Callable[[str], None]] = []
        self.drops = 0

    @property
    def probe_at(self) -> float:
        """When Ollama is to be probed at the latest, on the clock; never while the breaker is not open."""
        return self.breaker.probe_at if self.breaker.door is Door.OPEN else float("inf")

    def shut_models(self) -> tuple[str, ...]:
        """Returns the models that are not asked for now."""
        return self._models.shut(self._clock())

    def dropped_models(self) -> tuple[str, ...]:
        """Returns the models that were dropped from memory lately and have not answered since."""
        return self._models.dropped_lately(self._clock())

    def admit(self, model: str) -> None:
        """Lets a call on.

        Raises:
            OllamaDown: the breaker is open.
            ModelFailing: that of the model is.
        """
        if self.breaker.door is Door.OPEN:
            raise self.down()
        shut_s = self._models.shut_s(model, self._clock()) if model else None
        if shut_s is not None:
            raise ModelFailing(model, spread_retry_s(shut_s, self._jitter()))

    def let_wait(self) -> None:
        """Lets a call wait once more that had a slot for nothing.

        Raises:
            OllamaDown: the breaker is open, and those who waited have been sent away already.
        """
        if self.breaker.door is Door.OPEN and self._timer is None:
            raise self.down()

    def down(self) -> OllamaDown:
        """Returns the refusal of a call at an open breaker."""
        retry_s = spread_retry_s(self.breaker.retry_after_s(self._clock()), self._jitter())
        return OllamaDown(self.breaker.why, breaker_open=True, retry_after_s=retry_s)

    def ended(self, model: str, outcome: Outcome, status: int, *, loading: bool = False) -> None:
        """Hears how a call ended that was on its way to Ollama.

        Errors count against the model if it was ``loading``.  Those of a loaded one are mostly the call's own
        (a picture, a schema), and libraries send such a call three times.
        """
        now = self._clock()
        failing = loading and outcome is Outcome.UPSTREAM_ERROR and (status >= 500 or status < 400)
        if model and (failing or outcome in SILENT):
            if self._models.failed(model, now):
                reason = "the model keeps failing" if failing else "the model keeps silent"
                _log.warning("breaker.opened", model=model, reason=reason)
                self._changed()
                for tell in () if failing else self.on_silent:
                    tell(model)
        else:
            self._models.ended(model, ok=outcome is Outcome.OK)
        if outcome in FAULTS or outcome is Outcome.OK:
            before = self.breaker.door
            self.breaker.ended(outcome, now)
            self._heed(before)
        elif outcome is Outcome.UPSTREAM_REFUSED:
            self._dial_failed(now)

    def not_sent(self, model: str) -> None:
        """Hears that a call which was let on ended before it was on its way to Ollama."""
        self._models.ended(model, ok=False)

    def dropped(self, model: str) -> None:
        """Hears that a silent model left memory: the next call may load it again."""
        self.drops += 1
        self._models.dropped(model, self._clock())
        self._changed()

    def probed(self, *, up: bool, busy: bool = False) -> None:
        """Hears whether a probe was answered, or not because Ollama was ``busy``: that says nothing."""
        now, before = self._clock(), self.breaker.door
        if not up and before is not Door.OPEN:
            if not busy:
                self._dial_failed(now)
        else:
            self.breaker.probed(now, up=up, jitter=self._jitter())
            self._heed(before)

    def _dial_failed(self, now: float) -> None:
        before = self.breaker.door
        self.breaker.dial_failed("it cannot be reached", now)
        self._heed(before)

    def _heed(self, before: Door) -> None:
        """Tells the queue if the door has moved."""
        door = self.breaker.door
        if door is before:
            return
        _log.warning(f"breaker.{_EVENTS[door]}", reason=self.breaker.why)
        for name in self._backends:
            self._slots.set_door(name, granting=door is not Door.OPEN, trial=door is Door.HALF_OPEN)
        if door is Door.OPEN and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.grace_s, self._send_away)
        elif door is Door.CLOSED:
            self._disarm()
        self._changed()

    def _changed(self) -> None:
        for tell in self.on_change:
            tell()

    def _send_away(self) -> None:
        """Ends the grace of those who wait, unless calls run again."""
        self._timer = None
        if self.breaker.door is Door.OPEN:
            self._slots.evict(lambda _: True, self.down)
        elif self.breaker.door is Door.HALF_OPEN:
            self._timer = asyncio.get_running_loop().call_later(self.grace_s, self._send_away)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def close(self) -> None:
        """Arms nothing any more."""
        self._disarm()


_EVENTS = {Door.OPEN: "opened", Door.HALF_OPEN: "half_opened", Door.CLOSED: "closed"}
