"""When Ollama is not asked, and how it is asked again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core.breaker import (
    DIALS_TO_OPEN,
    FAULTS,
    FAULTS_TO_OPEN,
    FIRST_HOLD_S,
    LONGEST_HOLD_S,
    MODEL_FIRST_HOLD_S,
    MODELS_KEPT,
    PROBE_EVERY_S,
    WINDOW_S,
    Breaker,
    Door,
    ModelBreakers,
)
from gpushare.core.model import Outcome


def opened(now: float = 0.0) -> Breaker:
    """A breaker that dials have opened."""
    breaker = Breaker()
    for _ in range(DIALS_TO_OPEN):
        breaker.dial_failed("it cannot be reached", now)
    return breaker


def half_open(now: float = 1.0) -> Breaker:
    """One that a probe has half opened."""
    breaker = opened(now - FIRST_HOLD_S)
    breaker.probed(now, up=True, jitter=0.5)
    return breaker


def test_dials_in_a_row_open_it() -> None:
    """Two failed dials are bad luck, and an answer between them starts the count again."""
    breaker = Breaker()
    for _ in range(3):
        breaker.dial_failed("x", 0.0)
        breaker.dial_failed("x", 0.0)
        breaker.ended(Outcome.OK, 0.0)
    assert breaker.door is Door.CLOSED
    assert opened().door is Door.OPEN


@pytest.mark.parametrize("outcome", sorted(FAULTS))
def test_faults_within_the_window_open_it(outcome: Outcome) -> None:
    """Five of the last twenty, unless they are spread over more than half a minute."""
    quick, slow = Breaker(), Breaker()
    for number in range(FAULTS_TO_OPEN):
        quick.ended(Outcome.OK, 0.0)
        quick.ended(outcome, float(number))
        slow.ended(outcome, number * WINDOW_S)
    assert quick.door is Door.OPEN
    assert slow.door is Door.CLOSED


@pytest.mark.parametrize("outcome", sorted(set(Outcome) - FAULTS))
def test_nothing_else_counts(outcome: Outcome) -> None:
    """What clients, limits and Ollama's own refusals end says nothing about Ollama."""
    breaker = Breaker()
    for _ in range(100):
        breaker.ended(outcome, 0.0)
    assert breaker.door is Door.CLOSED


def test_only_a_probe_half_opens_it() -> None:
    """No time that passes and no call that ends late opens the door; a probe that is answered does."""
    breaker = opened()
    breaker.ended(Outcome.OK, 100.0)
    breaker.probed(0.5, up=True, jitter=0.5)  # too soon
    assert breaker.door is Door.OPEN
    assert half_open().door is Door.HALF_OPEN


def test_two_trials_close_it() -> None:
    """One good call may be luck."""
    doors = []
    breaker = half_open()
    for now in (1.0, 2.0):
        breaker.ended(Outcome.OK, now)
        doors.append(breaker.door)
    assert doors == [Door.HALF_OPEN, Door.CLOSED]


def test_a_failed_trial_keeps_it_open_twice_as_long() -> None:
    """Up to a limit; closing starts afresh."""
    breaker, now, holds = opened(), 0.0, []
    for _ in range(7):
        holds.append(breaker.retry_after_s(now) - 1.0)
        now += holds[-1]
        breaker.probed(now, up=True, jitter=0.5)
        breaker.ended(Outcome.UPSTREAM_RESET, now)
        assert breaker.door is Door.OPEN
    assert holds == [1.0, 2.0, 4.0, 8.0, LONGEST_HOLD_S, LONGEST_HOLD_S, LONGEST_HOLD_S]
    breaker.probed(now + LONGEST_HOLD_S, up=True, jitter=0.5)
    for _ in range(2):
        breaker.ended(Outcome.OK, now)
    for _ in range(DIALS_TO_OPEN):
        breaker.dial_failed("x", now)
    assert breaker.retry_after_s(now) == FIRST_HOLD_S + 1.0


@given(st.lists(st.floats(0.0, 0.999), min_size=1, max_size=30))
def test_an_ollama_that_is_away_is_probed_often_enough(jitters: list[float]) -> None:
    """P10: however long it is away, the next probe is at most 2.4 s off."""
    breaker, now = opened(), 0.0
    for jitter in jitters:
        now = breaker.probe_at
        breaker.probed(now, up=False, jitter=jitter)
        assert now < breaker.probe_at <= now + 1.2 * PROBE_EVERY_S


def test_a_model_that_keeps_failing_is_shut() -> None:
    """P14: three in a row shut it, for itself, and a good answer forgives."""
    models = ModelBreakers()
    assert [models.failed("big", 0.0) for _ in range(2)] == [False, False]
    models.ended("big", ok=True)
    assert [models.failed("big", 0.0) for _ in range(3)] == [False, False, True]
    assert models.shut_s("big", 10.0) == MODEL_FIRST_HOLD_S - 10.0
    assert models.shut_s("small", 10.0) is None
    assert models.shut(10.0) == ("big",)


def test_a_shut_model_is_tried_with_one_call() -> None:
    """The others wait for the trial; one that fails shuts it for twice as long, one that leaves frees it."""
    models = ModelBreakers()
    for _ in range(3):
        models.failed("big", 0.0)
    assert models.shut_s("big", MODEL_FIRST_HOLD_S) is None
    assert models.shut_s("big", MODEL_FIRST_HOLD_S) == FIRST_HOLD_S
    models.ended("big", ok=False)  # the trial's client left
    assert models.shut_s("big", MODEL_FIRST_HOLD_S) is None
    assert models.failed("big", 40.0)
    assert models.shut_s("big", 40.0) == 2 * MODEL_FIRST_HOLD_S
    assert models.shut_s("big", 100.0) is None
    models.ended("big", ok=True)
    assert models.shut_s("big", 100.0) is None


def test_late_failures_of_a_shut_model_do_not_prolong_it() -> None:
    """Calls that were already running when it was shut only tell what is known."""
    models = ModelBreakers()
    for _ in range(3):
        models.failed("big", 0.0)
    assert not models.failed("big", 5.0)
    assert models.shut_s("big", 5.0) == MODEL_FIRST_HOLD_S - 5.0


def test_the_table_of_models_is_bounded() -> None:
    """Names come from outside."""
    models = ModelBreakers()
    for number in range(MODELS_KEPT + 1):
        for _ in range(3):
            models.failed(str(number), 0.0)
    assert models.shut_s("0", 1.0) is None
    assert len(models.shut(1.0)) == MODELS_KEPT
