"""Whether the hardware is enough, in one sentence, from how the last days went.

Called by: ``web.pages.admin``.  Rules: only working days and working hours count; with too few requests there
is no verdict; a second card is not the answer where loading models takes the time.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from gpushare.core import wording
from gpushare.core.config import Capacity
from gpushare.core.usage import DayLoad

DAYS = 7
LEAST_DAYS = 2
LEAST_REQUESTS = 20
MUCH_LOADING = 0.25
"""From this part of the busy time on, fewer models would help more than more hardware."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One sentence or two, and the working days they come from, the newest last."""

    text: str
    days: tuple[DayLoad, ...]


def verdict(loads: Iterable[DayLoad], settings: Capacity, *, cards: int) -> Verdict:
    """Returns whether the hardware is enough.

    Args:
        loads: how the last days went, within the working hours.
        settings: which days count, and how long a wait is too long.
        cards: how many GPUs there are; 0 where nobody knows.
    """
    days = tuple(
        load for load in loads if date.fromisoformat(load.day).strftime("%a").lower() in settings.working_days
    )
    waited = [load for load in days if load.wait_p95_s is not None]
    requests = sum(load.requests for load in waited)
    if len(waited) < LEAST_DAYS or requests < LEAST_REQUESTS:
        return Verdict(text=_too_little(requests, len(waited)), days=days)
    waits = [load.wait_p95_s or 0.0 for load in waited]
    late = [wait for wait in waits if wait > settings.wait_p95]
    if not late:
        longest = wording.at_most(max(waits))
        enough = f"The {cards} cards are enough" if cards > 1 else "One card is enough"
        return Verdict(text=f"{enough}: 95 % of requests this week started within {longest}.", days=days)
    return Verdict(text=_tight(late, len(waited), _loading(waited)), days=days)


def _tight(late: list[float], days: int, loading: float) -> str:
    longest = wording.at_most(max(late))
    which = f"on {len(late)} of {days} working days"
    text = f"Tight: {which} it took up to {longest} until 95 % of requests had started."
    if loading >= MUCH_LOADING:
        loads = f"{100 * loading:.0f} % of the busy time was loading models"
        return f"{text} {loads}: agreeing on one model would help more than a second card."
    return text


def _loading(days: list[DayLoad]) -> float:
    """Returns the part of the busy time that went into loading models."""
    busy = sum(load.busy_s for load in days)
    return sum(load.load_s for load in days) / busy if busy else 0.0


def _too_little(requests: int, days: int) -> str:
    found = "no request" if not requests else "1 request" if requests == 1 else f"{requests} requests"
    on = "" if not requests else " on 1 working day" if days == 1 else f" on {days} working days"
    return (
        f"There is not enough data yet: {found}{on} this week. A verdict takes at least {LEAST_REQUESTS} on "
        f"{LEAST_DAYS} days."
    )
