import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core import wording
from gpushare.core.told import Newcomers, Told

NOW = 1_795_000_000.0


def test_a_told_time_comes_nearer_by_itself() -> None:
    """While the estimate holds, the instant stays, to the second."""
    told = Told()
    assert told.left_s("a", 25.3, NOW) == 25
    assert told.left_s("a", 22.1, NOW + 3) == 22
    assert told.left_s("a", 24.0, NOW + 4) == 21
    assert told.left_s("b", 24.0, NOW + 4) == 24


@pytest.mark.parametrize(("eta_s", "left_s"), [(40.0, 40), (5.0, 5), (28.9, 25), (21.1, 25)])
def test_another_estimate_is_told_once_it_matters(eta_s: float, left_s: int) -> None:
    """A difference that the words would show is told, a smaller one is not."""
    told = Told()
    told.left_s("a", 25.0, NOW)
    assert told.left_s("a", eta_s, NOW) == left_s


def test_any_moment_stays() -> None:
    """A time that passed does not come back by a few seconds, over and over."""
    told = Told()
    told.left_s("a", 5.0, NOW)
    for second in range(5, 60):
        left_s = told.left_s("a", 2.0, NOW + second)
        assert wording.estimate(left_s) == "any moment"
    assert told.left_s("a", 30.0, NOW + 60) == 30


def test_unknown_is_unknown() -> None:
    """Without an estimate nothing is told, and nothing remembered."""
    told = Told()
    told.left_s("a", 25.0, NOW)
    assert told.left_s("a", None, NOW) is None
    assert told.left_s("a", 28.0, NOW) == 28


def test_what_started_is_forgotten() -> None:
    """Only what still waits is kept."""
    told = Told()
    for name in ("a", "b"):
        told.left_s(name, 25.0, NOW)
    told.keep(["b", "c"])
    assert [told.left_s(name, 27.0, NOW) for name in ("a", "b")] == [27, 25]


def test_nobody_is_told_to_start_before_somebody_in_front() -> None:
    """A told time gives way to that of the call in front, and stays there."""
    told = Told()
    assert told.in_line([("a", 40.0), ("b", None), ("c", 44.0)], NOW) == [40, None, 44]
    assert told.in_line([("a", 42.0), ("c", 42.0), ("b", 60.0)], NOW) == [40, 44, 60]
    assert told.in_line([("c", 41.0), ("a", 41.0), ("b", 60.0)], NOW) == [44, 44, 60]
    assert told.in_line([("c", 41.0), ("a", 41.0), ("b", 60.0)], NOW + 1) == [43, 43, 59]


def test_what_passed_does_not_come_back_for_somebody_in_front() -> None:
    """Next to a call that starts any moment, those before it do too."""
    told = Told()
    told.in_line([("a", 2.0)], NOW)
    assert told.in_line([("b", 5.0), ("a", 6.0), ("c", 6.0)], NOW + 3) == [-1, -1, 6]
    assert told.in_line([("b", 9.0), ("a", 9.0), ("c", 9.0)], NOW + 4) == [9, 9, 9]


@given(
    st.lists(st.lists(st.floats(0.0, 700.0), min_size=5, max_size=5).map(sorted), min_size=1, max_size=20),
    st.randoms(use_true_random=False),
)
def test_a_line_is_told_in_order_and_near_what_is_expected(
    looks: list[list[float]], rng: random.Random
) -> None:
    """However estimates tremble and calls change places: in order, and each within a step or "any moment"."""
    told, names = Told(), list("abcde")
    for second, etas in enumerate(looks):
        rng.shuffle(names)
        lefts = told.in_line(list(zip(names, etas, strict=True)), NOW + second)
        times = [left_s for left_s in lefts if left_s is not None]
        assert times == sorted(times)
        assert len(times) == len(etas)
        for left_s, eta_s in zip(times, etas, strict=True):
            assert abs(left_s - eta_s) <= max(4.0, eta_s / 10) + 0.5 or (left_s <= 0 and eta_s < 8)


@given(st.lists(st.floats(0.0, 700.0), min_size=1, max_size=30))
def test_what_is_told_is_never_far_from_what_is_expected(estimates: list[float]) -> None:
    """However estimates tremble, the told time is within a step of the last one, or "any moment"."""
    told = Told()
    for second, eta_s in enumerate(estimates):
        left_s = told.left_s("a", eta_s, NOW + second)
        assert left_s is not None
        assert abs(left_s - eta_s) <= max(4.0, eta_s / 10) + 0.5 or (left_s <= 0 and eta_s < 8)


def test_newcomers_are_looked_up_now_and_then() -> None:
    """What was found for a newcomer holds for a moment and counts down; each kind of caller has its own."""
    newcomers = Newcomers()
    looked: list[float] = []

    def find(eta_s: float) -> Callable[[], float]:
        def look() -> float:
            looked.append(eta_s)
            return eta_s

        return look

    assert newcomers.left_s("alice", NOW, find(60.0)) == 60
    assert newcomers.left_s("alice", NOW + 3, find(1.0)) == 57
    assert newcomers.left_s("bob", NOW + 3, find(20.0)) == 20
    assert newcomers.left_s("alice", NOW + 6, find(30.0)) == 30
    assert looked == [60.0, 20.0, 30.0]


@pytest.mark.parametrize("eta_s", [None, 0.0])
def test_at_once_and_nobody_knows_are_no_instants(eta_s: float | None) -> None:
    """Neither counts down, and neither keeps what was told before."""
    newcomers = Newcomers()
    newcomers.left_s("alice", NOW, lambda: 25.0)
    assert newcomers.left_s("alice", NOW + 5, lambda: eta_s) == eta_s
    assert newcomers.left_s("alice", NOW + 10, lambda: 27.0) == 27
