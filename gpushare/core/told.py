"""The times people were told, kept for as long as they still hold.

Owns: what was told last, for each thing that was told a time.  Called by: ``core.views``, ``web.pages.look``.

Rules:
- An estimate is made anew at every look and trembles; what people read must not.  A told instant stays until
  the new estimate is off by more than the words would show.  One that has passed ("any moment") stays until
  the new one is clearly later.
- Of calls that stand in a line nobody is told to start before somebody in front.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

STEP_S = 4.0  # below a minute the words go in steps of 5 s
STEP_PART = 0.1  # further away they are coarser
FOUND_S = 5.0  # for so long a newcomer is told what was found last
SOON_S = 8.0  # what passed does not come back as "in a few seconds"


class Told:
    """Instants in seconds since 1970, by the thing that will start then."""

    def __init__(self) -> None:
        self._until: dict[str, int] = {}

    def left_s(self, what: str, eta_s: float | None, now: float) -> float | None:
        """Returns the seconds left to the instant that holds for ``what``; below 0 when it has passed.

        Args:
            what: told before or not.
            eta_s: what is expected now; None forgets what was told.
            now: seconds since 1970.
        """
        if eta_s is None:
            self._until.pop(what, None)
            return None
        until = self._until.get(what)
        if until is None or not _holds(until - now, eta_s):
            until = self._until[what] = round(now + eta_s)
        return until - now

    def in_line(self, etas: Sequence[tuple[str, float | None]], now: float) -> list[float | None]:
        """Returns the seconds left for things that start one after the other: they never decrease.

        What is expected never decreases either, so an instant that gives way to a neighbour's still holds.

        Args:
            etas: as for ``left_s``, in the order in which they start.
            now: seconds since 1970.
        """
        held = [(what, self.left_s(what, eta_s, now)) for what, eta_s in etas]
        known = {what: left_s for what, left_s in held if left_s is not None}
        lefts = dict(zip(known, _in_order(list(known.values())), strict=True))
        self._until.update({what: round(now + left_s) for what, left_s in lefts.items()})
        return [lefts.get(what) for what, _ in etas]

    def keep(self, whats: Iterable[str]) -> None:
        """Forgets everything else."""
        self._until = {what: self._until[what] for what in whats if what in self._until}


def _holds(left_s: float, eta_s: float) -> bool:
    if left_s <= 0:
        return eta_s < SOON_S
    return abs(left_s - eta_s) <= max(STEP_S, STEP_PART * eta_s)


def _in_order(lefts: list[float]) -> list[float]:
    """Returns told times without a decrease: what passed does not come back, everything else gives way."""
    passed = float("inf")
    for place in reversed(range(len(lefts))):
        lefts[place] = min(lefts[place], passed)
        if lefts[place] <= 0:
            passed = lefts[place]
    return list(accumulate(lefts, max))


class Newcomers:
    """When a call that is not there yet would start, for each kind of caller.

    To find it out, the queue is played forward: what was found holds for a moment, and counts down meanwhile.
    """

    def __init__(self) -> None:
        self._told = Told()
        self._found: dict[str, tuple[float, float | None]] = {}

    def left_s(self, who: str, now: float, find: Callable[[], float | None]) -> float | None:
        """Returns the seconds left to the told instant, 0 for at once, None where nobody knows.

        Args:
            who: whose call it would be.
            now: seconds since 1970.
            find: returns what is expected now.
        """
        found_at, eta_s = self._found.get(who, (float("-inf"), None))
        if not 0 <= now - found_at < FOUND_S:
            found_at, eta_s = self._found[who] = now, find()
        if not eta_s:
            self._told.left_s(who, None, now)
            return eta_s
        return self._told.left_s(who, eta_s - (now - found_at), now)
