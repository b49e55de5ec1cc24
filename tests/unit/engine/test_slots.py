"""Waiting, giving up and giving back: no order of grant, cancel and time-out loses a slot."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from gpushare.core.dialects import find_endpoint
from gpushare.core.errors import (
    Draining,
    GpushareError,
    KeyExpired,
    Paused,
    PersonLimit,
    QueueFull,
    WaitedTooLong,
    WouldWaitTooLong,
)
from gpushare.core.keys import OwnerTerms
from gpushare.core.model import Call, Framing, Lane, Outcome, Principal, Service
from gpushare.core.scheduler import Params, Scheduler, Ticket
from gpushare.core.views import Delay, Reason
from gpushare.engine.held import HeldSlot
from gpushare.engine.slots import LocalSlots, QueueLimits
from tests.unit.records import CALL


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """Slots on a hand-driven clock, and the calls that use them."""

    def __init__(self, *, slots: int = 1, limits: QueueLimits | None = None) -> None:
        self.clock = Clock()
        self.scheduler = Scheduler(Params())
        self.scheduler.add_backend("b", slots=slots)
        self.scheduler.add_backend("e", slots=2, lane=Lane.EMBED)
        self.slots = LocalSlots(
            self.scheduler,
            limits=limits or QueueLimits(max_waiting=1000, max_waiting_per_person=1000),
            clock=self.clock,
            jitter=lambda: 0.4,
        )
        self.slots.set_resident(("b", "e"), frozenset({"m"}))
        self.served: list[str] = []
        self._count = 0

    @asynccontextmanager
    async def lease(
        self, owner: str, *, max_wait_s: float = 3600.0, model: str = "m"
    ) -> AsyncIterator[HeldSlot]:
        """One call of ``owner``."""
        self._count += 1
        with self.slots.lease(
            call(model), person(owner), ticket_id=f"t{self._count}", max_wait_s=max_wait_s
        ) as lease:
            await lease.turn()
            self.served.append(owner)
            yield lease

    async def hold(self, owner: str, release: asyncio.Event) -> None:
        """A call that runs until ``release``."""
        async with self.lease(owner) as lease:
            lease.sent()
            await release.wait()

    def at_rest(self) -> bool:
        """Whether no slot is held, nobody waits and every grant was released; checks every invariant."""
        self.scheduler.check()
        view = self.slots.snapshot()
        return view.held == 0 and view.granted_total == view.released_total and self.scheduler.n_wait == 0


def call(model: str = "m", path: str = "/api/chat") -> Call:
    """A minimal classified call."""
    endpoint, target = find_endpoint("POST", path)
    return Call(
        endpoint=endpoint,
        target=target,
        body=b"{}",
        content_type="application/json",
        model=model,
        framing=Framing.NDJSON,
        lane=endpoint.lane,
    )


def person(owner: str) -> Principal:
    """A caller with a key of its own."""
    return Principal(key_id=f"k-{owner}", name=owner, owner=owner)


async def settle_loop() -> None:
    """Lets every ready callback run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_free_slot_is_taken_at_once_and_given_back() -> None:
    """With nobody ahead the lease is entered without waiting, and leaving it frees the slot."""
    bench = Bench()
    async with bench.lease("a") as lease:
        assert lease.waited_s == 0
        assert bench.slots.snapshot().held == 1
    assert bench.at_rest()


async def test_a_slot_is_given_on_in_the_same_step_it_is_released() -> None:
    """Settling grants to the next waiter synchronously, before any task runs."""
    bench = Bench()
    async with asyncio.TaskGroup() as group:
        async with bench.lease("a") as lease:
            group.create_task(bench.hold("b", release := asyncio.Event()))
            await settle_loop()
            lease.settle(Outcome.OK)
            assert bench.slots.snapshot().held == 1
            assert bench.scheduler.n_wait == 0
        release.set()
    assert bench.served == ["a", "b"]
    assert bench.at_rest()


