"""Tests of what is learned of calls and people."""

import pytest

from gpushare.core import habits
from gpushare.core.flows import Ticket
from gpushare.core.habits import KEPT, NEEDED, Habits, Samples
from gpushare.core.model import Service


def ticket(owner: str = "alice", model: str = "m") -> Ticket:
    """Returns a ticket."""
    return Ticket(id="t", owner=owner, service=Service.INTERACTIVE, model=model)


def test_only_the_last_fifty_count() -> None:
    """An old sample makes room, so a habit that changed is forgotten."""
    seen = Samples()
    for _ in range(KEPT):
        seen.add(100.0)
    assert (seen.mean(), seen.median()) == (100.0, 100.0)
    for second in range(KEPT):
        seen.add(float(second))
    assert len(seen) == KEPT
    assert (seen.mean(), seen.median()) == (24.5, 25.0)


@pytest.mark.parametrize(
    ("elapsed_s", "left_s"), [(0.0, 9.6), (2.5, 20.0), (10.0, 12.5), (21.0, 7.0), (60.0, 20.0)]
)
def test_what_is_left_is_the_mean_rest_of_those_that_took_longer(elapsed_s: float, left_s: float) -> None:
    """When fewer than three took longer, a third of the time gone by is added: it is longer than usual."""
    seen = Samples()
    for seconds in (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 20.0, 20.0, 20.0, 30.0):
        seen.add(seconds)
    assert seen.left_s(elapsed_s) == pytest.approx(left_s)


def test_an_owners_own_lengths_are_used_once_there_are_enough() -> None:
    """Before that everybody's lengths for the model tell more than a handful of one's own."""
    known = Habits()
    assert known.length_s(ticket()) == 5.0
    for _ in range(NEEDED - 1):
        known.took(ticket("alice"), 2.0)
    known.took(ticket("bob"), 12.0)
    assert known.length_s(ticket("alice")) == 4.0
    known.took(ticket("alice"), 2.0)
    assert known.length_s(ticket("alice")) == 2.0
    assert known.length_s(ticket("carol")) == pytest.approx(22 / 6)
    assert known.left_s(ticket("alice"), 60.0) == 20.0


def test_a_call_of_a_model_nobody_used_may_take_any_time() -> None:
    """There is a guess to play with, and it never runs out."""
    known = Habits()
    assert [known.left_s(ticket(), elapsed) for elapsed in (0.0, 3.0, 30.0)] == [5.0, 2.0, 10.0]
    assert [known.load_left_s("m", elapsed) for elapsed in (0.0, 30.0)] == [10.0, 10.0]


def test_a_model_is_known_after_five_calls_of_anybody() -> None:
    """Fewer tell nothing."""
    known = Habits()
    for count in range(NEEDED):
        assert not known.knows("m"), count
        known.took(ticket(f"o{count}"), 1.0)
    assert known.knows("m")
    assert not known.knows("other")


def test_a_load_is_known_once_it_was_measured() -> None:
    """Until then the loads of other models say how long it takes, but not that it is known."""
    known = Habits()
    known.loaded("m", 8.0)
    assert (known.knows_load("m"), known.knows_load("other")) == (True, False)
    assert known.load_left_s("other", 3.0) == 5.0
    known.loaded("m", 12.0)
    assert known.load_left_s("m", 0.0) == 10.0


def test_an_owner_who_sends_the_next_call_at_once_is_expected_back() -> None:
    """The usual time from an end to the next call tells, once it was seen five times."""
    known, now = Habits(), 0.0
    for _ in range(NEEDED):
        assert known.back_after_s(ticket()) is None
        known.ended(ticket(), now)
        now += 2.0
        known.came(ticket(), now)
    assert known.back_after_s(ticket()) == 2.0
    assert known.back_after_s(ticket(model="other")) is None


def test_who_thinks_between_calls_is_not_expected_back() -> None:
    """Calls half a minute apart are nobody's habit to foresee."""
    known = Habits()
    for count in range(10):
        known.ended(ticket(), 100.0 * count)
        known.came(ticket(), 100.0 * count + 30.0)
    assert known.back_after_s(ticket()) is None


def test_each_of_several_calls_at_once_is_followed_by_its_own_next_one() -> None:
    """A client with four calls in parallel comes back after each of them, at once."""
    known = Habits()
    for _ in range(4):
        known.came(ticket(), 0.0)
    for second in range(1, 10):
        known.ended(ticket(), float(second))
        known.came(ticket(), second + 0.5)
    assert known.back_after_s(ticket()) == 0.5


def test_the_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: what was not noted for longest makes room, because names come from outside."""
    monkeypatch.setattr(habits, "KEYS_KEPT", 2)
    known = Habits()
    for model in ("a", "b", "c"):
        for _ in range(NEEDED):
            known.took(ticket(model=model), 1.0)
    assert [known.knows(model) for model in "abc"] == [False, True, True]
    for owner in ("a", "b", "c"):
        known.ended(ticket(owner), 0.0)
    for _ in range(NEEDED):
        known.came(ticket("a"), 1.0)
        known.ended(ticket("c"), 0.0)
        known.came(ticket("c"), 1.0)
    assert known.back_after_s(ticket("a")) is None
    assert known.back_after_s(ticket("c")) == 1.0
