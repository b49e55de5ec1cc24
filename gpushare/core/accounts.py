"""The balances of the queue: who is charged what, and what is forgotten when.

Owns: owners, flows, rings, class virtual times, running leases and the sums over them.
Called by: ``core.scheduler``; read by ``core.forecast`` and ``core.invariants``.

Rules:
- Every change of a deficit that is not a quantum is a charge, made in ``debit``, and the class's virtual time
  grows by the same charge.
- Debt is forgiven only in ``level``, when nobody waits and so nobody has a grievance.
"""

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import replace

from msgspec import structs

from gpushare.core.backends import Backend, Want
from gpushare.core.flows import TOMBSTONES_KEPT, Flow, Lease, Owner, Ring, State, Ticket, Where
from gpushare.core.model import Lane, Service

FORGET_AFTER_S = 3600.0
EARLY_S = 1e-6  # far above rounding: a lease is watched from a little before it is beyond its charge


class Accounts:
    """All flows and what they owe.

    Attributes:
        class_weight: how classes share when both wait.
        virtual: charge over class weight, per class.
        leases: leases held, oldest grant first; a dict, because one leaves from anywhere.
        unstarted: those of them whose useful service has not begun.
        most_leases: the most ever held at once, which bounds credit.
        n_wait: calls waiting.
        wanted: calls waiting by what they need; holds no zeros.
        charged_s: all charges less refunds, in slot-seconds.
        used_s: measured costs of released leases.
    """

    def __init__(self) -> None:
        self.flows: dict[tuple[str, Service], Flow] = {}
        self.owners: dict[str, Owner] = {}
        self._known: Mapping[str, Owner] = {}  # of what this is a copy of; copied when asked for
        self.rings = {service: Ring() for service in Service}
        self.class_weight = dict.fromkeys(Service, 1.0)
        self.virtual = dict.fromkeys(Service, 0.0)
        self.leases: dict[Lease, None] = {}
        self.unstarted: dict[Lease, None] = {}
        self._started: dict[int, Lease] = {}  # by number
        # A heap of when, number and start; it holds no lease, so that none outlives its call.
        self._due: list[tuple[float, int, float]] = []
        self._over: list[tuple[int, float, Lease]] = []  # number and start of those beyond their charge
        self._opened = 0
        self.most_leases = 0
        self.n_wait = 0
        self.wanted: dict[Want, int] = {}
        self.charged_s = 0.0
        self.used_s = 0.0
        self._due_clock = 0.0  # slot-seconds used per unit of weight that was active
        self._active_weight = 0.0
        self._swept = 0.0

    def copy(self, backends: Mapping[str, Backend]) -> "Accounts":
        """Returns accounts that can be played on, of the flows that are in their rings.

        Args:
            backends: the copies that the copied leases hold slots of, by name.
        """
        twin = Accounts()
        twin.class_weight, twin.virtual = dict(self.class_weight), dict(self.virtual)
        twin._known = self.owners
        twin.n_wait, twin.wanted = self.n_wait, dict(self.wanted)
        twin._swept, twin._due_clock, twin._active_weight = self._swept, self._due_clock, self._active_weight
        for service, ring in self.rings.items():
            other = twin.rings[service]
            other.n_wait = ring.n_wait
            other.new = OrderedDict.fromkeys(twin._adopt(flow) for flow in ring.new)
            other.old = OrderedDict.fromkeys(twin._adopt(flow) for flow in ring.old)
        for lease in self.leases:
            twin._take(lease, backends[lease.backend.name])
        return twin

    def _adopt(self, flow: Flow) -> Flow:
        """Takes a copy of the flow of other accounts."""
        owner = self.owner(flow.owner.name)
        queues = {
            want: deque(each for each in queue if each.state is State.QUEUED)
            for want, queue in flow.queues.items()
        }
        mine = replace(flow, owner=owner, queues=queues, leases=[])
        self.flows[owner.name, flow.service] = mine
        return mine

    def _take(self, lease: Lease, backend: Backend) -> None:
        """Takes a copy of the lease of other accounts; its flow, which is in its ring, is here already."""
        flow = self.flows[lease.ticket.owner, lease.ticket.service]
        mine = structs.replace(lease, flow=flow, backend=backend)
        flow.leases.append(mine)
        self._opened = max(self._opened, mine.number)
        self.leases[mine] = self.unstarted[mine] = None
        if mine.t_start is not None:
            self.start_lease(mine, mine.t_start)

    def flow(self, owner: str, service: Service) -> Flow:
        """Returns the flow of an owner in a class, made on first use."""
        flow = self.flows.get((owner, service))
        if flow is None:
            flow = self.flows[owner, service] = Flow(owner=self.owner(owner), service=service)
        return flow

    def owner(self, name: str) -> Owner:
        """Returns an owner, with default terms if nobody set any."""
        owner = self.owners.get(name)
        if owner is None:
            known = self._known.get(name)
            owner = self.owners[name] = Owner(name=name) if known is None else replace(known)
        return owner

    def set_weight(self, owner: Owner, weight: float) -> None:
        """Changes a weight; it acts from the next quantum on."""
        if owner.active:
            self._bring_due(owner)
            self._active_weight += weight - owner.weight
        owner.weight = weight

    # --- charges ---------------------------------------------------------------------------------------

    def debit(self, flow: Flow, cost_s: float) -> None:
        """Charges a flow; a negative cost is a refund."""
        flow.deficit -= cost_s
        self.charged_s += cost_s
        self.virtual[flow.service] += cost_s / self.class_weight[flow.service]

    def accrue(self, now: float) -> None:
        """Charges what running calls have used beyond their estimates.

        O(calls beyond their estimates).  They are charged in the order of their grants, whatever order they
        got there in, so that sums of floats do not depend on it.
        """
        due = self._due
        while due and due[0][0] <= now:
            _, number, start = heapq.heappop(due)
            if number in self._started:
                insort(self._over, (number, start, self._started[number]))
        for _, start, lease in self._over:
            used = now - start
            if used > lease.charged:
                self.debit(lease.flow, used - lease.charged)
                lease.charged = used

    def level(self, now: float) -> None:
        """Sets all balances to zero; what running calls have paid in advance stays paid.

        O(flows in the rings), but each of them had to come in first, so O(1) amortised.
        """
        self.accrue(now)
        for ring in self.rings.values():
            for flow in (*ring.new, *ring.old):
                if flow.leases:
                    flow.deficit = -sum(lease.charged - lease.elapsed_s(now) for lease in flow.leases)
                    ring.to_back(flow)
                else:
                    ring.leave(flow)
        latest = max(self.virtual.values())
        self.virtual = dict.fromkeys(self.virtual, latest)

    def woken(self, service: Service) -> float:
        """Returns the virtual time of a class once a call of it waits: no credit for having slept."""
        own = self.virtual[service]
        if self.rings[service].n_wait or not self.n_wait:
            return own
        return max(own, min(self.virtual[each] for each, ring in self.rings.items() if ring.n_wait))

    def rings_in_order(self) -> list[Ring]:
        """Returns the rings of classes with waiting calls, the most entitled first."""
        waiting = [service for service, ring in self.rings.items() if ring.n_wait]
        if len(waiting) > 1:
            waiting.sort(key=self.virtual.__getitem__)
        return [self.rings[service] for service in waiting]

    # --- who waits and who runs ------------------------------------------------------------------------

    def enqueue(self, ticket: Ticket, now: float, *, quantum: float) -> None:
        """Puts a ticket into its flow and the flow into its ring."""
        if not self.n_wait:
            self.level(now)
        if now - self._swept >= FORGET_AFTER_S:
            self._forget_idle(now)
        flow = self.flow(ticket.owner, ticket.service)
        ring = self.rings[ticket.service]
        self.virtual[ticket.service] = self.woken(ticket.service)
        self._activate(flow.owner)
        flow.push(ticket)
        self._count(ticket, flow, 1)
        if flow.where is Where.NONE:
            ring.enter(flow, quantum)

    def withdraw(self, ticket: Ticket, now: float) -> None:
        """Uncounts a cancelled ticket; the ring drops its flow when it passes."""
        flow = self.flow(ticket.owner, ticket.service)
        flow.drop(ticket)
        self._count(ticket, flow, -1)
        self._deactivate(flow, now)

    def open_lease(self, lease: Lease) -> None:
        """Moves a ticket from waiting to running and charges its estimate."""
        flow = lease.flow
        flow.pop(lease.ticket)
        self._count(lease.ticket, flow, -1)
        self._hold(lease)

    def idle_flow(self, owner: str, service: Service, now: float) -> Flow | None:
        """Returns the flow a call may pass through at once, levelled and outside of its ring.

        None while anybody waits, and where the owner has calls running or may have no more.
        """
        if self.n_wait:
            return None
        self.level(now)
        if now - self._swept >= FORGET_AFTER_S:
            self._forget_idle(now)
        flow = self.flow(owner, service)
        return flow if flow.where is Where.NONE and not flow.capped else None

    def pass_through(self, lease: Lease, quantum: float) -> None:
        """Opens a lease whose ticket never waited: what ``enqueue``, ``open_lease`` and its ring would do."""
        flow = lease.flow
        ring = self.rings[flow.service]
        self._activate(flow.owner)
        ring.enter(flow, quantum)
        self._hold(lease)
        ring.retire(flow, quantum)

    def _hold(self, lease: Lease) -> None:
        """Counts a lease as held and charges its estimate."""
        flow = lease.flow
        flow.leases.append(lease)
        flow.owner.n_run += 1
        self._opened += 1
        lease.number = self._opened
        self.leases[lease] = self.unstarted[lease] = None
        self.most_leases = max(self.most_leases, len(self.leases))
        self.debit(flow, lease.est)

    def start_lease(self, lease: Lease, now: float) -> None:
        """Begins useful service, which is charged from now where it exceeds the estimate."""
        lease.t_start = now
        del self.unstarted[lease]
        self._started[lease.number] = lease
        heapq.heappush(self._due, (now + lease.charged - EARLY_S, lease.number, now))

    def close_lease(self, lease: Lease, used_s: float, now: float) -> None:
        """Settles a lease: charges the difference between its true cost and what was charged."""
        flow = lease.flow
        self.debit(flow, used_s - lease.charged)
        lease.charged = used_s
        self.used_s += used_s
        flow.owner.used_s += used_s
        self._due_clock += used_s / self._active_weight
        flow.leases.remove(lease)
        self._drop(lease)
        flow.owner.n_run -= 1
        self._deactivate(flow, now)

    def _drop(self, lease: Lease) -> None:
        """Forgets a lease; what is left of it in the heap is cleared once that is most of the heap."""
        del self.leases[lease]
        self.unstarted.pop(lease, None)
        self._started.pop(lease.number, None)
        if self._over:
            place = bisect_left(self._over, (lease.number,))
            if place < len(self._over) and self._over[place][2] is lease:
                del self._over[place]
        if len(self._due) > 2 * len(self.leases) + TOMBSTONES_KEPT:
            self._due = [entry for entry in self._due if entry[1] in self._started]
            heapq.heapify(self._due)

    def waiting(self, lane: Lane) -> list[Ticket]:
        """Returns the calls that wait for a lane, oldest first."""
        flows = (flow for ring in self.rings.values() for flow in ring if flow.n_wait)
        return sorted((each for flow in flows for each in flow.waiting(lane)), key=lambda each: each.seq)

    def _count(self, ticket: Ticket, flow: Flow, step: int) -> None:
        self.n_wait += step
        self.rings[ticket.service].n_wait += step
        flow.owner.n_wait += step
        want = ticket.want
        count = self.wanted.get(want, 0) + step
        if count:
            self.wanted[want] = count
        else:
            del self.wanted[want]

    # --- what sharing owed -----------------------------------------------------------------------------

    def due_s(self, owner: Owner) -> float:
        """Returns the slot-seconds that weighted sharing owed an owner so far.

        Each slot-second used is owed, by weight, to everybody who waited or ran when it was settled.
        """
        behind = self._due_clock - owner.due_mark if owner.active else 0.0
        return owner.due_s + behind * owner.weight

    def _bring_due(self, owner: Owner) -> None:
        owner.due_s = self.due_s(owner)
        owner.due_mark = self._due_clock

    def _activate(self, owner: Owner) -> None:
        if not owner.active:
            owner.due_mark = self._due_clock
            self._active_weight += owner.weight

    def _deactivate(self, flow: Flow, now: float) -> None:
        flow.idle_since = now
        owner = flow.owner
        if not owner.active:
            owner.due_s += (self._due_clock - owner.due_mark) * owner.weight
            self._active_weight -= owner.weight

    def _forget_idle(self, now: float) -> None:
        """Drops flows that have long been out of their rings; averages of costs are kept elsewhere."""
        self._swept = now
        self.flows = {
            key: flow
            for key, flow in self.flows.items()
            if flow.where is not Where.NONE or now - flow.idle_since < FORGET_AFTER_S
        }
