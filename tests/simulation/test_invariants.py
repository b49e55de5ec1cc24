"""The invariants of the scheduler, each by its name, on random systems with random operations.

``oracle.RandomSystem`` keeps its own books and counts what is broken.  The rules about long runs (lag,
starvation, classes, work per decision) are in ``test_bounds``; admission (a person with nothing waiting is
never refused because the whole queue is full) is the engine's.
"""

from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.simulation.oracle import RULES, RandomSystem

SYSTEMS = st.integers(0, 2**32)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule:02}")
@settings(max_examples=20, deadline=None)
@given(seed=SYSTEMS)
def test_invariant(rule: int, seed: int) -> None:
    """The rule of this number holds after every operation of any system."""
    assert RandomSystem(seed).run(150)[rule] == 0, RULES[rule]


@pytest.mark.parametrize("clock", ["still", "jumps"])
@settings(max_examples=30, deadline=None)
@given(seed=SYSTEMS)
@example(56096)  # a flow goes by a credit of 1e-17 s, of which its charge leaves nothing
def test_invariant_28_no_rule_depends_on_a_well_behaved_clock(clock: str, seed: int) -> None:
    """A clock that stands still or jumps forward breaks none of the rules."""
    assert RandomSystem(seed, clock=clock).run(150) == Counter()


def test_the_systems_are_varied() -> None:
    """The random systems differ in size, caps and affinity, and do grant: the rules are put to the test."""
    systems = [RandomSystem(seed) for seed in range(40)]
    for system in systems:
        system.run(150)
    assert sum(system.scheduler.granted_total for system in systems) > 700
    assert any(any(system.caps.values()) for system in systems)
    assert {len(system.backends) for system in systems} == {1, 2, 3}
    assert {system.stay > 0 for system in systems} == {True, False}
