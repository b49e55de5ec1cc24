"""The guarantees, on random systems: service lag, no starvation, class lag, work per decision."""

import math
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

import gpushare.core.scheduler as real_core
from gpushare.core.flows import Flow
from gpushare.core.model import Service
from gpushare.core.scheduler import Scheduler
from tests.simulation.mutants import Fault, plant
from tests.simulation.scenarios import make, weighted_shares
from tests.simulation.simulator import LagWatch, Simulation, about, flood, person

LONGEST_S = 60.0


def lag_used(seed: int, core: ModuleType = real_core) -> float:
    """Returns the worst lag of one random system as a part of its bound."""
    rng = random.Random(seed)
    slots = rng.randint(1, 4)
    quantum = rng.choice([1.0, 5.0])
    cap = rng.choice([5.0, 60.0])  # a low cap makes estimates too low
    stay = rng.choice([0.0, 20.0])
    scheduler = core.Scheduler(core.Params(quantum=quantum, stay_on_model=stay, estimate_cap=cap))
    scheduler.add_backend("gpu", slots=slots)
    sim = Simulation(scheduler, core=core, load_s=5.0)
    models = ["a", "b"] if stay else ["a"]
    weights = {f"o{index}": rng.choice([0.5, 1.0, 2.0, 4.0]) for index in range(rng.randint(2, 5))}
    for owner, weight in weights.items():
        scheduler.set_owner(owner, weight=weight)
        cost = about(rng, rng.choice([1, 5, 20]), most_s=LONGEST_S)
        flood(sim, owner, cost, parallel=slots + 8, model=rng.choice(models))
    for index in range(rng.randint(0, 3)):
        person(sim, f"p{index}", about(rng, 5, most_s=LONGEST_S), lambda: rng.expovariate(1 / 20), model="a")
    sim.run(300.0)  # everybody has been through NEW
    watch = LagWatch(sim, weights)
    sim.run(2400.0)
    overdraft = 2 * stay * slots
    each = {
        owner: (LONGEST_S + (slots - 1) * (cap + LONGEST_S)) / weight + overdraft
        for owner, weight in weights.items()
    }
    return max(lag / (3 * quantum + each[a] + each[b]) for (a, b), lag in watch.worst().items())


def test_service_lag_stays_below_its_bound() -> None:
    """|S_i/w_i - S_j/w_j| <= 3Q + sum of [C + (N-1)(e + d)]/w + O for every pair and interval."""
    parts = [lag_used(seed) for seed in range(24)]
    assert max(parts) < 1.0
    assert max(parts) > 0.2  # the systems are hard enough to say something


def starvation_used(seed: int, core: ModuleType = real_core) -> float:
    """Returns the longest wait of any first-in-line call of one random system as a part of its bound."""
    rng = random.Random(seed)
    slots = rng.randint(1, 3)
    quantum, cap = 5.0, 60.0
    sim = make(core, slots=slots, quantum=quantum)
    scheduler = sim.scheduler
    count = rng.randint(2, 6)
    for index in range(count):
        flood(sim, f"o{index}", about(rng, rng.choice([2, 20]), most_s=LONGEST_S), parallel=6)
    for index in range(2):
        person(sim, f"p{index}", about(rng, 10, most_s=LONGEST_S), lambda: rng.expovariate(1 / 30))
    worst = 0.0
    first: dict[str, tuple[float, float]] = {}

    def look() -> None:
        nonlocal worst
        for flow in scheduler.accounts.flows.values():
            waiting = flow.waiting()
            if waiting and waiting[0].id not in first:
                first[waiting[0].id] = sim.now, bound(flow)
        for job in sim.running:
            since, limit = first.pop(job.ticket.id, (sim.now, 1.0))
            worst = max(worst, (job.lease.t_grant - since) / limit)

    def bound(flow: Flow) -> float:
        flows = count + 2
        most = LONGEST_S + (slots - 1) * (cap + LONGEST_S)
        laps = math.ceil((max(0.0, -flow.deficit) + slots * LONGEST_S) / quantum) + 1
        return ((2 * laps + 1) * quantum * flows + flows * most) / slots + LONGEST_S

    sim.watchers.append(look)
    sim.run(1800.0)
    waiting = ((sim.now - since) / limit for since, limit in first.values())
    return max([worst, *waiting])  # who was never granted has waited until now


def test_nobody_starves() -> None:
    """The first call of every flow is granted within the time its debt and the number of flows allow."""
    assert max(starvation_used(seed) for seed in range(15)) < 1.0


def class_lag_used(slots: int, core: ModuleType = real_core) -> float:
    """Returns how far two classes that wait are apart at most, as a part of the bound."""
    sim = make(core, slots=slots)
    scheduler = sim.scheduler
    rng = random.Random(4)
    flood(sim, "front", about(rng, 10, most_s=LONGEST_S), parallel=10)
    flood(sim, "back", about(rng, 10, most_s=LONGEST_S), parallel=10, service=Service.BACKGROUND)
    apart: list[float] = []
    sim.watchers.append(lambda: apart.append(abs(difference(scheduler))))
    sim.run(3600.0)
    return max(apart) / ((LONGEST_S + (slots - 1) * (60.0 + LONGEST_S)) * (1 + 1 / 0.11))


