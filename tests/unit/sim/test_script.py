"""Markers and faults."""

import pytest

from gpushare.sim import Fault, FaultKind, Plan
from gpushare.sim.script import END, read_marker


def test_a_marker_changes_what_it_names() -> None:
    """Named items change, the rest of the plan stays."""
    plan = read_marker("please #sim:tokens=50,delay_ms=2.5,fault=reset@5 now", Plan(split=7))
    assert plan == Plan(tokens=50, delay_ms=2.5, fault=Fault(FaultKind.RESET, 5), split=7)


def test_the_last_marker_counts() -> None:
    """A conversation repeats earlier prompts: only the latest marker is meant."""
    assert read_marker("#sim:tokens=1\n#sim:thinking=2", Plan()) == Plan(thinking=2)


def test_without_a_marker_nothing_changes() -> None:
    """A prompt without a marker leaves the plan alone."""
    plan = Plan(tokens=3)
    assert read_marker("hello", plan) is plan


@pytest.mark.parametrize(
    ("text", "place"), [("close", None), ("close@0", 0), ("close@3", 3), ("close@end", END)]
)
def test_places_of_a_fault(text: str, place: int | None) -> None:
    """A fault has no place, a number of records, or the end."""
    assert Fault.parse(text) == Fault(FaultKind.CLOSE, place)


@pytest.mark.parametrize("marker", ["#sim:tokns=3", "#sim:fault=explode", "#sim:tokens=many"])
def test_a_typo_is_an_error(marker: str) -> None:
    """A test with a typo in its marker must not pass by accident."""
    with pytest.raises(ValueError, match=r".+"):
        read_marker(marker, Plan())
