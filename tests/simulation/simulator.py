"""A small discrete-event simulator: invented people, invented costs, the real scheduler, a clock that jumps.

Nothing sleeps and nothing is random but the given seeds, so a simulated day takes a second and every run of a
scenario is the same.
"""

import heapq
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations, count
from types import ModuleType

import gpushare.core.scheduler as real_core
from gpushare.core.flows import Lease, Ticket
from gpushare.core.model import Service

MODEL = "llama"


@dataclass(slots=True, eq=False)
class Job:
    """One call of an invented client."""

    owner: str
    cost_s: float
    arrived: float
    ticket: Ticket
    then: Callable[[], None] | None = None
    started: float | None = None
    ended: float | None = None
    gave_up: bool = False

    @property
    def lease(self) -> Lease:
        """The slot it holds, or held last."""
        assert self.ticket.lease is not None
        return self.ticket.lease

    @property
    def wait_s(self) -> float:
        """Seconds from arrival to the start of useful service."""
        assert self.started is not None
        return self.started - self.arrived


@dataclass(slots=True)
class Load:
    """A model on its way into a backend."""

    waiting: list[Job] = field(default_factory=list)
    begun: bool = False


class Simulation:
    """Drives a scheduler through events on a virtual clock.

    Args:
        scheduler: with its backends added.
        core: the module whose ``Ticket`` the scheduler takes; a mutant brings its own.
        load_s: how long a swap takes once the calls of the model that goes have ended.
        checked: whether every invariant is verified after every event.
    """

    def __init__(
        self,
        scheduler: real_core.Scheduler,
        *,
        core: ModuleType = real_core,
        load_s: float = 0.0,
        checked: bool = False,
    ) -> None:
        self.scheduler = scheduler
        self.load_s = load_s
        self.now = 0.0
        self.jobs: list[Job] = []
        self.running: list[Job] = []
        self.loads = 0
        self.watchers: list[Callable[[], None]] = []
        self._core = core
        self._checked = checked
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = count()
        self._done: defaultdict[str, float] = defaultdict(float)
        self._by_ticket: dict[str, Job] = {}
        self._loading: dict[str, Load] = {}

    # --- what clients do -------------------------------------------------------------------------------

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Runs an action later."""
        heapq.heappush(self._events, (self.now + delay_s, next(self._ids), action))

    def submit(
        self,
        owner: str,
        cost_s: float,
        *,
        model: str = MODEL,
        service: Service = Service.INTERACTIVE,
        then: Callable[[], None] | None = None,
    ) -> Job:
        """Sends a call; ``then`` runs when it has ended."""
        name = f"{owner}-{next(self._ids)}"
        ticket = self._core.Ticket(id=name, owner=owner, service=service, model=model)
        job = Job(owner, cost_s, self.now, ticket, then)
        self.jobs.append(job)
        self._by_ticket[name] = job
        self.scheduler.add(ticket, self.now)
        self.pump()
        return job

    def give_up(self, job: Job) -> None:
        """The client goes away, whatever state its call is in."""
        if job.ended is None and not job.gave_up:
            job.gave_up = True
            self.scheduler.cancel(job.ticket, self.now)
            if job.ticket.lease is not None:
                self._release(job, ok=False)

    # --- the machine -----------------------------------------------------------------------------------

    def run(self, until: float) -> None:
        """Plays all events up to a time."""
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
            self._look()
        self.now = until
        self._look()

    def _look(self) -> None:
        if self._checked:
            self.scheduler.check()
        for watcher in self.watchers:
            watcher()

    def pump(self) -> None:
        """Grants what can be granted."""
        while (lease := self.scheduler.pick(self.now)) is not None:
            job = self._by_ticket[lease.ticket.id]
            assert not job.gave_up, "a call that was given up is never granted"
            self.running.append(job)
            if lease.swap:
                self._loading.setdefault(lease.backend.name, Load()).waiting.append(job)
                self._begin_load(lease.backend.name)
            else:
                self._start(job)

    def _start(self, job: Job) -> None:
        self.scheduler.started(job.lease, self.now)
        job.started = self.now
        self.after(job.cost_s, lambda: self._end(job))

    def _begin_load(self, backend: str) -> None:
        """Begins a swap as soon as the calls of the model that goes have ended."""
        load = self._loading.get(backend)
        if load is None or load.begun:
            return
        here = (job for job in self.running if job.lease.backend.name == backend)
        if all(job in load.waiting for job in here):
            load.begun = True
            self.after(self.load_time_s(load.waiting[0].ticket.model), lambda: self._loaded(backend, load))

    def load_time_s(self, model: str) -> float:
        """Returns how long this load takes; all models take the same, unless a scenario knows better."""
        return self.load_s

    def _loaded(self, backend: str, load: Load) -> None:
        if self._loading.get(backend) is not load:
            return
        del self._loading[backend]
        self.loads += 1
        for job in load.waiting:
            self._start(job)
        self.pump()

    def _end(self, job: Job) -> None:
        if job.gave_up:
            return
        job.ended = self.now
        self._release(job, ok=True)

    def _release(self, job: Job, *, ok: bool) -> None:
        lease = job.lease
        self.running.remove(job)
        if job.started is not None:
            self._done[job.owner] += self.now - job.started
        self.scheduler.finished(lease, self.now, ok=ok)
        load = self._loading.get(lease.backend.name)
        if load and job in load.waiting:
            load.waiting.remove(job)
            if not load.waiting:
                del self._loading[lease.backend.name]
        self._begin_load(lease.backend.name)
        if job.then:
            job.then()
        self.pump()

    # --- what is measured ------------------------------------------------------------------------------

    def served_s(self, owner: str) -> float:
        """Returns the slot-seconds an owner has had, running calls included."""
        part = (
            self.now - job.started for job in self.running if job.owner == owner and job.started is not None
        )
        return self._done[owner] + sum(part)

    def shares(self, since: dict[str, float] | None = None) -> dict[str, float]:
        """Returns each owner's part of all slot-seconds, from ``since`` (an earlier ``served`` answer)."""
        served = {name: used - (since or {}).get(name, 0.0) for name, used in self.served().items()}
        total = sum(served.values())
        return {name: used / total for name, used in served.items()}

    def served(self) -> dict[str, float]:
        """Returns the slot-seconds every owner has had."""
        return {name: self.served_s(name) for name in {job.owner for job in self.jobs}}

    def waits(self, owners: set[str], *, after: float = 0.0) -> list[float]:
        """Returns the waits of the owners' calls that started, sorted."""
        return sorted(
            job.wait_s
            for job in self.jobs
            if job.owner in owners and job.started is not None and job.arrived >= after
        )