async def test_settling_twice_changes_nothing() -> None:
    """The second settle of a lease frees no second slot."""
    bench = Bench()
    async with bench.lease("a") as lease:
        lease.settle(Outcome.OK)
        lease.settle(Outcome.OK)
        assert bench.slots.snapshot().released_total == 1
    assert bench.at_rest()


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_grant_that_meets_a_cancellation_goes_to_the_next(*, cancel_first: bool) -> None:
    """P2: whichever of grant and cancel comes first in one pass, the slot reaches the next waiter."""
    bench = Bench()
    release = asyncio.Event()
    first = asyncio.ensure_future(bench.hold("a", release))
    await settle_loop()
    doomed = asyncio.ensure_future(bench.hold("b", asyncio.Event()))
    await settle_loop()
    other = asyncio.ensure_future(bench.hold("c", release))
    await settle_loop()
    held = next(iter(bench.scheduler.accounts.leases))
    if cancel_first:
        doomed.cancel()
        bench.slots.settle(held, Outcome.OK)
        assert [running.owner for running in bench.slots.snapshot().running] == ["c"]
    else:
        bench.slots.settle(held, Outcome.OK)
        doomed.cancel()
    await settle_loop()
    assert doomed.cancelled()
    assert bench.served == ["a", "c"]
    release.set()
    await asyncio.gather(first, other)
    assert bench.at_rest()


@pytest.mark.parametrize("seed", range(5))
async def test_calls_that_leave_at_any_moment_lose_no_slot(seed: int) -> None:
    """P1: 500 calls on two slots, half of them cancelled at random moments, leave nothing behind."""
    bench = Bench(slots=2)
    chance = random.Random(seed)

    async def one(owner: str) -> None:
        async with bench.lease(owner) as lease:
            lease.sent()
            for _ in range(chance.randrange(4)):
                bench.clock.now += 0.01
                await asyncio.sleep(0)

    tasks = []
    for number in range(500):
        tasks.append(asyncio.ensure_future(one(f"p{number % 7}")))
        if chance.random() < 0.3:
            await asyncio.sleep(0)
        if chance.random() < 0.5:
            chance.choice(tasks).cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert bench.at_rest()


async def refused(bench: Bench, owner: str, *, max_wait_s: float = 3600.0) -> GpushareError:
    """Returns the refusal of one call."""
    with pytest.raises(GpushareError) as caught:
        async with bench.lease(owner, max_wait_s=max_wait_s):
            pass
    return caught.value


async def test_a_person_over_the_own_limit_is_refused_with_both_numbers() -> None:
    """The refusal of a full personal queue names the limit and when to come back."""
    bench = Bench(limits=QueueLimits(max_waiting=64, max_waiting_per_person=2))
    release = asyncio.Event()
    tasks = [asyncio.ensure_future(bench.hold("a", release)) for _ in range(3)]
    await settle_loop()
    error = await refused(bench, "a")
    assert isinstance(error, PersonLimit)
    assert error.retry_after_s is not None
    assert 1 <= error.retry_after_s <= 30
    release.set()
    await asyncio.gather(*tasks)
    assert bench.at_rest()


async def test_a_full_queue_never_refuses_somebody_who_has_nothing_waiting() -> None:
    """The total limit turns away who already waits, not the colleague who comes with one request."""
    bench = Bench(limits=QueueLimits(max_waiting=2, max_waiting_per_person=8))
    release = asyncio.Event()
    tasks = [asyncio.ensure_future(bench.hold("a", release)) for _ in range(3)]
    await settle_loop()
    assert isinstance(await refused(bench, "a"), QueueFull)
    tasks.append(asyncio.ensure_future(bench.hold("b", release)))
    await settle_loop()
    assert bench.scheduler.n_wait == 3
    release.set()
    await asyncio.gather(*tasks)
    assert bench.at_rest()


