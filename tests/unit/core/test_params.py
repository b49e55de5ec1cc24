"""Tests of what the scheduler's parameters mean."""

import pytest

from gpushare.core.params import Params


@pytest.mark.parametrize(
    ("chosen", "load_s", "stay_s"),
    [(None, 3.0, 20.0), (None, 25.0, 50.0), (None, 300.0, 120.0), (0.0, 25.0, 0.0), (7.0, 25.0, 7.0)],
)
def test_a_model_stays_for_two_loads_within_bounds_unless_chosen(
    chosen: float | None, load_s: float, stay_s: float
) -> None:
    """The time follows load times, from 20 to 120 s; a chosen one is taken as it is."""
    assert Params(stay_on_model=chosen).stay_s(load_s) == stay_s
