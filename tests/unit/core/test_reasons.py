"""Tests of why an estimate grew."""

from dataclasses import replace

import pytest

from gpushare.core.model import Lane, Service
from gpushare.core.reasons import Reasons
from gpushare.core.views import Delay, QueueView, Reason, RunningView, WaitingView

BACK = Service.BACKGROUND


def runs(owner: str, *, ran_s: float = 0.0, usual_s: float | None = 10.0, swap: bool = False) -> RunningView:
    """Returns a running call."""
    return RunningView(
        id=f"r_{owner}",
        owner=owner,
        service=Service.INTERACTIVE,
        model="m",
        backend="gpu",
        started_s=ran_s,
        swap=swap,
        ran_s=ran_s,
        usual_s=usual_s,
    )


def waits(owner: str, eta_s: float | None, *, swap: bool = False, usual_s: float = 10.0) -> WaitingView:
    """Returns a waiting call."""
    return WaitingView(
        id=f"r_{owner}",
        owner=owner,
        service=Service.INTERACTIVE,
        model="m",
        since=0.0,
        position=1,
        eta_s=eta_s,
        swap=swap,
        usual_s=usual_s,
        load_s=12.0 if swap else None,
    )


def view(now: float, *rows: RunningView | WaitingView) -> QueueView:
    """Returns a picture."""
    return QueueView(
        now=now,
        running=tuple(row for row in rows if isinstance(row, RunningView)),
        waiting=tuple(row for row in rows if isinstance(row, WaitingView)),
        shares=(),
        backends=(),
        granted_total=0,
        released_total=0,
        held=0,
        paused_since=None,
        jain=None,
    )


def reasons(*views: QueueView) -> list[Reason | None]:
    """Returns the reasons in the rows of the last of some pictures, shown one after the other."""
    told = Reasons()
    shown = [told.explained(each) for each in views]
    return [row.reason for row in shown[-1].waiting]


BEFORE = view(0.0, runs("bob"), waits("alice", 20.0))


def test_what_is_told_first_has_no_reason() -> None:
    """Nothing was told before it."""
    assert reasons(BEFORE) == [None]


@pytest.mark.parametrize(
    ("now", "eta_s", "told"),
    [(5.0, 15.0, False), (5.0, 24.9, False), (5.0, 25.1, True), (19.0, 11.0, False), (19.0, 11.1, True)],
)
def test_a_wait_that_becomes_more_than_half_as_long_again_is_explained(
    *, now: float, eta_s: float, told: bool
) -> None:
    """What counts is the whole wait: what is over and what is still told, against what was told first."""
    after = view(now, runs("bob", ran_s=14.0), waits("alice", eta_s))
    assert (reasons(BEFORE, after) != [None]) is told


@pytest.mark.parametrize(
    ("first_s", "eta_s", "told"),
    [(2.0, 6.9, False), (2.0, 7.1, True), (59.0, 88.9, False), (50.0, 81.0, True)],
)
def test_less_than_a_step_of_the_wording_needs_no_reason(*, first_s: float, eta_s: float, told: bool) -> None:
    """Told times are rounded to 5 s, above a minute to 30 s: less than that is not seen."""
    late = runs("bob", ran_s=14.0)
    got = reasons(view(0.0, late, waits("alice", first_s)), view(0.0, late, waits("alice", eta_s)))
    assert (got != [None]) is told


def test_a_call_that_came_in_front_is_named() -> None:
    """Whoever stands before the call and did not at first, waiting or running by now."""
    waiting = view(1.0, runs("bob"), waits("carol", 9.0), waits("alice", 40.0))
    running = view(11.0, runs("carol"), waits("alice", 40.0))
    reason = Reason(delay=Delay.IN_FRONT, owner="carol", used_less=True)
    assert reasons(BEFORE, waiting) == [None, reason]
    assert reasons(BEFORE, running) == [reason]


def test_an_interactive_call_before_a_background_one_has_not_used_less() -> None:
    """It goes first because of its class."""
    back = replace(waits("alice", 20.0), service=BACK)
    late = replace(back, eta_s=40.0)
    assert reasons(view(0.0, back), view(1.0, waits("carol", 9.0), late))[1] == Reason(
        delay=Delay.IN_FRONT, owner="carol", used_less=False
    )


def test_a_model_that_went_away_is_loaded_first() -> None:
    """At first the model was loaded; now it is not."""
    after = view(1.0, runs("bob"), waits("alice", 40.0, swap=True))
    assert reasons(BEFORE, after) == [Reason(delay=Delay.LOAD)]


def test_calls_for_the_loaded_model_come_in_front_because_of_the_load() -> None:
    """Whoever is passed over until the swap waits for the load, not for who has used less."""
    first = view(0.0, runs("bob"), waits("alice", 20.0, swap=True))
    after = view(1.0, runs("bob"), waits("carol", 9.0), waits("alice", 40.0, swap=True))
    assert reasons(first, after)[1] == Reason(delay=Delay.LOAD)


def test_an_answer_longer_than_usual_is_named() -> None:
    """A call that already ran at first and has run for longer than its kind does."""
    after = view(30.0, runs("bob", ran_s=30.0), waits("alice", 10.0))
    assert reasons(BEFORE, after) == [Reason(delay=Delay.LONGER, owner="bob")]


@pytest.mark.parametrize(("ran_s", "delay"), [(15.0, Delay.IN_FRONT), (25.0, Delay.LONGER)])
def test_of_several_reasons_the_one_that_costs_most_is_told(ran_s: float, delay: Delay) -> None:
    """A newcomer costs the usual length of its call, a long answer what it is over it."""
    after = view(30.0, runs("bob", ran_s=ran_s), waits("carol", 5.0), waits("alice", 15.0))
    reason = reasons(BEFORE, after)[1]
    assert reason is not None
    assert reason.delay is delay


def test_a_reason_stays_until_the_time_is_back() -> None:
    """Whose call it was because of may be gone; the reason is told as long as the wait is that long."""
    came = view(1.0, runs("bob"), waits("carol", 9.0), waits("alice", 40.0))
    gone = view(2.0, runs("bob"), waits("alice", 39.0))
    back = view(3.0, runs("bob"), waits("alice", 17.0))
    assert reasons(BEFORE, came, gone) == [Reason(delay=Delay.IN_FRONT, owner="carol", used_less=True)]
    assert reasons(BEFORE, came, gone, back) == [None]


def test_without_an_estimate_nothing_grows() -> None:
    """The first time that is told counts, not the first time the call is seen."""
    unknown = view(0.0, runs("bob"), waits("alice", None))
    first = view(100.0, runs("bob"), waits("alice", 50.0))
    assert reasons(unknown, first) == [None]
    assert reasons(BEFORE, view(5.0, runs("bob"), waits("alice", None))) == [None]


def test_lanes_do_not_delay_each_other() -> None:
    """A generation that came is no reason for an embedding."""
    embedding = replace(waits("alice", 20.0), lane=Lane.EMBED)
    later = replace(embedding, eta_s=60.0)
    assert reasons(view(0.0, embedding), view(1.0, waits("carol", 9.0), later)) == [None, None]


def test_calls_that_are_gone_are_forgotten() -> None:
    """P8: nothing is kept of a call that no longer waits."""
    told = Reasons()
    told.explained(view(0.0, *(waits(f"o{number}", 10.0) for number in range(50))))
    assert len(told) == 50
    told.explained(view(1.0, waits("o7", 10.0)))
    assert len(told) == 1
    told.explained(view(2.0))
    assert len(told) == 0