def quantile(values: list[float], q: float) -> float:
    """Returns the value at part ``q`` of a sorted list."""
    return values[min(len(values) - 1, int(q * len(values)))]


def jain(values: list[float]) -> float:
    """Returns Jain's index, written again so that the product's own is not its judge."""
    return sum(values) ** 2 / (len(values) * sum(value**2 for value in values))


class LagWatch:
    """The largest difference of weighted service between two always waiting owners, over any interval."""

    def __init__(self, sim: Simulation, weights: dict[str, float]) -> None:
        self._sim = sim
        self._weights = weights
        self._seen: dict[tuple[str, str], tuple[float, float]] = {}
        sim.watchers.append(self.look)

    def look(self) -> None:
        """Takes the present differences; service is linear between events, so extremes lie on them."""
        per_weight = {name: self._sim.served_s(name) / weight for name, weight in self._weights.items()}
        for pair in combinations(self._weights, 2):
            lag = per_weight[pair[0]] - per_weight[pair[1]]
            low, high = self._seen.get(pair, (lag, lag))
            self._seen[pair] = min(low, lag), max(high, lag)

    def worst(self) -> dict[tuple[str, str], float]:
        """Returns the largest lag per pair, in seconds per unit of weight."""
        return {pair: high - low for pair, (low, high) in self._seen.items()}


# --- invented clients ------------------------------------------------------------------------------------

Cost = Callable[[], float]


def about(rng: random.Random, mean_s: float, *, most_s: float = 120.0) -> Cost:
    """Returns a source of costs: lognormal, a long tail, cut at the request time-out."""
    sigma = 0.8
    return lambda: min(most_s, mean_s * rng.lognormvariate(-(sigma**2) / 2, sigma))


def flood(
    sim: Simulation,
    owner: str,
    cost: Cost,
    *,
    parallel: int,
    model: str = MODEL,
    service: Service = Service.INTERACTIVE,
) -> None:
    """A script that keeps so many calls in the queue for ever."""

    def send() -> None:
        sim.submit(owner, cost(), model=model, service=service, then=send)

    for _ in range(parallel):
        sim.after(0.0, send)


def person(
    sim: Simulation,
    owner: str,
    cost: Cost,
    think: Cost,
    *,
    model: str = MODEL,
    patience_s: float | None = None,
) -> None:
    """Somebody who asks, reads, thinks, and asks again; goes away when it takes longer than the patience."""

    def later() -> None:
        sim.after(think(), ask)

    def ask() -> None:
        job = sim.submit(owner, cost(), model=model, then=later)
        if patience_s is not None:
            sim.after(patience_s, lambda: lose_patience(job))

    def lose_patience(job: Job) -> None:
        if job.ended is None:
            waits = job.ticket.lease is None
            sim.give_up(job)
            if waits:
                later()

    later()
