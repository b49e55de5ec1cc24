"""Callers turned away are told times that follow one another."""

import pytest

from gpushare.core import bookings
from gpushare.core.errors import RETRY_AFTER_MAX_S
from gpushare.core.flows import Flow, Owner, Ticket
from gpushare.core.model import Service


def flow(*, waiting: int = 0, gap_s: float | None = None) -> Flow:
    """A flow with calls waiting."""
    made = Flow(owner=Owner(name="a"), service=Service.INTERACTIVE, gap_s=gap_s)
    for number in range(waiting):
        made.push(Ticket(id=str(number), owner="a", service=Service.INTERACTIVE, model="m", seq=number))
    return made


@pytest.mark.parametrize(
    ("waiting", "gap_s", "work_s", "expected"),
    [
        (0, None, 0.0, 3.0),  # nothing is known: a mean call
        (0, 2.0, 0.0, 2.0),  # the gap measured
        (4, 2.0, 20.0, 5.0),  # the queue makes a longer one likely
        (4, 6.0, 20.0, 6.0),
    ],
)
def test_tries_are_one_gap_apart(waiting: int, gap_s: float | None, work_s: float, expected: float) -> None:
    """Each next caller is told one gap more."""
    own = flow(waiting=waiting, gap_s=gap_s)
    told = [bookings.own(own, work_s, 3.0, 100.0) for _ in range(3)]
    assert told == [pytest.approx(bookings.SLACK * expected * nth) for nth in (1, 2, 3)]


def test_a_booking_in_the_past_counts_from_now() -> None:
    """Who is turned away much later does not profit from an old booking, nor suffer from it."""
    assert bookings.following(5.0, 2.0, 100.0) == 102.0


def test_a_booking_is_no_further_away_than_can_be_told() -> None:
    """However many were turned away, the header's limit holds."""
    assert bookings.following(1000.0, 50.0, 100.0) == 100.0 + RETRY_AFTER_MAX_S
