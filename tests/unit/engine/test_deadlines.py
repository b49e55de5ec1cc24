"""``engine.deadlines``: which limit ends an answer, and when none does."""

import asyncio

import pytest

from gpushare.core.errors import GpushareError
from gpushare.core.model import Outcome
from gpushare.engine.deadlines import STALL_BYTES, Deadlines, Watch

LIMITS = Deadlines(first_byte_s=100, idle_s=40, total_s=1000, write_stall_s=30)


class Answer:
    """A watched answer: what was passed on, what of it waits, and how it ended."""

    def __init__(self, limits: Deadlines = LIMITS) -> None:
        self.passed = 0
        self.backlog = 0
        self.ends: list[GpushareError] = []
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.over = asyncio.Event()
        self.watch = Watch(limits, expired=self._end, waiting=lambda: (self.passed, self.backlog))
        self.watch.begin()

    def _end(self, error: GpushareError) -> None:
        self.ends.append(error)
        self.over.set()

    @property
    def outcomes(self) -> list[Outcome]:
        """Why it ended."""
        return [error.outcome for error in self.ends]

    def age(self) -> int:
        """Returns whole seconds since the beginning."""
        return round(self.loop.time() - self.began)

    async def until_the_end(self) -> None:
        """Lets time pass until a limit is reached."""
        await asyncio.wait_for(self.over.wait(), 1e6)


async def test_no_first_byte_in_time() -> None:
    """Silence from the start ends at its own limit."""
    answer = Answer()
    answer.watch.sent()
    await answer.until_the_end()
    assert answer.outcomes == [Outcome.TIMEOUT_FIRST_BYTE]
    assert 100 <= answer.age() <= 101


async def test_the_first_byte_ends_the_first_limit() -> None:
    """From then on gaps count, from the last progress."""
    answer = Answer()
    answer.watch.sent()
    await asyncio.sleep(90)
    answer.watch.first_byte()
    await asyncio.sleep(35)
    answer.watch.progress()
    await answer.until_the_end()
    assert answer.outcomes == [Outcome.TIMEOUT_IDLE]
    assert 165 <= answer.age() <= 166


async def test_steady_progress_ends_at_the_total() -> None:
    """No answer runs for ever."""
    answer = Answer()
    answer.watch.sent()
    answer.watch.first_byte()
    while not answer.ends:
        answer.watch.progress()
        await asyncio.sleep(1)
    assert answer.outcomes == [Outcome.TIMEOUT_TOTAL]
    assert 1000 <= answer.age() <= 1001


async def test_time_before_sending_counts_for_the_total_only() -> None:
    """The first-byte limit runs from the sending."""
    answer = Answer()
    await asyncio.sleep(50)
    answer.watch.sent()
    await answer.until_the_end()
    assert answer.outcomes == [Outcome.TIMEOUT_FIRST_BYTE]
    assert 150 <= answer.age() <= 151


async def test_an_answer_that_is_never_sent_ends_at_the_total() -> None:
    """Where the total is the longer limit and where it is the shorter one: silence is not counted yet."""
    for first_byte_s in (100, 2000):
        answer = Answer(Deadlines(first_byte_s=first_byte_s, total_s=1000))
        await answer.until_the_end()
        assert answer.outcomes == [Outcome.TIMEOUT_TOTAL]
        assert 1000 <= answer.age() <= 1001


async def test_the_first_byte_may_be_due_before_the_total_although_it_was_sent_late() -> None:
    """What was looked at before the sending does not hide what is due after it."""
    answer = Answer(Deadlines(first_byte_s=10, total_s=1000))
    await asyncio.sleep(50)
    answer.watch.sent()
    await answer.until_the_end()
    assert answer.outcomes == [Outcome.TIMEOUT_FIRST_BYTE]
    assert 60 <= answer.age() <= 61


