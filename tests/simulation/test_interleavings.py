"""No order of what happens in one moment loses a slot, grants one twice or leaves a client without an end.

``GPUSHARE_SEEDS`` sets how many random worlds are run.
"""

import asyncio
import itertools
import os
import random
from collections import Counter
from collections.abc import Callable

import pytest

from gpushare.core.model import Outcome
from tests.simulation.engine import TICKS, Client, World
from tests.simulation.permuting import PermutingLoop, Stuck, run

SEEDS = int(os.environ.get("GPUSHARE_SEEDS", "400"))
ORDERS = 12


# --- everything at random ---------------------------------------------------------------------------------


async def play(loop: PermutingLoop, rng: random.Random) -> World:
    """Lets clients and the operator act at random whole seconds; returns the world at rest."""
    world = World(loop, rng)
    await world.monitor.poll()
    for _ in range(rng.randint(3, 12)):
        loop.call_at(rng.randrange(TICKS), come, world, rng)
    operator: list[Callable[[], object]] = [
        world.drain,
        world.cut,
        world.pause,
        world.swap,
        lambda: world.resize(rng.randint(1, 3)),
        lambda: world.revoke(rng.choice("abc")),
    ]
    for _ in range(rng.randrange(5)):
        loop.call_at(rng.randrange(TICKS), rng.choice(operator))
    await asyncio.sleep(TICKS)
    await world.close()
    return world


def come(world: World, rng: random.Random) -> None:
    """A client asks, and perhaps leaves or cancels after a while."""
    model = rng.choice(("m:latest", "m:latest", "n:latest"))
    client = world.ask(rng.choice("abc"), model=model, max_wait_s=rng.randint(1, 4))
    end = rng.random()
    if end < 0.4:
        world.loop.call_later(rng.randrange(8), world.leave, client)
    elif end < 0.5:
        world.loop.call_later(rng.randrange(8), world.withdraw, client)


@pytest.mark.parametrize("part", range(4))
def test_random_worlds(part: int) -> None:
    """P1, P2, P12, P13, P19, P36: whatever meets whatever, in whichever order, the books agree."""
    for seed in range(part, SEEDS, 4):
        rng = random.Random(seed)
        try:
            run(lambda loop: play(loop, rng), rng)  # noqa: B023 - run at once
        except (AssertionError, Stuck) as problem:
            raise AssertionError(f"seed {seed}") from problem


def test_the_worlds_are_varied() -> None:
    """Every kind of ending comes about, so the books above are put to the test."""
    outcomes: Counter[Outcome] = Counter()
    for seed in range(200):
        rng = random.Random(seed)
        world = run(lambda loop: play(loop, rng), rng)  # noqa: B023
        outcomes.update(record.outcome for record in world.records)
    assert {outcome for outcome, count in outcomes.items() if count >= 3} >= {
        Outcome.OK,
        Outcome.CLIENT_GONE_QUEUED,
        Outcome.CLIENT_GONE_RUNNING,
        Outcome.QUEUE_TIMEOUT,
        Outcome.UPSTREAM_REFUSED,
        Outcome.UPSTREAM_RESET,
        Outcome.UPSTREAM_TRUNCATED,
        Outcome.TIMEOUT_FIRST_BYTE,
        Outcome.TIMEOUT_IDLE,
        Outcome.DRAINED,
        Outcome.REVOKED,
    }


# --- two things in one moment -----------------------------------------------------------------------------

MOMENT = 3.0
"""When the running call's answer is complete and the waiting call's patience is over."""


def pairs() -> dict[str, Callable[[World, Client, Client], object]]:
    """Returns what may happen to a running and a waiting call, by name."""
    return {
        "the running client leaves": lambda world, running, _: world.leave(running),
        "the waiting client leaves": lambda world, _, waiting: world.leave(waiting),
        "the running call is cancelled": lambda world, running, _: world.withdraw(running),
        "the waiting call is cancelled": lambda world, _, waiting: world.withdraw(waiting),
        "one more asks": lambda world, _running, _waiting: world.ask("c"),
        "drain": lambda world, _running, _waiting: world.drain(),
        "cut": lambda world, _running, _waiting: world.cut(),
        "a key is withdrawn": lambda world, _running, waiting: world.revoke(waiting.who.owner),
        "reload": lambda world, _running, _waiting: world.resize(2),
        "pause": lambda world, _running, _waiting: world.pause(),
        "another model": lambda world, _running, _waiting: world.swap(),
    }


async def meet(loop: PermutingLoop, rng: random.Random, first: str, second: str) -> World:
    """Lets two things happen in the moment in which a grant, an end and a time-out are due as well."""
    world = World(loop, rng)
    await world.monitor.poll()
    world.slots.resize("b", 1)
    running = world.ask("a")
    await asyncio.sleep(1)
    waiting = world.ask("b", max_wait_s=MOMENT - 1)
    acts = pairs()
    for name in (first, second):
        loop.call_at(MOMENT, acts[name], world, running, waiting)
    await asyncio.sleep(MOMENT)
    await world.close()
    return world


@pytest.mark.parametrize("first", pairs())
def test_two_things_in_one_moment(first: str) -> None:
    """P1, P2: each pair, in many orders."""
    for second, seed in itertools.product(pairs(), range(ORDERS)):
        rng = random.Random(f"{first} {second} {seed}")
        try:
            run(lambda loop: meet(loop, rng, first, second), rng)  # noqa: B023
        except (AssertionError, Stuck) as problem:
            raise AssertionError(f"{second}, seed {seed}") from problem


# --- the loop itself --------------------------------------------------------------------------------------


def test_the_loop_permutes() -> None:
    """What is ready at the same time runs in every order."""

    async def order(loop: PermutingLoop) -> str:
        said: list[str] = []
        for word in "abc":
            loop.call_soon(said.append, word)
        await asyncio.sleep(1)
        return "".join(said)

    seen = {run(order, random.Random(seed)) for seed in range(60)}
    assert seen == {"".join(each) for each in itertools.permutations("abc")}


def test_the_loop_finds_who_waits_for_ever() -> None:
    """A future that nobody will ever set ends the run."""

    async def wait(loop: PermutingLoop) -> None:
        await loop.create_future()

    with pytest.raises(Stuck):
        run(wait, random.Random(0))


@pytest.mark.parametrize("naive", [True, False])
def test_a_naive_queue_is_found_out(*, naive: bool) -> None:
    """A semaphore that gives its slot to who has just left loses it, and this suite would see that."""
    lost = 0
    for seed in range(50):
        lost += run(lambda loop: lose(loop, naive=naive), random.Random(seed))
    assert bool(lost) == naive


async def lose(loop: PermutingLoop, *, naive: bool) -> int:
    """Returns whether a slot was lost when a grant met a cancellation."""
    free, grant = 0, loop.create_future()

    async def wait() -> None:
        nonlocal free
        try:
            await grant
        except asyncio.CancelledError:
            if not naive and grant.done() and not grant.cancelled():
                free += 1  # given on
            raise
        free += 1

    task = loop.create_task(wait())
    await asyncio.sleep(1)
    loop.call_soon(_set, grant)
    loop.call_soon(task.cancel)
    await asyncio.gather(task, return_exceptions=True)
    return int(grant.done() and not grant.cancelled() and free == 0)


def _set(grant: asyncio.Future[None]) -> None:
    if not grant.done():
        grant.set_result(None)
