"""Wrong keys per address, and the memory that bodies may hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core.errors import Overloaded, TooManyBadKeys
from gpushare.core.limits import ADDRESSES_KEPT, WINDOW_S, WRONG_KEYS_PER_WINDOW, BodyBudget, WrongKeys


def test_the_twenty_first_wrong_key_within_a_minute_is_told_to_wait() -> None:
    """After 20 wrong keys the address waits until the first of them is a minute old."""
    keys = WrongKeys()
    for second in range(WRONG_KEYS_PER_WINDOW):
        keys.check("a", second)
        keys.note("a", second)
    with pytest.raises(TooManyBadKeys) as caught:
        keys.check("a", 30)
    assert caught.value.retry_after_s == WINDOW_S - 30
    keys.check("a", WINDOW_S)


def test_one_address_does_not_speak_for_another() -> None:
    """Wrong keys from one address leave every other address alone."""
    keys = WrongKeys()
    for _ in range(WRONG_KEYS_PER_WINDOW):
        keys.note("a", 0)
    keys.check("b", 0)


def test_the_table_of_addresses_is_bounded() -> None:
    """The address unseen for longest is forgotten when the table is full."""
    keys = WrongKeys()
    for _ in range(WRONG_KEYS_PER_WINDOW):
        keys.note("first", 0)
    for number in range(ADDRESSES_KEPT):
        keys.note(str(number), 0)
    keys.check("first", 0)


def test_one_owner_holds_at_most_half_of_the_body_memory() -> None:
    """One person's pictures never use up what another person's request needs."""
    budget = BodyBudget(100)
    budget.take("a", 50, retry_after_s=1)
    with pytest.raises(Overloaded):
        budget.take("a", 1, retry_after_s=1)
    budget.take("b", 50, retry_after_s=1)


def test_the_whole_budget_is_never_exceeded() -> None:
    """A third owner is refused when two have taken everything, and is told when to come back."""
    budget = BodyBudget(100)
    budget.take("a", 50, retry_after_s=1)
    budget.take("b", 50, retry_after_s=1)
    with pytest.raises(Overloaded) as caught:
        budget.take("c", 1, retry_after_s=7)
    assert caught.value.retry_after_s == 7


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60)), max_size=30))
def test_what_was_taken_and_given_back_leaves_nothing(wishes: list[tuple[str, int]]) -> None:
    """However owners take and give, the budget ends at zero and never passes its total."""
    budget = BodyBudget(100)
    held = []
    for owner, count in wishes:
        try:
            budget.take(owner, count, retry_after_s=1)
        except Overloaded:
            continue
        held.append((owner, count))
        assert budget.held_bytes <= 100
    for owner, count in held:
        budget.give(owner, count)
    assert budget.held_bytes == 0
