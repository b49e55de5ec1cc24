"""What calls and people usually do, from the last that was seen of them: how long, and how soon again.

Owns: the last lengths per (owner, model) and per model, and per (owner, class, model) the last times from the
end of a call to that owner's next one.  Called by: ``core.scheduler``; read by ``core.forecast``.

Rules:
- ``core.costs`` has the means that are charged; what is told to people comes from here.
- Noting is O(1) for a call; what is read of it is worked out when it is read.
- Owners and models come from outside, so every table is bounded.
"""

from bisect import bisect_right
from collections import OrderedDict, deque
from typing import TypeVar

from gpushare.core.costs import FIRST_ESTIMATE_S, FIRST_LOAD_S
from gpushare.core.flows import Ticket
from gpushare.core.model import Service

Key = TypeVar("Key")

KEPT = 50  # of each kind; older ones tell of another week's work
NEEDED = 5  # fewer tell nothing
RETURN_WITHIN_S = 20.0  # who usually takes longer than this is not expected back
UNHEARD_OF = 1 / 3  # what is left of a call longer than nearly all before it, by how long it has run
KEYS_KEPT = 512


class Samples:
    """The last of one kind, in seconds."""

    __slots__ = ("_mean", "_newest", "_sorted")

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=KEPT)
        self._sorted: list[float] | None = None
        self._mean: float | None = None

    def __len__(self) -> int:
        return len(self._newest)

    def add(self, seconds: float) -> None:
        """Takes one more; the oldest makes room."""
        self._newest.append(seconds)
        self._sorted = self._mean = None

    def mean(self) -> float:
        """Returns the mean of at least one: what many of them take together, for each."""
        if self._mean is None:
            self._mean = sum(self._newest) / len(self._newest)
        return self._mean

    def median(self) -> float:
        """Returns the middle of at least one."""
        ranked = self._ranked()
        return ranked[len(ranked) // 2]

    def left_s(self, elapsed_s: float) -> float:
        """Returns what is left of one that has gone on for some time: the mean rest of all longer ones."""
        ranked = self._ranked()
        longer = ranked[bisect_right(ranked, elapsed_s) :]
        if len(longer) < 3:
            return max(self.mean() - elapsed_s, UNHEARD_OF * elapsed_s)
        return sum(longer) / len(longer) - elapsed_s

    def _ranked(self) -> list[float]:
        if self._sorted is None:
            self._sorted = sorted(self._newest)
        return self._sorted


class Habits:
    """What was seen of calls that ended."""

    def __init__(self) -> None:
        self._pairs: OrderedDict[tuple[str, str], Samples] = OrderedDict()
        self._models: OrderedDict[str, Samples] = OrderedDict()
        self._gaps: OrderedDict[tuple[str, Service, str], Samples] = OrderedDict()
        self._ends: OrderedDict[str, deque[float]] = OrderedDict()
        self._loads: OrderedDict[str, Samples] = OrderedDict()
        self._any_load = Samples()

    def came(self, ticket: Ticket, now: float) -> None:
        """Notes a new call: the owner is back from the call that ended first."""
        ends = self._ends.get(ticket.owner)
        if ends:
            gap_s = now - ends.popleft()
            _kept(self._gaps, (ticket.owner, ticket.service, ticket.model)).add(gap_s)

    def ended(self, ticket: Ticket, now: float) -> None:
        """Notes the end of a call that had begun."""
        ends = self._ends.get(ticket.owner)
        if ends is None:
            ends = self._ends[ticket.owner] = deque(maxlen=KEPT)
            if len(self._ends) > KEYS_KEPT:
                self._ends.popitem(last=False)
        ends.append(now)

    def took(self, ticket: Ticket, seconds: float) -> None:
        """Notes how long a call took that ended normally, its load left out."""
        _kept(self._pairs, (ticket.owner, ticket.model)).add(seconds)
        _kept(self._models, ticket.model).add(seconds)

    def loaded(self, model: str, seconds: float) -> None:
        """Notes how long a load took."""
        _kept(self._loads, model).add(seconds)
        self._any_load.add(seconds)

    def knows_load(self, model: str) -> bool:
        """Whether a load of the model was seen."""
        return model in self._loads

    def usual_load_s(self, model: str) -> float | None:
        """Returns how long a load of the model usually takes, None while none was seen."""
        seen = self._loads.get(model)
        return seen.mean() if seen else None

    def load_left_s(self, model: str, elapsed_s: float) -> float:
        """Returns what is probably left of a load that has gone on for some time."""
        seen = self._loads.get(model, self._any_load)
        return seen.left_s(elapsed_s) if len(seen) else max(FIRST_LOAD_S - elapsed_s, UNHEARD_OF * elapsed_s)

    def knows(self, model: str) -> bool:
        """Whether enough is known of a model's calls to tell a time that rests on them."""
        seen = self._models.get(model)
        return seen is not None and len(seen) >= NEEDED

    def length_s(self, ticket: Ticket) -> float:
        """Returns the expected length of a call."""
        seen = self._lengths(ticket)
        return seen.mean() if seen else FIRST_ESTIMATE_S

    def usual_s(self, ticket: Ticket) -> float | None:
        """Returns the usual length of such a call, None while too little is known of its model."""
        return self.length_s(ticket) if self.knows(ticket.model) else None

    def left_s(self, ticket: Ticket, elapsed_s: float) -> float:
        """Returns what is probably left of a call that has run for some time; never nothing."""
        seen = self._lengths(ticket)
        return seen.left_s(elapsed_s) if seen else max(FIRST_ESTIMATE_S - elapsed_s, UNHEARD_OF * elapsed_s)

    def back_after_s(self, ticket: Ticket) -> float | None:
        """Returns how soon after the end of such a call its owner sends the next, None for not soon."""
        seen = self._gaps.get((ticket.owner, ticket.service, ticket.model))
        if seen is None or len(seen) < NEEDED:
            return None
        gap_s = seen.median()
        return gap_s if gap_s <= RETURN_WITHIN_S else None

    def _lengths(self, ticket: Ticket) -> Samples | None:
        """Returns the most specific lengths there are enough of."""
        own = self._pairs.get((ticket.owner, ticket.model))
        return own if own and len(own) >= NEEDED else self._models.get(ticket.model)


def _kept(table: OrderedDict[Key, Samples], key: Key) -> Samples:
    """Returns the samples of a key; the key that was not noted for longest makes room for a new one."""
    seen = table.get(key)
    if seen is None:
        seen = table[key] = Samples()
        if len(table) > KEYS_KEPT:
            table.popitem(last=False)
    table.move_to_end(key)
    return seen