async def test_limits_of_the_owner_go_before_those_of_everybody() -> None:
    """An owner with a limit of its own is held to that one."""
    bench = Bench()
    bench.slots.set_people({"a": OwnerTerms(weight=1.0, max_waiting=1, max_running=0)})
    release = asyncio.Event()
    tasks = [asyncio.ensure_future(bench.hold("a", release)) for _ in range(2)]
    await settle_loop()
    assert isinstance(await refused(bench, "a"), PersonLimit)
    release.set()
    await asyncio.gather(*tasks)


async def test_waiting_ends_at_the_limit_with_how_many_were_ahead() -> None:
    """After max_wait the call is refused and its place is gone."""
    bench = Bench()
    release = asyncio.Event()
    first = asyncio.ensure_future(bench.hold("a", release))
    await settle_loop()
    assert isinstance(await refused(bench, "b", max_wait_s=0.01), WaitedTooLong)
    assert bench.scheduler.n_wait == 0
    release.set()
    await first
    assert bench.at_rest()


async def test_while_paused_nothing_is_granted_and_the_refusal_says_paused() -> None:
    """A pause holds everybody; resume serves whoever still waits."""
    bench = Bench()
    bench.slots.pause()
    assert isinstance(await refused(bench, "a", max_wait_s=0.01), Paused)
    release = asyncio.Event()
    waiting = asyncio.ensure_future(bench.hold("a", release))
    await settle_loop()
    assert bench.served == []
    bench.slots.resume()
    await settle_loop()
    assert bench.served == ["a"]
    release.set()
    await waiting


async def test_draining_refuses_new_and_waiting_calls_and_lets_running_ones_finish() -> None:
    """P22: a drain ends the queue at once and no running call."""
    bench = Bench()
    release = asyncio.Event()
    running = asyncio.ensure_future(bench.hold("a", release))
    await settle_loop()
    waiting = asyncio.ensure_future(bench.hold("b", release))
    await settle_loop()
    bench.slots.drain()
    with pytest.raises(Draining):
        await waiting
    assert isinstance(await refused(bench, "c"), Draining)
    assert not running.done()
    release.set()
    await running
    assert bench.at_rest()


async def test_a_drain_ends_by_resume_and_the_end_of_the_server_does_not() -> None:
    """An admin lets calls in again; a server that closes down stays closed, and says when to come back."""
    bench = Bench()
    bench.slots.drain()
    later = await refused(bench, "a")
    bench.slots.resume()
    done = asyncio.Event()
    done.set()
    await bench.hold("a", done)
    bench.slots.close()
    soon = await refused(bench, "b")
    bench.slots.resume()
    assert isinstance(await refused(bench, "b"), Draining)
    assert (later.retry_after_s or 0) > (soon.retry_after_s or 0)
    assert bench.served == ["a"]


async def test_the_waiting_calls_of_an_ended_key_leave_the_queue() -> None:
    """Eviction reaches the chosen callers' waiting calls and nobody else's."""
    bench = Bench()
    release = asyncio.Event()
    tasks = {owner: asyncio.ensure_future(bench.hold(owner, release)) for owner in "abc"}
    await settle_loop()
    bench.slots.evict(lambda who: who.owner in "ab", lambda: KeyExpired("b", "was revoked"))
    with pytest.raises(KeyExpired):
        await tasks.pop("b")
    release.set()
    await asyncio.gather(*tasks.values())
    assert bench.served == ["a", "c"]
    assert bench.at_rest()


async def test_a_refusal_that_meets_a_cancellation_leaves_no_unread_exception() -> None:
    """An evicted call whose client leaves in the same pass ends as cancelled, silently."""
    bench = Bench()
    release = asyncio.Event()
    first = asyncio.ensure_future(bench.hold("a", release))
    await settle_loop()
    waiting = asyncio.ensure_future(bench.hold("b", release))
    await settle_loop()
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    bench.slots.drain()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    del waiting
    release.set()
    await first
    assert complaints == []


