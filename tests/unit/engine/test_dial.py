"""``engine.dial``: how often Ollama is dialled for a call, and how a dial ends that nobody needs any more."""

import asyncio

import pytest

from gpushare.core.errors import Fault
from gpushare.core.model import Outcome, UpstreamRequest
from gpushare.engine.dial import AGAIN_S, Dial
from gpushare.engine.ports import Consumer, Exchange
from tests.unit.engine.test_relay import PATIENCE_S, REQUEST, Bench, FakeExchange

REFUSED = Fault(Outcome.UPSTREAM_REFUSED, "refused", sent=False)
NOT_TAKEN = Fault(Outcome.UPSTREAM_RESET, "broke", sent=True)


class Ollama:
    """An upstream whose dials come out as listed; after them they hang."""

    def __init__(self, *ends: Fault | FakeExchange) -> None:
        self.ends = list(ends)
        self.dials: list[float] = []
        self.dialled = asyncio.Event()

    async def open(self, request: UpstreamRequest, consumer: Consumer) -> Exchange:
        """Dials."""
        self.dials.append(asyncio.get_running_loop().time())
        self.dialled.set()
        if not self.ends:
            await asyncio.Event().wait()
        end = self.ends.pop(0)
        if isinstance(end, Fault):
            raise end
        return end


async def begin(ollama: Ollama) -> tuple[Dial, asyncio.Task[Exchange | None]]:
    """Starts to dial and returns once that has begun."""
    dial = Dial()
    task = asyncio.create_task(dial.open(ollama, REQUEST, Bench().relay))
    await ollama.dialled.wait()
    return dial, task


async def test_the_second_dial_comes_after_a_pause() -> None:
    """What a restart of Ollama refuses for a moment goes through."""
    exchange = FakeExchange()
    ollama = Ollama(REFUSED, exchange)
    _, task = await begin(ollama)
    assert await task is exchange
    first, second = ollama.dials
    assert second - first >= AGAIN_S


async def test_there_is_no_third_dial() -> None:
    """The second failure is the caller's."""
    ollama = Ollama(REFUSED, REFUSED, FakeExchange())
    with pytest.raises(Fault):
        await Dial().open(ollama, REQUEST, Bench().relay)
    assert len(ollama.dials) == 2


async def test_what_was_sent_is_not_sent_again() -> None:
    """Ollama may have done the work."""
    ollama = Ollama(NOT_TAKEN, FakeExchange())
    with pytest.raises(Fault):
        await Dial().open(ollama, REQUEST, Bench().relay)
    assert len(ollama.dials) == 1


@pytest.mark.parametrize("ends", [(), (REFUSED,)], ids=["dial", "pause"])
async def test_a_dial_is_given_up(ends: tuple[Fault, ...]) -> None:
    """At once, while it hangs and between two dials; its task goes on as if nothing had been."""
    ollama = Ollama(*ends)
    dial, task = await begin(ollama)
    dial.give_up()
    assert await asyncio.wait_for(task, PATIENCE_S) is None
    assert task.cancelling() == 0
    assert len(ollama.dials) == 1


async def test_a_dial_is_given_up_once() -> None:
    """Whoever says it again cancels nothing besides."""
    dial, task = await begin(Ollama())
    dial.give_up()
    dial.give_up()
    assert await asyncio.wait_for(task, PATIENCE_S) is None


@pytest.mark.parametrize("left_first", [True, False])
async def test_a_client_that_leaves_in_the_same_moment(*, left_first: bool) -> None:
    """Its cancellation gets through, whichever came first."""
    dial, task = await begin(Ollama())
    for act in (task.cancel, dial.give_up) if left_first else (dial.give_up, task.cancel):
        act()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, PATIENCE_S)


async def test_a_dial_that_is_over_is_not_given_up() -> None:
    """Nothing is cancelled that comes after it."""
    dial = Dial()
    dial.give_up()
    await dial.open(Ollama(FakeExchange()), REQUEST, Bench().relay)
    dial.give_up()
    await asyncio.sleep(0)
