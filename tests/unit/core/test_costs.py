"""Tests of expected costs."""

import pytest

from gpushare.core import costs
from gpushare.core.costs import Costs, smoothed


def test_an_unknown_call_is_expected_to_take_five_seconds() -> None:
    """Before anything is known a call is expected to cost about one interactive answer."""
    assert Costs().estimate_s("alice", "m", 60.0) == 5.0


def test_the_most_specific_average_is_used() -> None:
    """An owner's own calls of a model tell more than everybody's."""
    known = Costs()
    known.learn("alice", "m", 1.0)
    assert known.estimate_s("alice", "m", 60.0) == 1.0
    assert known.estimate_s("bob", "m", 60.0) == 1.0
    known.learn("bob", "m", 9.0)
    assert known.estimate_s("alice", "m", 60.0) == 1.0
    assert known.estimate_s("bob", "m", 60.0) == 9.0
    assert known.estimate_s("carol", "m", 60.0) == pytest.approx(2.6)


def test_a_new_sample_moves_the_mean_by_a_fifth() -> None:
    """The mean follows the last handful of calls."""
    assert smoothed(None, 10.0) == 10.0
    assert smoothed(10.0, 20.0) == pytest.approx(12.0)


def test_estimates_stay_in_range() -> None:
    """An estimate is at least 0.05 s and at most the cap."""
    known = Costs()
    known.learn("alice", "short", 0.0)
    known.learn("alice", "long", 500.0)
    assert known.estimate_s("alice", "short", 60.0) == 0.05
    assert known.estimate_s("alice", "long", 60.0) == 60.0


@pytest.mark.parametrize(("cost_s", "quantum_s"), [(0.2, 0.2), (0.001, 0.05), (30.0, 5.0)])
def test_the_automatic_quantum_is_one_mean_call(cost_s: float, quantum_s: float) -> None:
    """The quantum follows the mean cost between 0.05 and 5 s."""
    known = Costs()
    assert known.quantum_s() == 5.0
    known.learn("alice", "m", cost_s)
    assert known.quantum_s() == quantum_s


def test_load_times_are_learned_per_model() -> None:
    """A model's own load time is used if known, else the mean of all, else a guess."""
    known = Costs()
    assert known.load_s("m") == costs.FIRST_LOAD_S
    known.learn_load("m", 4.0)
    assert known.load_s("m") == 4.0
    assert known.load_s("other") == 4.0
    assert known.load_s() == 4.0


def test_the_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: the average that was not updated for longest makes room, because names come from outside."""
    monkeypatch.setattr(costs, "PAIRS_KEPT", 2)
    known = Costs()
    for model in ("a", "b", "c"):
        known.learn("alice", model, 1.0)
    known.learn("bob", "d", 30.0)
    assert known.estimate_s("alice", "a", 60.0) == 5.0
    assert known.estimate_s("alice", "c", 60.0) == 1.0
