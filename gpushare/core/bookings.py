"""When calls that were turned away may come back: one after the other, not all at once.

Called by: ``core.scheduler``.  Rules: a booking is never further away than ``Retry-After`` can say.
"""

from gpushare.core.errors import RETRY_AFTER_MAX_S
from gpushare.core.flows import Flow

SLACK = 1.25  # ``Retry-After`` is spread down to 0.8 of its base: nobody shall come before the place


def own(flow: Flow, work_s: float, mean_s: float, now: float) -> float:
    """Books a try for a call turned away by its owner's limit; returns the seconds to tell.

    Each grant to the owner frees one of its places, so tries are booked one gap between grants apart: the gap
    measured, or the one the queue makes likely now, whichever is longer.

    Args:
        flow: the owner's, which keeps the last booking.
        work_s: seconds until the last call that waits in it starts.
        mean_s: the mean cost of a call, used while nothing is known of the gap.
        now: the scheduler's clock.
    """
    gap = max(flow.gap_s or 0.0, work_s / flow.n_wait if flow.n_wait else 0.0)
    flow.booked = following(flow.booked, gap or mean_s, now)
    return told_s(flow.booked, now)


def following(last: float, gap: float, now: float) -> float:
    """Returns the time one gap after the last booked try, at most as far away as a refusal can say."""
    return min(max(last, now) + gap, now + RETRY_AFTER_MAX_S)


def told_s(booked: float, now: float) -> float:
    """Returns the seconds to tell for a booking."""
    return SLACK * (booked - now)
