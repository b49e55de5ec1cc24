"""Why a call starts later than was told first.

Owns: for each waiting call, what was told first and who stood before it then.
Called by: ``engine.slots``, with every picture of the queue it hands out.

Rules: there are three reasons and no others: a call came in front, a model is loaded first, an answer takes
longer than usual.  Of several the one that costs the most time is told.  What was told first is not forgotten
while the call waits, so a reason stays until the time comes back to what it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from gpushare.core.views import Delay, QueueView, Reason, RunningView, WaitingView

GROWN = 1.5  # an estimate says "about": only what is told half as long again needs a reason
STEPS_S = ((60.0, 5.0), (float("inf"), 30.0))  # told times are rounded to so much below the first number
LOOKED_AT = 32  # calls in front of one: the reason is among those that go next, and each costs


@dataclass(slots=True)
class _First:
    """What a call was told first: when, how long, its place in the order of then, whether it had to load."""

    at: float
    eta_s: float
    order: dict[str, int]
    place: int
    swap: bool
    reason: Reason | None = None

    def stood_before(self, each: RunningView | WaitingView) -> bool:
        """Whether a call ran or stood in front then."""
        return self.order.get(each.id, self.place) < self.place


class Reasons:
    """What waiting calls were told first."""

    def __init__(self) -> None:
        self._first: dict[str, _First] = {}

    def __len__(self) -> int:
        return len(self._first)

    def explained(self, view: QueueView) -> QueueView:
        """Returns the picture with the reason in every row that is told more than it was."""
        waiting = tuple(self._explained(view))
        self._first = {row.id: self._first[row.id] for row in waiting if row.id in self._first}
        return replace(view, waiting=waiting)

    def _explained(self, view: QueueView) -> Iterator[WaitingView]:
        for lane in dict.fromkeys(row.lane for row in view.waiting):
            running = [row for row in view.running if row.lane is lane]
            rows = [row for row in view.waiting if row.lane is lane]
            ids = [row.id for row in running] + [row.id for row in rows]
            order = {call: place for place, call in enumerate(ids)}
            for place, row in enumerate(rows):
                if row.eta_s is None:
                    yield row
                    continue
                first = self._first.get(row.id)
                if first is None:
                    self._first[row.id] = _First(view.now, row.eta_s, order, order[row.id], row.swap)
                    yield row
                elif _has_grown(view.now - first.at + row.eta_s, first.eta_s):
                    first.reason = _reason(row, first, running, rows[: min(place, LOOKED_AT)]) or first.reason
                    yield replace(row, reason=first.reason)
                else:
                    yield row


def _has_grown(whole_s: float, first_s: float) -> bool:
    """Whether a wait becomes more than half as long again as was told first, and more than a step longer."""
    step_s = next(step for below, step in STEPS_S if whole_s < below)
    return whole_s > GROWN * first_s and whole_s - first_s > step_s


def _reason(
    row: WaitingView, first: _First, running: list[RunningView], ahead: list[WaitingView]
) -> Reason | None:
    """Returns the reason that costs a call the most time, None when nothing is to be seen of it any more."""
    calls: tuple[RunningView | WaitingView, ...] = (*running, *ahead)
    came = [each for each in calls if not first.stood_before(each)]
    # A call for the model that is loaded goes before a swap; without the swap it would not stand in front.
    preferred = [each for each in came if row.swap and not each.swap]
    fair = [each for each in came if each.swap or not row.swap]
    late = [each for each in running if first.stood_before(each) and _over_s(each) > 0]
    load_s = (row.load_s or 1.0) if row.swap and not first.swap else 0.0
    found = [(load_s + sum(map(_takes_s, preferred)), Reason(delay=Delay.LOAD))]
    if fair:
        used_less = fair[0].service is row.service
        reason = Reason(delay=Delay.IN_FRONT, owner=fair[0].owner, used_less=used_less)
        found.append((sum(map(_takes_s, fair)), reason))
    if late:
        latest = max(late, key=_over_s)
        found.append((_over_s(latest), Reason(delay=Delay.LONGER, owner=latest.owner)))
    seconds, worst = max(found, key=lambda each: each[0])
    return worst if seconds else None


def _takes_s(each: RunningView | WaitingView) -> float:
    """Returns about what a call costs those behind it; something, even if nothing is known."""
    return each.usual_s or 1.0


def _over_s(each: RunningView) -> float:
    """Returns how much longer than usual a call has run, as far as that is known."""
    return each.ran_s - each.usual_s if each.usual_s else 0.0