async def test_charging_starts_when_the_request_is_sent_to_a_resident_model() -> None:
    """The time between grant and sending, and the time before a load ends, are nobody's cost."""
    bench = Bench()
    async with bench.lease("a") as lease:
        bench.clock.now += 5
        lease.sent()
        bench.clock.now += 2
        lease.settle(Outcome.OK)
        assert lease.held().charged == pytest.approx(2)


@pytest.mark.parametrize("seen_by", ["first byte", "poll"])
async def test_a_load_is_charged_to_nobody(seen_by: str) -> None:
    """Charging of a call whose model had to be loaded starts when the model is seen to be there."""
    bench = Bench()
    async with bench.lease("a", model="other") as lease:
        assert lease.swap
        lease.sent()
        bench.clock.now += 20
        if seen_by == "poll":
            bench.slots.set_resident(("b", "e"), frozenset({"other"}))
        else:
            lease.first_byte()
        bench.clock.now += 3
        lease.settle(Outcome.OK)
        assert lease.held().charged == pytest.approx(3)


async def test_an_embedding_does_not_wait_behind_a_generation() -> None:
    """A resident embedding model uses the embedding lane while every ordinary slot is busy."""
    bench = Bench()
    release = asyncio.Event()
    first = asyncio.ensure_future(bench.hold("a", release))
    await settle_loop()
    with bench.slots.lease(call(path="/api/embed"), person("b"), ticket_id="embed", max_wait_s=60) as lease:
        await lease.turn()
        assert lease.backend == "e"
    release.set()
    await first
    assert bench.at_rest()


async def test_an_embedding_model_that_would_evict_another_takes_an_ordinary_slot() -> None:
    """A model neither resident nor seen beside another one goes through the ordinary queue."""
    bench = Bench()
    with bench.slots.lease(
        call("new", path="/api/embed"), person("b"), ticket_id="embed", max_wait_s=60
    ) as lease:
        await lease.turn()
        assert lease.backend == "b"
    bench.slots.set_resident(("b", "e"), frozenset({"m", "new"}))
    bench.slots.set_resident(("b", "e"), frozenset({"m"}))
    with bench.slots.lease(
        call("new", path="/api/embed"), person("b"), ticket_id="embed2", max_wait_s=60
    ) as lease:
        await lease.turn()
        assert lease.backend == "e"


async def test_raising_the_slot_count_serves_waiting_calls_at_once() -> None:
    """A slot that appears is granted in the same step."""
    bench = Bench()
    release = asyncio.Event()
    tasks = [asyncio.ensure_future(bench.hold(owner, release)) for owner in "ab"]
    await settle_loop()
    assert bench.served == ["a"]
    bench.slots.resize("b", 2)
    await settle_loop()
    assert bench.served == ["a", "b"]
    release.set()
    await asyncio.gather(*tasks)


async def test_nobody_is_turned_away_on_a_guess() -> None:
    """Before any call of a model has ended its cost is unknown, so a long queue alone refuses nobody."""
    bench = Bench()
    release = asyncio.Event()
    tasks = [asyncio.ensure_future(bench.hold("a", release)) for _ in range(200)]
    await settle_loop()
    assert bench.scheduler.n_wait == 199
    release.set()
    await asyncio.gather(*tasks)


async def test_a_call_that_cannot_start_in_time_is_refused_at_once() -> None:
    """Somebody with calls waiting whose estimate is far over the limit is told so, not kept."""
    bench = Bench()
    async with bench.lease("a") as lease:
        lease.sent()
        bench.clock.now += 5
        lease.settle(Outcome.OK)
    release = asyncio.Event()
    tasks = [asyncio.ensure_future(bench.hold("a", release)) for _ in range(12)]
    await settle_loop()
    assert isinstance(await refused(bench, "a", max_wait_s=2), WouldWaitTooLong)
    release.set()
    await asyncio.gather(*tasks)


