"""How the scheduler behaves, as far as an installation may choose.

Called by: ``core.scheduler``; ``app`` makes it from the configuration.
"""

from dataclasses import dataclass

AFFINITY_LOADS = 2.0  # X in load times: the GPU loses about s/(s+X) to swaps of s seconds
AFFINITY_RANGE_S = (20.0, 120.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What of the scheduler can be set.

    Attributes:
        quantum: slot-seconds per turn and unit of weight; None follows the mean cost of calls.
        background_weight: what the background class gets for each unit of the interactive class.
        stay_on_model: seconds a model keeps the GPU after its load while others wait for another one; None
            derives it from load times, 0 turns affinity off.
        estimate_cap: the largest cost charged in advance.
    """

    quantum: float | None = None
    background_weight: float = 0.11
    stay_on_model: float | None = None
    estimate_cap: float = 60.0

    def stay_s(self, load_s: float) -> float:
        """Returns X, how long a model keeps the GPU after its load while others wait for another one.

        Args:
            load_s: the expected load time of any model.
        """
        if self.stay_on_model is not None:
            return self.stay_on_model
        shortest, longest = AFFINITY_RANGE_S
        return min(max(AFFINITY_LOADS * load_s, shortest), longest)
