"""Random systems, random operations, and a judge that keeps its own books.

The judge counts every broken rule under its number in ``RULES``.  It reads the scheduler's balances where a
rule is about balances, but decides from its own record of tickets, grants and times.
"""

import math
import random
from collections import Counter
from types import ModuleType

import gpushare.core.scheduler as real_core
from gpushare.core.flows import Flow, Lease, Ticket
from gpushare.core.model import Service

RULES = {
    1: "busy never exceeds the slots, and is the number of held leases",
    2: "nothing is granted on a full or lost backend, or while paused",
    3: "no ticket is granted twice, and no cancelled one",
    4: "a second release changes nothing",
    5: "all counts of waiting calls agree with the calls that wait",
    6: "a flow is in exactly one of NEW, OLD and NONE",
    7: "a flow with calls or debt is in the ring, and one outside has no balance",
    8: "charges less refunds are the measured costs and what running calls were charged",
    10: "no slot is free while a call waits that could use it",
    11: "a cancelled call is charged its used time only, and nothing before its start",
    12: "when everybody has gone nothing is held, and charges are costs",
    13: "balances are bounded on both sides",
    14: "credit is not carried through idleness",
    15: "debt is forgiven only when nobody waits",
    16: "calls with one need of one flow go first in, first out",
    17: "nobody runs more calls than the cap allows",
    19: "during a swap only its model is granted",
    20: "whoever goes before others has an overdraft within the limit",
}
SLACK = 1e-6
LONGEST_S = 60.0


