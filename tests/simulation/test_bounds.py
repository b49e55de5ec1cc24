"""The guarantees, on random systems: service lag, no starvation, class lag, work per decision."""

import math
import random
from collections import OrderedDict
from collections.abc import Iterator

import pytest

from gpushare.core.flows import Flow, Ticket
from gpushare.core.model import Service
from gpushare.core.scheduler import Params, Scheduler
from tests.simulation.simulator import LagWatch, Simulation, about, flood, person

LONGEST_S = 60.0


def lag_used(seed: int) -> float:
    """Returns the worst lag of one random system as a part of its bound."""
    rng = random.Random(seed)
    slots = rng.randint(1, 4)
    quantum = rng.choice([1.0, 5.0])
    cap = rng.choice([5.0, 60.0])  # a low cap makes estimates too low
    stay = rng.choice([0.0, 20.0])
    scheduler = Scheduler(Params(quantum=quantum, stay_on_model=stay, estimate_cap=cap))
    scheduler.add_backend("gpu", slots=slots)
    sim = Simulation(scheduler, load_s=5.0)
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


def starvation_used(seed: int) -> float:
    """Returns the longest wait of any first-in-line call of one random system as a part of its bound."""
    rng = random.Random(seed)
    slots = rng.randint(1, 3)
    quantum, cap = 5.0, 60.0
    scheduler = Scheduler(Params(quantum=quantum, stay_on_model=0.0))
    scheduler.add_backend("gpu", slots=slots)
    sim = Simulation(scheduler)
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
    return worst


def test_nobody_starves() -> None:
    """The first call of every flow is granted within the time its debt and the number of flows allow."""
    assert max(starvation_used(seed) for seed in range(15)) < 1.0


@pytest.mark.parametrize("slots", [1, 3])
def test_classes_stay_together_in_virtual_time(slots: int) -> None:
    """While both classes wait, their virtual times differ by less than the calls in flight can make."""
    scheduler = Scheduler(Params(quantum=5.0, stay_on_model=0.0))
    scheduler.add_backend("gpu", slots=slots)
    sim = Simulation(scheduler)
    rng = random.Random(4)
    flood(sim, "front", about(rng, 10, most_s=LONGEST_S), parallel=10)
    flood(sim, "back", about(rng, 10, most_s=LONGEST_S), parallel=10, service=Service.BACKGROUND)
    apart: list[float] = []
    sim.watchers.append(lambda: apart.append(abs(difference(scheduler))))
    sim.run(3600.0)
    assert max(apart) < (LONGEST_S + (slots - 1) * (60.0 + LONGEST_S)) * (1 + 1 / 0.11)


def difference(scheduler: Scheduler) -> float:
    """Returns how far the classes are apart in virtual time."""
    virtual = scheduler.accounts.virtual
    return virtual[Service.INTERACTIVE] - virtual[Service.BACKGROUND]


@pytest.mark.parametrize("flows", [5, 8])
def test_equal_calls_get_equal_grants(flows: int) -> None:
    """With equal costs and weights, always waiting owners differ by at most one lap of grants."""
    sim = Simulation(Scheduler(Params(quantum=5.0, stay_on_model=0.0)))
    sim.scheduler.add_backend("gpu", slots=2)
    for index in range(flows):
        flood(sim, f"o{index}", lambda: 5.0, parallel=6)
    for _ in range(50):
        sim.run(sim.now + 33.0)
        granted = [0] * flows
        for job in sim.jobs:
            granted[int(job.owner[1:])] += job.ticket.lease is not None
        assert max(granted) - min(granted) <= 2


class CountingList(OrderedDict[Flow, None]):
    """A list of a ring that counts how often its front is looked at."""

    looks = 0

    def __iter__(self) -> Iterator[Flow]:
        CountingList.looks += 1
        return super().__iter__()


@pytest.mark.parametrize("flows", [10, 1_000, 20_000])
def test_a_decision_costs_the_same_however_many_wait(flows: int) -> None:
    """A pick looks at fewer than four flows on average, with ten flows or with thousands."""
    scheduler = Scheduler(Params(quantum=5.0, stay_on_model=0.0))
    scheduler.add_backend("gpu", slots=1)
    ring = scheduler.accounts.rings[Service.INTERACTIVE]
    ring.new, ring.old = CountingList(), CountingList()
    rng = random.Random(5)

    def send(owner: str, now: float) -> None:
        scheduler.add(Ticket(id="", owner=owner, service=Service.INTERACTIVE, model="m"), now)

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
    assert CountingList.looks / picks < 4
