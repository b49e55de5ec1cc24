"""Tests of what an admission is told."""

import pytest

from gpushare.core.model import Lane
from tests.unit.queue import BACK, FRONT, Queue


def test_the_work_before_an_owners_last_call_tells_its_pace() -> None:
    """The time to an owner's youngest call counts what runs and what is served before it."""
    queue = Queue()
    for owner in ("alice", "bob", "bob"):
        queue.send(owner)
    queue.run(0.0)
    queue.send("alice")
    assert queue.scheduler.refuse_own("bob", FRONT, 4.0) == pytest.approx(1.25 * (6.0 + 20.0) / 2)


@pytest.mark.parametrize("owner", ["a", "b", "c"])
def test_what_an_admission_asks_agrees_with_the_queue_played_forward(owner: str) -> None:
    """The closed formula and the play agree on a queue of several owners, to half a call."""
    queue = Queue(slots=2)
    queue.scheduler.set_owner("b", weight=2.0)
    for name, calls in (("a", 6), ("b", 5), ("c", 2)):
        for _ in range(calls):
            queue.send(name)
    for _ in range(2):
        queue.run(0.0)
    played = queue.scheduler.forecast_new(owner, FRONT, "m", Lane.GENERATE, 4.0).eta_s
    assert played is not None
    assert queue.scheduler.starts_in_s(owner, FRONT, "m", Lane.GENERATE, 4.0) == pytest.approx(
        played, abs=5.0
    )


def test_what_an_admission_asks_goes_by_the_owners_pace_and_the_load() -> None:
    """A measured pace tells the time; a model that is not loaded adds its load."""
    queue = Queue()
    queue.scheduler.costs.learn_load("other", 30.0)
    for _ in range(5):
        queue.send("alice")
    for now in (0.0, 20.0):
        queue.run(now)
        queue.scheduler.finished(next(iter(queue.scheduler.accounts.leases)), now + 20.0)
    for model, load_s in (("m", 0.0), ("other", 30.0)):
        about = queue.scheduler.starts_in_s("alice", FRONT, model, Lane.GENERATE, 40.0)
        assert about == pytest.approx(4 * 20.0 - 20.0 + load_s)


def test_what_an_admission_asks_is_rather_too_soon_in_a_crowd() -> None:
    """Only some flows are looked at, so nobody is turned away for work that was guessed."""
    queue = Queue()
    for _ in range(3):
        for number in range(200):
            queue.send(f"o{number}")
    about = queue.scheduler.starts_in_s("o0", FRONT, "m", Lane.GENERATE, 0.0)
    assert about is not None
    assert 600.0 < about < 600 * 10.0


def test_the_other_class_is_waited_for_by_its_weight() -> None:
    """A background call also waits for the interactive calls that go before it, and only for those."""
    queue = Queue()
    queue.send("batch", service=BACK)
    for _ in range(4):
        queue.send("alice")
    about = queue.scheduler.starts_in_s("batch", BACK, "m", Lane.GENERATE, 0.0)
    assert about == queue.scheduler.forecast_new("batch", BACK, "m", Lane.GENERATE, 0.0).eta_s == 50.0


def test_no_time_is_told_at_admission_when_nothing_can_start() -> None:
    """A paused queue tells no time, a free slot is now."""
    queue = Queue()
    assert queue.scheduler.starts_in_s("alice", FRONT, "m", Lane.GENERATE, 0.0) == 0.0
    queue.scheduler.set_paused(True, 0.0)
    assert queue.scheduler.starts_in_s("alice", FRONT, "m", Lane.GENERATE, 0.0) is None