@pytest.mark.parametrize("slots", [1, 3])
def test_classes_stay_together_in_virtual_time(slots: int) -> None:
    """While both classes wait, their virtual times differ by less than the calls in flight can make."""
    assert class_lag_used(slots) < 1.0


def difference(scheduler: Scheduler) -> float:
    """Returns how far the classes are apart in virtual time."""
    virtual = scheduler.accounts.virtual
    return virtual[Service.INTERACTIVE] - virtual[Service.BACKGROUND]


def grants_apart(flows: int, core: ModuleType = real_core) -> int:
    """Returns by how many grants owners with equal calls are apart at most."""
    sim = make(core, slots=2)
    apart = 0
    for index in range(flows):
        flood(sim, f"o{index}", lambda: 5.0, parallel=6)
    for _ in range(50):
        sim.run(sim.now + 33.0)
        granted = [0] * flows
        for job in sim.jobs:
            granted[int(job.owner[1:])] += job.ticket.lease is not None
        apart = max(apart, max(granted) - min(granted))
    return apart


@pytest.mark.parametrize("flows", [5, 8])
def test_equal_calls_get_equal_grants(flows: int) -> None:
    """With equal costs and weights, always waiting owners differ by at most one lap of grants."""
    assert grants_apart(flows) <= 2


class CountingList(OrderedDict[Flow, None]):
    """A list of a ring that counts how often its front is looked at."""

    looks = 0

    def __iter__(self) -> Iterator[Flow]:
        CountingList.looks += 1
        return super().__iter__()


def looks_at_flows(flows: int, core: ModuleType = real_core) -> float:
    """Returns how many flows a pick looks at on average."""
    scheduler = make(core).scheduler
    ring = scheduler.accounts.rings[Service.INTERACTIVE]
    ring.new, ring.old = CountingList(), CountingList()
    rng = random.Random(5)

    def send(owner: str, now: float) -> None:
        scheduler.add(core.Ticket(id="", owner=owner, service=Service.INTERACTIVE, model="m"), now)

    for index in range(2 * flows):
        send(f"o{index % flows}", 0.0)
    CountingList.looks, now, picks = 0, 0.0, 5_000
    for _ in range(picks):
        lease = scheduler.pick(now)
        assert lease is not None
        scheduler.started(lease, now)
        now += rng.expovariate(1 / 6)
        scheduler.finished(lease, now)
        send(lease.ticket.owner, now)
    return CountingList.looks / picks


@pytest.mark.parametrize("flows", [10, 1_000, 20_000])
def test_a_decision_costs_the_same_however_many_wait(flows: int) -> None:
    """A pick looks at fewer than four flows on average, with ten flows or with thousands."""
    assert looks_at_flows(flows) < 4


BROKEN: dict[int, tuple[Fault, Callable[[ModuleType], bool]]] = {
    9: (
        Fault(
            "no settlement of what was cheaper",
            9,
            "accounts",
            "self.debit(flow, used_s - lease.charged)\n        lease.charged = used_s\n        ",
            "self.debit(flow, max(0.0, used_s - lease.charged))\n        lease.charged = used_s\n        ",
        ),
        lambda core: max(lag_used(seed, core) for seed in range(24)) < 1.0,
    ),
    18: (
        Fault(
            "a turn that is over begins again",
            18,
            "flows",
            "self.give(flow, quantum)\n                self.to_back(flow)\n                skipped",
            "self.give(flow, quantum)\n                skipped",
        ),
        lambda core: max(starvation_used(seed, core) for seed in range(15)) < 1.0,
    ),
    21: (
        Fault(
            "a bigger quantum for another owner",
            21,
            "flows",
            "flow.credit = quantum * flow.owner.weight\n        flow.deficit += flow.credit",
            'flow.credit = quantum * (2 if flow.owner.name == "o0" else 1)\n'
            "        flow.deficit += flow.credit",
        ),
        lambda core: grants_apart(5, core) <= 2,
    ),
    22: (
        Fault(
            "weights are forgotten",
            22,
            "flows",
            "flow.credit = quantum * flow.owner.weight\n        flow.deficit += flow.credit",
            "flow.credit = quantum\n        flow.deficit += flow.credit",
        ),
        lambda core: abs(weighted_shares(core)["o0"] - 1 / 7) < 0.005,
    ),
    23: (
        Fault(
            "one class always goes first",
            23,
            "accounts",
            "waiting.sort(key=self.virtual.__getitem__)",
            "pass",
        ),
        lambda core: class_lag_used(1, core) < 1.0,
    ),
    24: (
        Fault(
            "quanta too small to be of use",
            24,
            "flows",
            "flow.credit = quantum * flow.owner.weight\n        flow.deficit += flow.credit",
            "flow.credit = quantum / 20 * flow.owner.weight\n        flow.deficit += flow.credit",
        ),
        lambda core: looks_at_flows(1_000, core) < 4,
    ),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_every_bound_was_seen_to_fail(rule: int) -> None:
    """Each is broken by a fault planted against it, and by nothing in the scheduler itself."""
    fault, holds = BROKEN[rule]
    assert holds(real_core)
    assert not holds(plant(fault))
