"""How long the first byte may stay away, learned from how long it did."""

import pytest

from gpushare.core.pace import MODELS_KEPT, NEEDED, PATIENCE_S, TIMES, Paces


def taught(seconds: float, size: int, *, times: int = NEEDED) -> Paces:
    """What is known after some calls alike."""
    paces = Paces()
    for _ in range(times):
        paces.note("m", size, seconds)
    return paces


def test_little_is_too_little() -> None:
    """No limit is made of four calls, nor for a model never seen."""
    assert taught(1.0, 10_000, times=NEEDED - 1).limit_s("m", 10_000) is None
    assert taught(1.0, 10_000).limit_s("other", 10_000) is None


def test_a_longer_prompt_may_take_longer() -> None:
    """The limit grows with the request, and is never under a minute."""
    paces = taught(2.0, 10_000)
    assert paces.limit_s("m", 10_000) == pytest.approx(PATIENCE_S + TIMES * 2.0)
    assert paces.limit_s("m", 100_000) == pytest.approx(PATIENCE_S + TIMES * 20.0)
    assert (paces.limit_s("m", 0) or 0) > PATIENCE_S


def test_the_slowest_of_the_last_counts() -> None:
    """One slow call widens the limit until fifty others have passed."""
    paces = taught(2.0, 10_000)
    paces.note("m", 10_000, 40.0)
    assert paces.limit_s("m", 10_000) == pytest.approx(PATIENCE_S + TIMES * 40.0)
    for _ in range(50):
        paces.note("m", 10_000, 1.0)
    assert paces.limit_s("m", 10_000) == pytest.approx(PATIENCE_S + TIMES)


def test_the_table_is_bounded() -> None:
    """The model first seen longest ago makes room."""
    paces = taught(1.0, 10_000)
    for number in range(MODELS_KEPT):
        paces.note(str(number), 1, 1.0)
    assert paces.limit_s("m", 1) is None
