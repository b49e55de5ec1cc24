"""What calls are expected to cost, learned from what they did cost.

Owns: smoothed costs per (owner, model), per model and overall, and smoothed load times per model.
Called by: ``core.scheduler``.

Rules:
- A cost is slot-seconds: the time a call occupied its slot, the load of its model excluded.  It can be
  measured for every route and every way to end, and it is exactly what the others are waiting for.
- Only calls that ended normally teach.
- Owners and models come from outside, so the table of averages is bounded.
"""

from collections import OrderedDict
from typing import TypeVar

Key = TypeVar("Key")

ALPHA = 0.2  # weight of the newest sample: five calls make an old mean forget most of itself
FIRST_ESTIMATE_S = 5.0  # about one interactive answer, used until anything is known
SHORTEST_ESTIMATE_S = 0.05
LONGEST_QUANTUM_S = 5.0
SHORTEST_QUANTUM_S = 0.05
FIRST_LOAD_S = 10.0  # a model of some 10 GB read from a disk, used until a load was measured
PAIRS_KEPT = 4096


def smoothed(mean: float | None, sample: float) -> float:
    """Returns the exponentially weighted mean after one more sample; the first sample is taken whole."""
    return sample if mean is None else mean + ALPHA * (sample - mean)


class Costs:
    """Averages of finished calls."""

    def __init__(self) -> None:
        self._pairs: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._models: OrderedDict[str, float] = OrderedDict()
        self._loads: OrderedDict[str, float] = OrderedDict()
        self._mean: float | None = None
        self._mean_load: float | None = None
        self._quantum_s = min(FIRST_ESTIMATE_S, LONGEST_QUANTUM_S)

    def learn(self, owner: str, model: str, cost_s: float) -> None:
        """Takes the cost of a call that ended normally."""
        _put(self._pairs, (owner, model), cost_s)
        _put(self._models, model, cost_s)
        self._mean = smoothed(self._mean, cost_s)
        self._quantum_s = min(max(self._mean, SHORTEST_QUANTUM_S), LONGEST_QUANTUM_S)

    def estimate_s(self, owner: str, model: str, cap_s: float) -> float:
        """Returns the expected cost, from the most specific average there is, in [0.05, ``cap_s``]."""
        mean = self._pairs.get((owner, model))
        if mean is None:
            mean = self._models.get(model, FIRST_ESTIMATE_S)
        return min(max(mean, SHORTEST_ESTIMATE_S), cap_s)

    def knows(self, model: str) -> bool:
        """Whether any call for the model has ended, so that its estimate is more than a guess."""
        return model in self._models

    def mean_s(self) -> float:
        """Returns the mean cost of all calls."""
        return FIRST_ESTIMATE_S if self._mean is None else self._mean

    def quantum_s(self) -> float:
        """Returns the automatic quantum: one mean call, in [0.05, 5].

        A turn much longer than a call would make a light user wait for many calls of a busy one; a turn
        above 5 s hurts light users next to short calls.
        """
        return self._quantum_s

    def learn_load(self, model: str, seconds: float) -> None:
        """Takes the measured load time of a model."""
        _put(self._loads, model, seconds)
        self._mean_load = smoothed(self._mean_load, seconds)

    def load_s(self, model: str | None = None) -> float:
        """Returns the expected load time of a model, or of any model."""
        mean = FIRST_LOAD_S if self._mean_load is None else self._mean_load
        return mean if model is None else self._loads.get(model, mean)


def _put(table: OrderedDict[Key, float], key: Key, sample: float) -> None:
    """Updates one average; the one that was not updated for longest makes room."""
    table[key] = smoothed(table.get(key), sample)
    table.move_to_end(key)
    if len(table) > PAIRS_KEPT:
        table.popitem(last=False)
