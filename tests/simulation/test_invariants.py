"""The invariants of the scheduler, each by its name, on random systems with random operations.

``oracle.RandomSystem`` keeps its own books and counts what is broken.  The rules about long runs (lag,
starvation, classes, work per decision) are in ``test_bounds``; admission (a person with nothing waiting is
never refused because the whole queue is full) is the engine's.
"""

from collections import Counter
from functools import cache

import pytest

from tests.simulation.oracle import RULES, RandomSystem, broken_rules


@cache
def broken() -> Counter[int]:
    """Returns what 120 random systems break."""
    return broken_rules(range(120))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule:02}-{RULES[rule].replace(' ', '-')}")
def test_invariant(rule: int) -> None:
    """The rule of this number holds after every operation."""
    assert broken()[rule] == 0


@pytest.mark.parametrize("clock", ["still", "jumps"])
def test_invariant_28_no_rule_depends_on_a_well_behaved_clock(clock: str) -> None:
    """A clock that stands still or jumps forward breaks none of the rules."""
    assert broken_rules(range(40), clock=clock) == Counter()


def test_the_systems_are_varied() -> None:
    """The random systems do bypass, swap, cap and refuse, so that the rules are put to the test."""
    systems = [RandomSystem(seed) for seed in range(40)]
    for system in systems:
        system.run(150)
    assert sum(system.scheduler.granted_total for system in systems) > 700
    assert any(any(system.caps.values()) for system in systems)
    assert {len(system.backends) for system in systems} == {1, 2, 3}
    assert {system.stay > 0 for system in systems} == {True, False}
