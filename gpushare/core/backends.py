"""One set of slots, and what the Ollama behind it holds in memory.

Owns: the ``Backend`` record.  Called by: ``core.scheduler``, which alone changes it; everybody may read it.

Rules:
- ``busy`` counts granted slots from the decision on, not from the moment the waiting task wakes up.
- While ``incoming`` is set (a swap), nothing but that model may be granted: a request for the model that is
  being evicted is accepted by its runner, which prolongs the eviction.
- Lowering ``slots`` never interrupts; nothing is granted while ``busy >= slots``.
"""

from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from gpushare.core.model import Lane

LISTINGS_KEPT = 16


class Want(NamedTuple):
    """What a waiting call needs: slots of a lane, and a model."""

    lane: Lane
    model: str


@dataclass(slots=True, eq=False, kw_only=True)
class Backend:
    """One Ollama's slots in one lane.

    Attributes:
        slots: how many calls may run at once, at most Ollama's own ``OLLAMA_NUM_PARALLEL``.
        busy: leases held.
        resident: loaded models, and since when, in the caller's clock.
        incoming: the model being loaded for a call already granted.
        load_since: when that load could begin, None while calls of another model still run here.
        most: how many calls may run at once for now; None: ``slots``.
    """

    name: str
    slots: int
    lane: Lane = Lane.GENERATE
    busy: int = 0
    up: bool = True
    resident: dict[str, float] = field(default_factory=dict)
    incoming: str | None = None
    load_since: float | None = None
    most: int | None = None
    _together: deque[frozenset[str]] = field(default_factory=lambda: deque(maxlen=LISTINGS_KEPT))

    def copy(self) -> "Backend":
        """Returns one that can be played on; both learn which models fit together."""
        return replace(self, resident=dict(self.resident))

    @property
    def free(self) -> bool:
        """Whether a call may be granted here now, as far as slots go."""
        if self.most is not None and self.busy >= self.most:
            return False
        return self.busy < self.slots and self.up

    def admits(self, want: Want) -> bool:
        """Whether a call may run here: right lane, no foreign swap pending."""
        lane, model = want
        return lane is self.lane and (self.incoming is None or self.incoming == model)

    def fits(self, model: str) -> bool:
        """Whether the model is known to fit into memory beside all that is loaded now."""
        wanted = frozenset((*self.resident, model))
        return any(wanted <= listing for listing in self._together)

    def evicts(self, model: str) -> bool:
        """Whether granting the model here would start a swap that throws another model out."""
        return (
            self.lane is Lane.GENERATE
            and self.incoming is None
            and bool(self.resident)
            and model not in self.resident
            and not self.fits(model)
        )

    def rank(self, model: str, wanted: Container[Want]) -> tuple[int, float]:
        """Returns how well a call for the model suits here; the smallest wins.

        Args:
            model: the model of the call.
            wanted: what waiting calls need, to tell whether a resident model is still asked for.
        """
        if model in self.resident:
            return 0, 0.0
        if model == self.incoming:
            return 1, 0.0
        if not self.evicts(model):
            return 2, 0.0
        if not any(Want(self.lane, loaded) in wanted for loaded in self.resident):
            return 3, 0.0
        return 4, min(self.resident.values())

    def take(self, model: str, *, resident: bool) -> None:
        """Takes a slot; a model that has to be loaded puts up the barrier."""
        self.busy += 1
        if not resident and self.lane is Lane.GENERATE:
            if self.incoming is None:
                self.load_since = None
            self.incoming = model

    def became_resident(self, model: str, now: float) -> None:
        """Notes that a model answers, so it is loaded; what does not fit beside it is gone."""
        if self.incoming == model:
            self.incoming = None
        if model in self.resident:
            return
        if self.evicts(model):
            self.resident.clear()
        self.resident[model] = now

    def list_resident(self, models: set[str] | frozenset[str], now: float) -> None:
        """Takes a fresh list of loaded models; those already known keep their age."""
        if len(models) > 1 and not any(models <= listing for listing in self._together):
            self._together.append(frozenset(models))
        if self.incoming in models:
            self.incoming = None
        self.resident = {model: self.resident.get(model, now) for model in sorted(models)}
