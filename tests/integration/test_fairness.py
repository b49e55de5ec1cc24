"""Fairness through real sockets, in counted services: a flood waits behind everybody else."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import ceil
from pathlib import Path
from statistics import fmean

from gpushare.core.costs import SHORTEST_QUANTUM_S
from gpushare.sim import Plan, Script, State
from tests.conformance.tools import calls, dial, know_models, post, warm
from tests.harness import Gate, chat, gateway

LIGHT = ("alice", "bob", "carol")
COST_MS = 60.0
CALLS = 8
SETTINGS = """
[queue]
max_waiting = 300
max_waiting_per_person = 64
"""


def services(gate: Gate) -> list[str]:
    """Returns whose calls Ollama got, in order; with one slot, that is the order of the grants."""
    return [entry.body.split(b"by-", 1)[1].split(b"-", 1)[0].decode() for entry in calls(gate)]


@asynccontextmanager
async def one_slot(folder: Path, *floods: tuple[str, int]) -> AsyncIterator[Gate]:
    """Runs a gateway with calls of equal cost, where each of some people keeps so many calls in flight."""
    script = Script(default=Plan(ttft_ms=COST_MS, tokens=1))
    people: dict[str, dict[str, object]] = {who: {} for who, _ in floods if who not in LIGHT}
    async with gateway(folder, script=script, settings=SETTINGS, people=people) as gate:
        await know_models(gate)
        await warm(gate)
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for who, parallel in floods:
                for _ in range(parallel):
                    tasks.create_task(keep_asking(gate, who, ended))
            await gate.waiting(sum(parallel for _, parallel in floods) - 1)
            try:
                yield gate
            finally:
                ended.set()
                gate.sim.script.default = Plan(tokens=1)


async def keep_asking(gate: Gate, who: str, ended: asyncio.Event) -> None:
    """Sends one call after the other."""
    while not ended.is_set():
        status, _, _ = await gate.post("/api/chat", chat(f"by-{who}-"), who=who)
        assert status == 200


@dataclass(frozen=True, slots=True)
class Wait:
    """What one light call saw: the balance it came with, in slot-seconds, and who was served before it."""

    balance_s: float
    others: Counter[str]

    @property
    def turns(self) -> int:
        """How many turns of each other person it may wait for: one, and one for each quantum of debt."""
        return 1 + ceil(max(0.0, -self.balance_s) / SHORTEST_QUANTUM_S)


async def light_calls(gate: Gate, who: str, waits: list[Wait]) -> None:
    """Sends a few calls with pauses, counted in services, and notes what each waited for."""
    chance = random.Random(who)
    for _ in range(CALLS):
        await gate.sim.arrived(len(calls(gate)) + chance.randrange(2, 6), path="/api/chat")
        served = services(gate).count(who)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(gate.post("/api/chat", chat(f"by-{who}-"), who=who))
            before, balance_s = await queued(gate, who, served)
        behind = services(gate)[before:]
        others = behind[: behind.index(who)] if who in behind else []  # else it was served as it came
        waits.append(Wait(balance_s, Counter(others)))


async def queued(gate: Gate, who: str, served: int) -> tuple[int, float]:
    """Waits until a person's call is in the queue; returns how many services had begun, and the balance."""
    owner = next(record.id for record in gate.parts.ring.records if record.name == who)
    await gate.until(
        lambda: (
            any(row.owner == owner for row in gate.parts.slots.snapshot().waiting)
            or services(gate).count(who) > served
        )
    )
    shares = gate.parts.slots.snapshot().shares
    return len(calls(gate)), next(share.deficit_s for share in shares if share.owner == owner)


async def test_a_flood_is_behind_everybody_else(tmp_path: Path) -> None:
    """P7: beside 50 calls of one person, a call waits for the running one and one turn of each other person.

    The promise is for equal costs and no debt.  Measured costs differ a little, and a call that took longer
    than its quantum leaves a debt: then it is one turn more for each quantum owed.
    """
    waits: list[Wait] = []
    async with one_slot(tmp_path, ("flood", 50)) as gate, asyncio.TaskGroup() as tasks:
        for who in LIGHT:
            tasks.create_task(light_calls(gate, who, waits))
    assert len(waits) == CALLS * len(LIGHT)
    for wait in waits:
        assert max(wait.others.values(), default=0) <= wait.turns, wait
    assert sum(wait.others.total() <= len(LIGHT) for wait in waits) > len(waits) / 2
    assert Counter(services(gate))["flood"] > CALLS


async def test_parallel_calls_buy_no_larger_share(tmp_path: Path) -> None:
    """P6: three people with 3, 10 and 30 calls in flight get at least 1/3 less 10 % of any 20 services.

    The promise is for equal costs.  Measured costs differ, by a lot on a busy machine: one person may then be
    behind by what the longest call of each other one took beyond the mean (twice over, as in the bound that
    the scheduler states).
    """
    people = (("three", 3), ("ten", 10), ("thirty", 30))
    async with one_slot(tmp_path, *people) as gate:
        begun = len(charged(gate)) + 6  # by then all three have queued for a whole round
        await gate.until(lambda: len(charged(gate)) >= begun + 60)
        served = charged(gate)[begun : begun + 60]
    costs = [slot_s for _, slot_s in served]
    behind_s = 4 / 3 * (max(costs) - fmean(costs))
    for start, end in [(0, 60), *((start, start + 20) for start in range(41))]:
        used = {who: sum(slot_s for whose, slot_s in served[start:end] if whose == who) for who, _ in people}
        assert min(used.values()) >= (1 / 3 - 0.1) * sum(used.values()) - behind_s, served


def charged(gate: Gate) -> list[tuple[str, float]]:
    """Returns whose calls have ended, in order, and the slot-seconds that each was charged."""
    done = (line for line in gate.logs if line["event"] == "request.done")
    return [(line["person"], line["slot_s"]) for line in done if "slot_s" in line]


async def test_calls_cut_short_are_charged_for_what_they_used(tmp_path: Path) -> None:
    """P6: who leaves each call half-way gets twice as many turns, and no more of the GPU than the other."""
    async with one_slot(tmp_path, ("patient", 6)) as gate:
        ended, numbers = asyncio.Event(), count()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(6):
                tasks.create_task(keep_leaving(gate, "alice", ended, numbers))
            begun = len(calls(gate)) + 6
            await gate.sim.arrived(begun + 60, path="/api/chat")
            ended.set()
        used, turns = Counter[str](), Counter(services(gate)[begun:])
        for line in (line for line in gate.logs if line["event"] == "request.done"):
            used[line["person"]] += line["slot_s"]
    assert turns["alice"] > turns["patient"]
    assert used["alice"] < 0.6 * used.total(), used


async def keep_leaving(gate: Gate, who: str, ended: asyncio.Event, numbers: Iterator[int]) -> None:
    """Leaves each call in the middle of its work."""
    while not ended.is_set():
        mark = f"by-{who}-{next(numbers)}-"
        async with dial(gate.port) as wire:
            await wire.send(post(gate, "/api/chat", chat(mark), who=who))
            await gate.sim.events.until(partial(runs, gate, mark.encode()))
            await asyncio.sleep(COST_MS / 2000)


def runs(gate: Gate, mark: bytes) -> bool:
    """Whether Ollama has begun to work on a call."""
    return any(mark in entry.body and State.PROMPT in entry.at for entry in reversed(calls(gate)[-20:]))