class RandomSystem:
    """One random system.

    Args:
        seed: decides everything.
        core: the scheduler module under test.
        clock: ``steady``, ``still`` (most operations share an instant) or ``jumps``.
    """

    def __init__(self, seed: int, *, core: ModuleType = real_core, clock: str = "steady") -> None:
        self.rng = rng = random.Random(seed)
        self.core = core
        self.clock = clock
        self.found: Counter[int] = Counter()
        self.now = rng.uniform(0, 1000)
        self.quantum = rng.choice([0.5, 2.0, 5.0])
        self.stay = rng.choice([0.0, 0.0, 20.0, 60.0])
        self.cap = rng.choice([10.0, 60.0])
        self.scheduler: real_core.Scheduler = core.Scheduler(
            core.Params(quantum=self.quantum, stay_on_model=self.stay, estimate_cap=self.cap)
        )
        self.models = [f"m{i}" for i in range(rng.randint(1, 3))]
        self.backends = [
            self.scheduler.add_backend(f"gpu{i}", slots=rng.randint(1, 3)) for i in range(rng.randint(1, 3))
        ]
        self.most_slots = sum(backend.slots for backend in self.backends)
        self.owners = [f"o{i}" for i in range(rng.randint(2, 7))]
        self.weights = {owner: rng.choice([0.5, 1.0, 1.0, 4.0]) for owner in self.owners}
        self.caps = {owner: rng.choice([0, 0, 0, 1, 2]) for owner in self.owners}
        for owner in self.owners:
            self.scheduler.set_owner(owner, weight=self.weights[owner], max_running=self.caps[owner])
        self.paused = False
        self.waiting: dict[str, Ticket] = {}
        self.held: dict[str, Lease] = {}
        self.gone: set[str] = set()
        self.used_s = 0.0
        self.worst_overrun = 0.0
        self.count = 0

    def expect(self, truth: object, rule: int) -> None:
        """Counts a broken rule."""
        if not truth:
            self.found[rule] += 1

    def run(self, steps: int) -> Counter[int]:
        """Plays random operations, then lets everybody leave; returns the broken rules."""
        operations = [self.add] * 8 + [self.finish] * 6 + [self.start] * 6 + [self.tick] * 6
        operations += [self.cancel] * 2 + [self.abort, self.requeue, self.resize, self.lose, self.pause]
        for _ in range(steps):
            self.rng.choice(operations)()
            self.pump()
            self.judge()
        self.leave()
        return self.found

    # --- operations ------------------------------------------------------------------------------------

    def add(self) -> None:
        for _ in range(self.rng.choice([1, 1, 1, 6])):
            self.count += 1
            ticket: Ticket = self.core.Ticket(
                id=f"t{self.count}",
                owner=self.rng.choice(self.owners),
                service=self.rng.choice([Service.INTERACTIVE, Service.INTERACTIVE, Service.BACKGROUND]),
                model=self.rng.choice(self.models),
            )
            idle = not self.waiting
            before = self.balances()
            flow = self.scheduler.accounts.flows.get((ticket.owner, ticket.service))
            outside = flow is None or str(flow.where) == "none" or (idle and not flow.leases)
            self.scheduler.add(ticket, self.now)
            self.waiting[ticket.id] = ticket
            self.judge_add(ticket, before, idle=idle, outside=outside)

    def tick(self) -> None:
        if self.clock == "still" and self.rng.random() < 0.9:
            return
        self.now += self.rng.uniform(100, 5000) if self.clock == "jumps" else self.rng.expovariate(0.5)

    def start(self) -> None:
        ready = [lease for lease in self.held.values() if lease.t_start is None]
        if ready:
            self.scheduler.started(self.rng.choice(ready), self.now)

    def finish(self) -> None:
        ready = [lease for lease in self.held.values() if lease.t_start is not None]
        if ready:
            self.release(self.rng.choice(ready), ok=True)

    def abort(self) -> None:
        if self.held:
            self.release(self.rng.choice(list(self.held.values())), ok=False)

    def cancel(self) -> None:
        if self.waiting:
            ticket = self.waiting.pop(self.rng.choice(list(self.waiting)))
            self.gone.add(ticket.id)
            self.scheduler.cancel(ticket, self.now)
            self.scheduler.cancel(ticket, self.now)

    def requeue(self) -> None:
        ready = [lease for lease in self.held.values() if lease.t_start is None]
        if ready:
            lease = self.rng.choice(ready)
            del self.held[lease.ticket.id]
            self.waiting[lease.ticket.id] = lease.ticket
            self.scheduler.requeue(lease, self.now)

    def resize(self) -> None:
        backend = self.rng.choice(self.backends)
        self.scheduler.resize(backend.name, self.rng.randint(1, 4), self.now)
        self.most_slots = max(self.most_slots, sum(each.slots for each in self.backends))

    def recovers(self, *, ill: bool) -> bool:
        """Decides whether something is well next: troubles are seldom and short, or nothing would run."""
        return ill or self.rng.random() < 0.7

    def lose(self) -> None:
        backend = self.rng.choice(self.backends)
        self.scheduler.set_up(backend.name, self.recovers(ill=not backend.up), self.now)

    def pause(self) -> None:
        self.paused = not self.recovers(ill=self.paused)
        self.scheduler.set_paused(self.paused, self.now)

    def release(self, lease: Lease, *, ok: bool) -> None:
        used = 0.0 if lease.t_start is None else self.now - lease.t_start
        del self.held[lease.ticket.id]
        self.gone.add(lease.ticket.id)
        self.used_s += used
        self.scheduler.finished(lease, self.now, ok=ok)
        self.expect(math.isclose(lease.charged, used, abs_tol=SLACK), 11)
        before = lease.backend.busy, self.scheduler.accounts.charged_s, self.scheduler.released_total
        self.scheduler.finished(lease, self.now + 7, ok=ok)
        after = lease.backend.busy, self.scheduler.accounts.charged_s, self.scheduler.released_total
        self.expect(before == after, 4)

    def pump(self) -> None:
        while True:
            busy = {backend.name: backend.busy for backend in self.backends}
            barrier = {backend.name: backend.incoming for backend in self.backends}
            resident = {backend.name: dict(backend.resident) for backend in self.backends}
            lease = self.scheduler.pick(self.now)
            if lease is None:
                return
            ticket, backend = lease.ticket, lease.backend
            self.expect(busy[backend.name] < backend.slots and backend.busy == busy[backend.name] + 1, 1)
            self.expect(backend.up and not self.paused, 2)
            self.expect(ticket.id in self.waiting and ticket.id not in self.gone, 3)
            self.judge_order(ticket)
            self.waiting.pop(ticket.id, None)
            self.held[ticket.id] = lease
            cap = self.caps[ticket.owner]
            running = sum(each.ticket.owner == ticket.owner for each in self.held.values())
            self.expect(not cap or running <= cap, 17)
            self.expect(barrier[backend.name] in (None, ticket.model), 19)
            self.judge_overdraft(lease, ticket.model in resident[backend.name] or barrier[backend.name])

    def leave(self) -> None:
        """Everybody goes: the books must close."""
        for ticket in list(self.waiting.values()):
            self.scheduler.cancel(ticket, self.now)
        self.waiting.clear()
        for lease in list(self.held.values()):
            self.release(lease, ok=False)
        accounts = self.scheduler.accounts
        self.expect(not any(backend.busy for backend in self.backends), 12)
        self.expect(not accounts.leases and not self.scheduler.n_wait and not accounts.wanted, 12)
        self.expect(math.isclose(accounts.charged_s, self.used_s, rel_tol=1e-9, abs_tol=SLACK), 12)
        self.expect(self.scheduler.granted_total == self.scheduler.released_total, 12)

    # --- the judge -------------------------------------------------------------------------------------

    def balances(self) -> dict[tuple[str, Service], float]:
        return {key: flow.deficit for key, flow in self.scheduler.accounts.flows.items()}

    def judge_add(
        self, ticket: Ticket, before: dict[tuple[str, Service], float], *, idle: bool, outside: bool
    ) -> None:
        for key, flow in self.scheduler.accounts.flows.items():
            mine = key == (ticket.owner, ticket.service)
            prepaid = sum(lease.charged - lease.elapsed_s(self.now) for lease in flow.leases)
            if idle and not mine:
                self.expect(abs(flow.deficit + prepaid) < SLACK, 15)
            elif not idle and not (mine and outside):
                self.expect(flow.deficit == before[key], 15)
            if mine and outside:
                self.expect(math.isclose(flow.deficit, self.quantum * flow.weight), 14)

    def judge_order(self, ticket: Ticket) -> None:
        older = [
            each
            for each in self.waiting.values()
            if (each.owner, each.service, each.model) == (ticket.owner, ticket.service, ticket.model)
            and each.seq < ticket.seq
        ]
        self.expect(not older, 16)

    def judge_overdraft(self, lease: Lease, may_go_first: object) -> None:
        flow = lease.flow
        if str(flow.where) == "new" or not flow.n_wait:
            return  # may have had a quantum with the grant
        had = flow.deficit + lease.est
        limit = 2 * self.stay * lease.backend.slots
        self.expect(had > -SLACK or (may_go_first and had / flow.weight > -limit), 20)

    def judge(self) -> None:
        """Looks at everything that can be seen at rest."""
        accounts = self.scheduler.accounts
        for backend in self.backends:
            held = sum(lease.backend is backend for lease in self.held.values())
            self.expect(backend.busy == held, 1)
        self.expect(self.scheduler.n_wait == len(self.waiting), 5)
        self.expect(sum(accounts.wanted.values()) == len(self.waiting), 5)
        for owner in self.owners:
            mine = sum(ticket.owner == owner for ticket in self.waiting.values())
            self.expect(self.scheduler.waiting(owner) == mine, 5)
        held_s = sum(lease.charged for lease in self.held.values())
        self.expect(math.isclose(accounts.charged_s, self.used_s + held_s, rel_tol=1e-9, abs_tol=SLACK), 8)
        for flow in accounts.flows.values():
            self.judge_flow(flow)
        if not self.paused:
            self.judge_work()

    def judge_flow(self, flow: Flow) -> None:
        ring = self.scheduler.accounts.rings[flow.service]
        lists = [flow in ring.new, flow in ring.old]
        where = str(flow.where)
        self.expect(lists == [where == "new", where == "old"], 6)
        waits = any(
            (ticket.owner, ticket.service) == (flow.owner.name, flow.service)
            for ticket in self.waiting.values()
        )
        runs = any(lease.flow is flow for lease in self.held.values())
        self.expect(where != "none" or not (waits or runs or flow.deficit), 7)
        for lease in flow.leases:
            self.worst_overrun = max(self.worst_overrun, lease.elapsed_s(self.now))
        weight = flow.weight
        top = self.quantum * weight + self.most_slots * self.cap
        prepaid = sum(lease.charged - lease.elapsed_s(self.now) for lease in flow.leases)
        overdraft = 2 * self.stay * 4 * weight
        bottom = overdraft + (self.most_slots + 1) * (self.worst_overrun + self.cap)
        self.expect(flow.deficit <= top + SLACK, 13)
        self.expect(flow.deficit + prepaid >= -bottom - SLACK, 13)

    def judge_work(self) -> None:
        for backend in self.backends:
            if backend.busy >= backend.slots or not backend.up or backend.incoming:
                continue
            for ticket in self.waiting.values():
                cap = self.caps[ticket.owner]
                running = sum(lease.ticket.owner == ticket.owner for lease in self.held.values())
                self.expect(cap and running >= cap, 10)
