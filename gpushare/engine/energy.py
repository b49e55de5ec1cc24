"""What calls cost in energy: the power that was read last, shared by the calls that hold slots.

Owns: the energy of a call from its grant to its end.  Called by: ``engine.slots`` at both, ``engine.gpu``
with what the cards draw.

Rules: what nobody measured is None, for the whole call; the cards' rest while nothing runs is nobody's; other
programs on them are not told apart.
"""

from collections.abc import Callable


class EnergyMeter:
    """Joules of each call that runs.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._watts: float | None = None
        self._at = clock()
        self._each_j = 0.0  # what a call would have used that had run all the time
        self._blind_s = 0.0  # time without power
        self._began: dict[str, tuple[float, float]] = {}

    def read(self, watts: float | None) -> None:
        """Takes what the cards draw from now on, None where that is not known."""
        self._go_on()
        self._watts = watts

    def begin(self, call: str) -> None:
        """Notes that a call has a slot."""
        self._go_on()
        self._began[call] = self._each_j, self._blind_s

    def end(self, call: str) -> float | None:
        """Returns the joules of a call that gives its slot back, None where power was unknown meanwhile."""
        self._go_on()
        each_j, blind_s = self._began.pop(call)
        return self._each_j - each_j if self._blind_s == blind_s else None

    def _go_on(self) -> None:
        now = self._clock()
        passed_s, self._at = now - self._at, now
        if self._watts is None:
            self._blind_s += passed_s
        elif self._began:
            self._each_j += self._watts * passed_s / len(self._began)