async def test_silence_of_our_own_making_is_not_ollamas() -> None:
    """While the client holds us back no gap counts; afterwards it counts from then."""
    answer = Answer(Deadlines(idle_s=40))
    answer.watch.sent()
    answer.watch.first_byte()
    answer.watch.hold_back()
    await asyncio.sleep(200)
    assert not answer.ends
    answer.watch.let_on()
    await answer.until_the_end()
    assert answer.outcomes == [Outcome.TIMEOUT_IDLE]
    assert 240 <= answer.age() <= 241


async def test_a_client_that_takes_nothing_is_slow() -> None:
    """What waits and does not move ends the answer, although records keep coming."""
    answer = Answer()
    answer.watch.sent()
    answer.watch.first_byte()
    answer.watch.passing()
    while not answer.ends:
        answer.watch.progress()
        answer.passed += 100
        answer.backlog += 100
        await asyncio.sleep(1)
    assert answer.outcomes == [Outcome.CLIENT_SLOW]
    assert 30 <= answer.age() <= 38


async def test_a_client_that_trickles_is_slow() -> None:
    """A byte a second is not reading."""
    answer = Answer()
    answer.watch.sent()
    answer.watch.first_byte()
    answer.watch.passing()
    answer.passed = answer.backlog = 200_000
    while not answer.ends:
        answer.watch.progress()
        answer.backlog -= 1
        await asyncio.sleep(1)
    assert answer.outcomes == [Outcome.CLIENT_SLOW]


@pytest.mark.parametrize("rate", [STALL_BYTES // 20, 10 * STALL_BYTES])
async def test_a_client_that_reads_is_not_slow(rate: int) -> None:
    """A backlog that never empties is no fault as long as it moves."""
    answer = Answer(Deadlines(write_stall_s=30))
    answer.watch.sent()
    answer.watch.first_byte()
    answer.watch.passing()
    answer.passed = answer.backlog = 200_000
    for _ in range(300):
        answer.passed += rate
        await asyncio.sleep(1)
    assert not answer.ends


async def test_a_client_that_catches_up_starts_afresh() -> None:
    """An empty backlog forgives what was before."""
    answer = Answer(Deadlines(write_stall_s=30))
    answer.watch.sent()
    answer.watch.first_byte()
    answer.watch.passing()
    for backlog in (10, 10, 0, 10, 10, 0):
        answer.backlog = backlog
        await asyncio.sleep(10)
    assert not answer.ends


async def test_before_anything_is_passed_on_nobody_is_slow() -> None:
    """While an answer is held back its client has nothing to take."""
    answer = Answer(Deadlines(write_stall_s=30, total_s=900))
    answer.watch.sent()
    answer.watch.first_byte()
    answer.passed = answer.backlog = 200_000
    await answer.until_the_end()
    assert answer.outcomes == [Outcome.TIMEOUT_TOTAL]


@pytest.mark.parametrize("first", [True, False])
async def test_a_limit_of_zero_is_off(first: bool) -> None:  # noqa: FBT001
    """Without limits nothing is watched."""
    answer = Answer(Deadlines())
    answer.watch.sent()
    if first:
        answer.watch.first_byte()
    await asyncio.sleep(1e6)
    assert not answer.ends


async def test_stopping_silences_the_watch() -> None:
    """After the end nothing is reported."""
    answer = Answer()
    answer.watch.sent()
    answer.watch.first_byte()
    answer.watch.stop()
    answer.watch.stop()
    await asyncio.sleep(1e6)
    assert not answer.ends


async def test_input_that_waited_through_a_pause_counts() -> None:
    """A record read right after the process had been stopped saves its answer."""
    answer = Answer(Deadlines(idle_s=40))
    answer.watch.sent()
    answer.watch.first_byte()
    answer.loop.call_at(answer.began + 40.001, answer.watch.progress)
    await asyncio.sleep(79)
    assert not answer.ends
    await answer.until_the_end()
    assert 80 <= answer.age() <= 81