async def test_a_queue_that_moves_is_not_stuck() -> None:
    """P40: idle, busy, paused, or behind a backend that is down, all is as it should be."""
    bench = Bench()
    assert not bench.slots.is_stuck()
    release = asyncio.Event()
    tasks = [asyncio.ensure_future(bench.hold(owner, release)) for owner in "ab"]
    await settle_loop()
    assert not bench.slots.is_stuck()
    bench.slots.pause()
    release.set()
    await settle_loop()
    assert (bench.served, bench.slots.is_stuck()) == (["a"], False)
    for name in ("b", "e"):
        bench.scheduler.set_up(name, False, bench.clock.now)
    bench.slots.resume()
    assert (bench.served, bench.slots.is_stuck()) == (["a"], False)
    for name in ("b", "e"):
        bench.scheduler.set_up(name, True, bench.clock.now)
    bench.slots.pump()
    await asyncio.gather(*tasks)


async def test_a_queue_that_is_held_back_is_not_stuck() -> None:
    """P40: Ollama is busy with somebody who goes round the queue, and nobody here can do anything."""
    bench = Bench()
    bench.slots.hold_back("b", 0.0)
    waiting = asyncio.ensure_future(bench.hold("a", release := asyncio.Event()))
    await asyncio.sleep(0)
    assert (bench.served, bench.scheduler.n_wait, bench.slots.is_stuck()) == ([], 1, False)
    release.set()
    await waiting
    assert bench.served == ["a"]


async def test_a_queue_in_which_nobody_is_granted_is_stuck() -> None:
    """P40: a free slot and somebody who waits for it cannot both be there after a step of the loop."""
    bench = Bench()
    first = asyncio.ensure_future(bench.hold("a", release := asyncio.Event()))
    await settle_loop()
    waiting = asyncio.ensure_future(bench.hold("b", asyncio.Event()))
    await settle_loop()
    bench.slots.pump = lambda: None  # type: ignore[method-assign] # the wedge
    release.set()
    await first
    assert bench.slots.is_stuck()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not bench.slots.is_stuck()


async def test_a_slot_that_belongs_to_nobody_is_stuck() -> None:
    """P40, P1: a lease whose call has gone comes back by itself never."""
    bench = Bench()
    bench.slots.settle = lambda *_: None  # type: ignore[method-assign] # the leak
    release = asyncio.Event()
    release.set()
    await bench.hold("a", release)
    assert bench.slots.is_stuck()


async def test_a_picture_says_why_an_estimate_grew() -> None:
    """What was told in one picture is held against what is told in the next."""
    bench = Bench()
    ticket = Ticket(id="", owner="a", service=Service.INTERACTIVE, model="m")
    for _ in range(5):
        bench.scheduler.habits.took(ticket, 10.0)
    release = asyncio.Event()
    tasks = [asyncio.ensure_future(bench.hold(owner, release)) for owner in "ab"]
    await settle_loop()
    assert [row.reason for row in bench.slots.snapshot().waiting] == [None]
    bench.clock.now += 30.0
    reason = bench.slots.snapshot().waiting[0].reason
    assert reason == Reason(delay=Delay.LONGER, owner="a")
    release.set()
    await asyncio.gather(*tasks)


async def test_what_earlier_processes_served_is_remembered() -> None:
    """After a restart the first estimate rests on what calls took before it; failures teach nothing."""
    bench = Bench()
    call_before = replace(CALL, owner="a", model="m", slot_s=8.0, load_s=None)
    loads = replace(call_before, swap=True, load_s=30.0)
    failed = replace(call_before, slot_s=500.0, outcome=Outcome.UPSTREAM_RESET)
    for call in [*[call_before] * 5, loads, failed]:
        bench.slots.remember(call)
    assert bench.scheduler.knows_cost("m")
    ticket = Ticket(id="t", owner="a", service=Service.INTERACTIVE, model="m")
    assert bench.scheduler.habits.usual_s(ticket) == pytest.approx(8.0)
    assert bench.scheduler.habits.usual_load_s("m") == pytest.approx(30.0)
