"""Entries and awaitable events."""

import asyncio

import pytest

from gpushare.sim import Entry, Events, State


def entry(events: Events) -> Entry:
    """Returns a request that has just arrived."""
    return Entry(number=0, method="GET", target="/x?y=1", headers=(("A", "1"), ("a", "2")), events=events)


async def test_until_wakes_on_a_change() -> None:
    """A waiter wakes when its condition has come true and something changed."""
    events = Events()
    seen: list[int] = []
    waiting = asyncio.ensure_future(events.until(lambda: len(seen) > 1))
    await asyncio.sleep(0)
    for value in (1, 2):
        assert not waiting.done()
        seen.append(value)
        events.changed()
    assert await waiting is True


async def test_until_gives_up() -> None:
    """A condition that never comes true fails the test that waits for it."""
    with pytest.raises(TimeoutError):
        await Events().until(lambda: False, timeout_s=0.01)


async def test_an_end_is_final() -> None:
    """After an end no later state is noted."""
    one = entry(Events())
    one.enter(State.CANCELLED)
    one.enter(State.DONE)
    assert one.cancelled
    assert one.closed_at is not None
    assert State.DONE not in one.at


async def test_reached_and_sent_wait() -> None:
    """A test can wait for a state and for a number of records."""
    one = entry(Events())
    state, records = (
        asyncio.ensure_future(one.reached(State.STREAMING)),
        asyncio.ensure_future(one.sent(2)),
    )
    await asyncio.sleep(0)
    one.wrote_record()
    await state
    assert not records.done()
    one.wrote_record()
    await records


async def test_a_stall_ends_by_resume_and_restores_the_state() -> None:
    """A stalled request goes on where it was."""
    one = entry(Events())
    one.enter(State.PROMPT)
    stalled = asyncio.ensure_future(one.stall())
    await one.reached(State.STALLED)
    one.resume()
    await stalled
    assert one.state is State.PROMPT


async def test_headers_and_path() -> None:
    """A header is found without regard to case, the last value counts; the path has no query."""
    one = entry(Events())
    assert one.header("A") == "2"
    assert one.header("b") is None
    assert one.path == "/x"
