"""When Ollama, or one of its models, is not asked because it keeps failing.

Owns: ``Breaker`` and ``ModelBreakers``, the counts behind them.  Called by: ``engine.health``.

Rules:
- What a client or a limit of the client's caused never counts, and neither does work of others on Ollama.
- An open breaker is left by a probe of our own, never by sending somebody's call to see what happens; after
  it one call at a time has to go well.
- A model that fails shuts itself out, not the others.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from enum import StrEnum

from gpushare.core.model import Outcome

DIALS_TO_OPEN = 3  # in a row
FAULTS_TO_OPEN = 5  # of the last RECENT answers, within WINDOW_S
RECENT = 20
WINDOW_S = 30.0
TRIALS_TO_CLOSE = 2
FIRST_HOLD_S = 1.0
LONGEST_HOLD_S = 15.0
PROBE_EVERY_S = 2.0  # while it is open: calls are to run within 3 s of Ollama's return
MODEL_FAILURES = 3  # in a row
MODEL_FIRST_HOLD_S = 30.0
MODEL_LONGEST_HOLD_S = 300.0
MODELS_KEPT = 200
DROP_TOLD_S = 3600.0  # nobody may ask for that model ever again

FAULTS = frozenset(
    {
        Outcome.UPSTREAM_RESET,
        Outcome.UPSTREAM_TRUNCATED,
        Outcome.UPSTREAM_PROTOCOL,
        Outcome.TIMEOUT_FIRST_BYTE,
        Outcome.TIMEOUT_IDLE,
    }
)
"""Ends of calls that speak against Ollama as a whole."""


SILENT = frozenset({Outcome.TIMEOUT_FIRST_BYTE, Outcome.TIMEOUT_IDLE})
"""Ends of calls that speak against their model too: with one slot they are too rare to open the whole."""


class Door(StrEnum):
    """Whether calls go to Ollama: all, one at a time, or none."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class Breaker:
    """The breaker of one Ollama.

    Attributes:
        door: its state.
        why: what opened it last, as the middle of a sentence; empty before.
        probe_at: when Ollama is to be probed next, while open.
    """

    def __init__(self) -> None:
        self.door = Door.CLOSED
        self.why = ""
        self.probe_at = 0.0
        self._dials = 0
        self._ends: deque[tuple[float, bool]] = deque(maxlen=RECENT)
        self._hold_s = FIRST_HOLD_S
        self._held_until = 0.0
        self._trials = 0

    def dial_failed(self, why: str, now: float) -> None:
        """Counts a dial that failed, a call's or a probe's."""
        self._dials += 1
        if self.door is Door.HALF_OPEN or (self.door is Door.CLOSED and self._dials >= DIALS_TO_OPEN):
            self._open(why, now)

    def ended(self, outcome: Outcome, now: float) -> None:
        """Counts the end of a call that Ollama was sent."""
        if outcome in FAULTS:
            self._ends.append((now, True))
            if self.door is Door.HALF_OPEN or (self.door is Door.CLOSED and self._faults(now)):
                self._open("it keeps breaking off", now)
        elif outcome is Outcome.OK:
            self._dials = 0
            self._ends.append((now, False))
            if self.door is Door.HALF_OPEN:
                self._trials += 1
                if self._trials >= TRIALS_TO_CLOSE:
                    self._close()

    def probed(self, now: float, *, up: bool, jitter: float) -> None:
        """Takes the answer to a probe.

        Args:
            now: monotonic seconds.
            up: whether Ollama answered.
            jitter: in [0, 1); spreads the next probe by a fifth either way.
        """
        if up:
            self._dials = 0
        if self.door is not Door.OPEN:
            return
        if up and now >= self._held_until:
            self.door, self._trials = Door.HALF_OPEN, 0
        else:
            self.probe_at = now + min(self._hold_s, PROBE_EVERY_S) * (0.8 + 0.4 * jitter)

    def retry_after_s(self, now: float) -> float:
        """Returns when a caller who is turned away may try again: a second after the next probe."""
        return max(self.probe_at, self._held_until, now) - now + 1.0

    def _faults(self, now: float) -> bool:
        return sum(bad and now - at <= WINDOW_S for at, bad in self._ends) >= FAULTS_TO_OPEN

    def _open(self, why: str, now: float) -> None:
        """Opens; each time a trial has failed it stays open twice as long."""
        if self.door is Door.HALF_OPEN:
            self._hold_s = min(2 * self._hold_s, LONGEST_HOLD_S)
        self.door, self.why = Door.OPEN, why
        self._held_until = self.probe_at = now + self._hold_s
        self._ends.clear()

    def _close(self) -> None:
        self.door = Door.CLOSED
        self._hold_s = FIRST_HOLD_S
        self._dials = 0
        self._ends.clear()


@dataclass(slots=True)
class _Model:
    failures: int = 0
    hold_s: float = MODEL_FIRST_HOLD_S
    shut_until: float | None = None
    trial: bool = False
    dropped_at: float | None = None


class ModelBreakers:
    """One breaker for each model that has failed lately."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, _Model] = OrderedDict()

    def shut_s(self, model: str, now: float) -> float | None:
        """Returns for how many seconds a model is shut; None while calls for it are taken.

        After that time one call is taken as a trial, and the others wait for its end.
        """
        entry = self._models.get(model)
        if entry is None or entry.shut_until is None:
            return None
        if now >= entry.shut_until and not entry.trial:
            entry.trial = True
            return None
        return max(entry.shut_until - now, FIRST_HOLD_S)

    def failed(self, model: str, now: float) -> bool:
        """Counts an error of Ollama's own about a model; returns whether it is shut from now on."""
        entry = self._models.setdefault(model, _Model())
        self._models.move_to_end(model)
        if len(self._models) > MODELS_KEPT:
            self._models.popitem(last=False)
        entry.failures += 1
        if entry.trial:
            entry.hold_s = min(2 * entry.hold_s, MODEL_LONGEST_HOLD_S)
        elif entry.failures < MODEL_FAILURES or entry.shut_until is not None:
            return False
        entry.trial = False
        entry.shut_until = now + entry.hold_s
        return True

    def ended(self, model: str, *, ok: bool) -> None:
        """Notes any other end of a call: a good one forgives all, another one only ends a trial."""
        entry = self._models.get(model)
        if entry is None:
            return
        if ok:
            del self._models[model]
        else:
            entry.trial = False

    def dropped(self, model: str, now: float) -> None:
        """Notes that a shut model was dropped from memory: it need not be shut any longer to be tried."""
        entry = self._models.get(model)
        if entry is not None:
            entry.dropped_at = entry.shut_until = now

    def dropped_lately(self, now: float) -> tuple[str, ...]:
        """Returns the models that were dropped within the hour and have not answered since."""
        return tuple(
            name
            for name, each in self._models.items()
            if each.dropped_at is not None and now - each.dropped_at < DROP_TOLD_S
        )

    def shut(self, now: float) -> tuple[str, ...]:
        """Returns the models that are shut now."""
        return tuple(
            name
            for name, each in self._models.items()
            if each.shut_until is not None and now < each.shut_until
        )
