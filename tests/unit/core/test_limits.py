"""Wrong keys per address, and the memory that bodies may hold."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core.errors import RETRY_AFTER_MAX_S, Overloaded, PersonCrowded, TooManyBadKeys, spread_retry_s
from gpushare.core.limits import (
    ADDRESSES_KEPT,
    BODY_RETRY_S,
    WINDOW_S,
    WRONG_KEYS_PER_WINDOW,
    BodyBudget,
    BodyShare,
    WrongKeys,
)


def test_the_twenty_first_wrong_key_within_a_minute_is_told_to_wait() -> None:
    """After 20 wrong keys the address waits until the first of them is a minute old."""
    keys = WrongKeys()
    for number in range(WRONG_KEYS_PER_WINDOW):
        keys.check("a", 2 * number)
        keys.note("a", 2 * number)
    with pytest.raises(TooManyBadKeys) as caught:
        keys.check("a", 40)
    assert caught.value.retry_after_s == WINDOW_S - 40
    keys.check("a", WINDOW_S)


def test_nobody_waits_longer_than_a_client_can_be_told() -> None:
    """One further wrong key is heard half a minute after the last, so that the told time is the real one."""
    keys = WrongKeys()
    for _ in range(WRONG_KEYS_PER_WINDOW):
        keys.note("a", 0)
    for now, left_s in ((0, 30), (1, 29), (29.5, 0.5)):
        with pytest.raises(TooManyBadKeys) as caught:
            keys.check("a", now)
        assert caught.value.retry_after_s == left_s
    keys.check("a", RETRY_AFTER_MAX_S)
    keys.note("a", RETRY_AFTER_MAX_S)
    with pytest.raises(TooManyBadKeys):
        keys.check("a", RETRY_AFTER_MAX_S)


def test_a_table_may_hear_fewer() -> None:
    """Each place that takes keys has its own patience."""
    keys = WrongKeys(2)
    for _ in range(2):
        keys.check("a", 0)
        keys.note("a", 0)
    with pytest.raises(TooManyBadKeys):
        keys.check("a", 0)


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


def shares(total_bytes: int) -> Callable[[str], BodyShare]:
    """Makes shares of one budget."""
    budget = BodyBudget(total_bytes, jitter=lambda: 0.5)
    return lambda owner: BodyShare(budget, owner)


def test_one_owner_holds_at_most_half_of_the_body_memory() -> None:
    """One person's pictures never use up what another person's request needs."""
    share = shares(100)
    share("a").take(50)
    with pytest.raises(PersonCrowded):
        share("a").take(1)
    share("b").take(50)


def test_the_whole_budget_is_never_exceeded() -> None:
    """A third owner is refused when two have taken everything, and is told when to come back."""
    share = shares(100)
    share("a").take(50)
    share("b").take(50)
    with pytest.raises(Overloaded) as caught:
        share("c").take(1)
    assert caught.value.retry_after_s == spread_retry_s(BODY_RETRY_S, 0.5)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60)), max_size=30))
def test_what_was_taken_and_given_back_leaves_nothing(wishes: list[tuple[str, int]]) -> None:
    """However owners take and give, the budget ends at zero and never passes its total."""
    budget = BodyBudget(100, jitter=lambda: 0.5)
    held = []
    for owner, count in wishes:
        share = BodyShare(budget, owner)
        held.append(share)
        with suppress(Overloaded):
            share.take(count)
        assert budget.held_bytes <= 100
    for share in held:
        share.give()
        share.give()
    assert budget.held_bytes == 0
    assert budget.by_owner == {}
