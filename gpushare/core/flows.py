"""Deficit round robin over flows whose costs are known only afterwards.

Owns: ``Ticket``, ``Lease``, ``Flow`` and ``Ring``.  Called by: ``core.scheduler``.

Rules:
- A flow is in exactly one of NEW, OLD and NONE, and at most once.
- A flow that has waiting or running calls, or debt, is in its ring; a flow outside has a deficit of 0.
- Credit is never carried through idleness; debt is: it is paid by laps, one quantum each.

Theory of operation
===================

Textbook deficit round robin (Shreedhar and Varghese, SIGCOMM 1995) serves a packet when the flow's deficit
covers it.  The cost of a generation is unknown until it ends, so this is the surplus form: a flow is served
while its deficit is *positive*, an estimate is charged at the grant, overruns are charged as time passes, and
the true cost is settled at the end.  A deficit is measured in slot-seconds.

A flow that comes from outside enters NEW, which is served before OLD, for one quantum (the sparse-flow boost
of fq_codel, RFC 8290 section 4.2); it cannot enter NEW again without a pass through OLD, so the boost cannot
be had twice by stopping and starting.

Looking for the next flow ends, because every visit gives a quantum, drops a flow, or counts as skipped; deep
debt is passed in whole laps at once.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain, islice

from msgspec import Struct

from gpushare.core.backends import Backend, Want
from gpushare.core.costs import smoothed
from gpushare.core.model import Lane, Service

AFFINITY_SCAN = 64  # flows looked at for a resident model: keeps the decision constant-time
TOMBSTONES_KEPT = 16


class State(StrEnum):
    """Where a ticket is: NEW -> QUEUED -> GRANTED -> RUNNING -> DONE, or QUEUED -> CANCELLED."""

    NEW = "new"
    QUEUED = "queued"
    GRANTED = "granted"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class Ticket(Struct, eq=False, kw_only=True):
    """A place in a queue.

    ``seq`` and ``since`` are set when it is added, ``lease`` when it gets a slot; ``want`` follows.
    """

    id: str
    owner: str
    service: Service
    model: str
    lane: Lane = Lane.GENERATE
    state: State = State.NEW
    seq: int = 0
    since: float = 0.0
    lease: "Lease | None" = None
    want: Want = Want(Lane.GENERATE, "")

    def __post_init__(self) -> None:
        self.want = Want(self.lane, self.model)


class Lease(Struct, eq=False, kw_only=True):
    """A held slot: one per grant, released exactly once.

    Attributes:
        est, charged: slot-seconds charged at the grant, and so far; the latter is the cost once released.
        t_grant: when the slot was taken.
        t_start: when useful service began, None while the model loads.
        swap, unlisted: whether the model was not resident at the grant, or was found missing since.
        load_s: how long its load took, if it was measured; of several that waited for one, the first has it.
        energy_j: what the cards drew for it, once released; None where that was not measured.
        number: counts grants, so that leases have an order.
    """

    ticket: Ticket
    flow: "Flow"
    backend: Backend
    est: float
    charged: float
    t_grant: float
    t_start: float | None = None
    released: bool = False
    swap: bool = False
    unlisted: bool = False
    load_s: float | None = None
    energy_j: float | None = None
    number: int = 0

    def elapsed_s(self, now: float) -> float:
        """Returns the seconds of useful service so far."""
        return 0.0 if self.t_start is None else now - self.t_start

    def remaining_s(self, now: float) -> float:
        """Returns a guess of the service left: never nothing, because the estimate may be too low."""
        return max(self.est / 4, self.est - self.elapsed_s(now))


@dataclass(slots=True, eq=False, kw_only=True)
class Owner:
    """The unit of fairness: terms, and both classes counted together.

    ``due_s`` and ``due_mark`` are kept by ``Accounts``: what sharing owed this owner, and up to when.
    """

    name: str
    weight: float = 1.0
    max_running: int = 0
    n_wait: int = 0
    n_run: int = 0
    used_s: float = 0.0
    due_s: float = 0.0
    due_mark: float = 0.0

    @property
    def active(self) -> bool:
        """Whether calls of this owner wait or run."""
        return bool(self.n_wait or self.n_run)


class Where(StrEnum):
    """Which list of its ring a flow is in."""

    NONE = "none"
    NEW = "new"
    OLD = "old"


_OUTSIDE, _NEW, _OLD = Where  # looked up once: up to Python 3.11 it takes the class of an enum long


@dataclass(slots=True, eq=False, kw_only=True)
class Flow:
    """The scheduling state of one owner in one class.

    Attributes:
        deficit: balance in slot-seconds; credit above 0, debt below.
        credit: the last quantum given, the bound of what is kept.
        queues: waiting tickets, oldest first, by what they need; may hold cancelled tickets, but not as the
            first of a queue.
        n_wait: tickets waiting.
        leases: leases held.
        gap_s: smoothed time between grants while the flow is backlogged.
        last_grant: when the last grant was, if calls were left waiting then.
        booked: when the call that was turned away last was told to come back.
        idle_since: when the flow last left its ring.
    """

    owner: Owner
    service: Service
    deficit: float = 0.0
    credit: float = 0.0
    queues: dict[Want, deque[Ticket]] = field(default_factory=dict)
    n_wait: int = 0
    leases: list[Lease] = field(default_factory=list)
    where: Where = _OUTSIDE
    gap_s: float | None = None
    last_grant: float | None = None
    booked: float = 0.0
    idle_since: float = 0.0

    @property
    def weight(self) -> float:
        """The owner's weight."""
        return self.owner.weight

    @property
    def capped(self) -> bool:
        """Whether the owner already has as many calls running as it may."""
        return self.owner.n_run >= self.owner.max_running > 0

    def push(self, ticket: Ticket) -> None:
        """Queues a ticket by age: a returned one stands before everything younger."""
        queue = self.queues.get(ticket.want)
        if queue is None:
            queue = self.queues[ticket.want] = deque()
        place = len(queue)
        while place and queue[place - 1].seq > ticket.seq:
            place -= 1
        queue.insert(place, ticket)
        self.n_wait += 1

    def pop(self, ticket: Ticket) -> None:
        """Takes a granted ticket, the first of its queue, out."""
        self.queues[ticket.want].popleft()
        self.n_wait -= 1
        self._tidy(ticket.want)

    def drop(self, ticket: Ticket) -> None:
        """Uncounts a cancelled ticket; it stays in its queue as a tombstone until that is cheap to clear."""
        self.n_wait -= 1
        queue = self.queues[ticket.want]
        if len(queue) > 2 * self.n_wait + TOMBSTONES_KEPT:
            self.queues[ticket.want] = deque(each for each in queue if each.state is State.QUEUED)
        self._tidy(ticket.want)

    def _tidy(self, want: Want) -> None:
        queue = self.queues[want]
        while queue and queue[0].state is not State.QUEUED:
            queue.popleft()
        if not queue:
            del self.queues[want]

    def note_grant(self, now: float) -> None:
        """Learns the time between grants; only the time while calls were left waiting tells the pace."""
        if self.last_grant is not None:
            self.gap_s = smoothed(self.gap_s, now - self.last_grant)
        self.last_grant = now if self.n_wait else None

    def oldest(self, wants: set[Want]) -> Ticket | None:
        """Returns the oldest waiting ticket that needs one of ``wants``."""
        best: Ticket | None = None
        for want, queue in self.queues.items():
            if want in wants and (best is None or queue[0].seq < best.seq):
                best = queue[0]
        return best

    def waiting(self, lane: Lane | None = None) -> list[Ticket]:
        """Returns the waiting tickets of a lane, or all, oldest first."""
        queues = (queue for want, queue in self.queues.items() if lane is None or want.lane is lane)
        live = (ticket for ticket in chain.from_iterable(queues) if ticket.state is State.QUEUED)
        return sorted(live, key=lambda ticket: ticket.seq)


class Ring:
    """The flows of one class: NEW, then OLD.

    ``OrderedDict`` and not ``dict``: deleting from the front of a plain one is not O(1).
    """

    __slots__ = ("n_wait", "new", "old")

    def __init__(self) -> None:
        self.new: OrderedDict[Flow, None] = OrderedDict()
        self.old: OrderedDict[Flow, None] = OrderedDict()
        self.n_wait = 0

    def __iter__(self) -> Iterator[Flow]:
        return chain(self.new, self.old)

    def enter(self, flow: Flow, quantum: float) -> None:
        """Puts a flow that was idle into NEW, with one quantum."""
        self.give(flow, quantum)
        flow.where = _NEW
        self.new[flow] = None

    def leave(self, flow: Flow) -> None:
        """Takes a flow out; its balance is forgotten, so it must not be in debt while anybody waits."""
        (self.new if flow.where is _NEW else self.old).pop(flow)
        flow.where = _OUTSIDE
        flow.deficit = 0.0

    def to_back(self, flow: Flow) -> None:
        """Moves a flow to the end of OLD, also from NEW."""
        if flow.where is _NEW:
            del self.new[flow]
            flow.where = _OLD
            self.old[flow] = None
        else:
            self.old.move_to_end(flow)

    @staticmethod
    def give(flow: Flow, quantum: float) -> None:
        """Gives one quantum."""
        flow.credit = quantum * flow.owner.weight
        flow.deficit += flow.credit

    def retire(self, flow: Flow, quantum: float) -> None:
        """Sends a flow from NEW through OLD, so that it cannot come back to NEW at once."""
        self.to_back(flow)
        if flow.deficit <= 0:
            self.give(flow, quantum)
            if not flow.n_wait:
                flow.deficit = min(flow.deficit, 0.0)

    def granted(self, flow: Flow, quantum: float) -> None:
        """Moves a flow after a grant: in NEW the flows take turns."""
        if flow.where is not _NEW:
            return
        if not flow.n_wait:
            self.retire(flow, quantum)
        elif flow.deficit > 0:
            self.new.move_to_end(flow)

    def head(self, wants: set[Want], quantum: float) -> Flow | None:
        """Returns the flow whose turn it is: it has credit, waits, and may run.

        Args:
            wants: what some free backend can serve, to tell for whom laps are worth making.
            quantum: slot-seconds per turn and unit of weight.
        """
        new, old = self.new, self.old
        skipped = visits = 0
        while (size := len(new) + len(old)) and skipped <= size:
            if visits > 2 * size + 2:
                if not self.laps(wants, quantum, extra=0):
                    return None
                visits = 0
            visits += 1
            flow = next(iter(new or old))
            if not flow.n_wait:
                skipped += self._pass_idle(flow, quantum)
            elif flow.deficit <= 0:  # the turn is over: a quantum for the next one
                self.give(flow, quantum)
                self.to_back(flow)
                skipped = skipped + 1 if flow.capped else 0
            elif flow.capped:  # keeps its credit, gets none, lets others by
                self.to_back(flow)
                skipped += 1
            else:
                return flow
        return None

    def _pass_idle(self, flow: Flow, quantum: float) -> int:
        """Passes a flow that waits for nothing; returns 1 when it was skipped, 0 when the ring changed."""
        if flow.where is _NEW:
            self.retire(flow, quantum)
            return 0
        if flow.deficit < 0:
            flow.deficit = min(0.0, flow.deficit + quantum * flow.owner.weight)
        else:
            flow.deficit = 0.0  # credit is never kept
        if flow.deficit == 0 and not flow.leases:
            self.leave(flow)
            return 0
        self.to_back(flow)
        return 1

    def scan_past(self, wants: set[Want], quantum: float) -> Flow | None:
        """Returns the next flow a free backend can serve; the head, which cannot use one, keeps its place."""
        found = self._first_with_credit(wants)
        if found is None and self.laps(wants, quantum, extra=1):
            found = self._first_with_credit(wants)
        return found

    def _first_with_credit(self, wants: set[Want]) -> Flow | None:
        return next((flow for flow in self if flow.deficit > 0 and _usable(flow, wants)), None)

    def laps(self, wants: set[Want], quantum: float, *, extra: int) -> bool:
        """Gives all flows in debt as many quanta as bring the first usable one to its turn.

        Args:
            wants: what some free backend can serve.
            quantum: slot-seconds per turn and unit of weight.
            extra: 0 to end at most one quantum below 0, 1 to end above 0.

        Returns:
            False, and nothing is changed, when no flow is usable.
        """
        usable = [flow for flow in self if _usable(flow, wants)]
        if not usable:
            return False
        count = min(
            0 if flow.deficit > 0 else math.floor(-flow.deficit / (quantum * flow.weight)) + extra
            for flow in usable
        )
        # Embedding slots are often free while everybody waits for a generation: their laps must not pay the
        # debts of flows that ask nothing of them.
        embedding_only = all(want.lane is Lane.EMBED for want in wants)
        for flow in usable if embedding_only else self:
            if count and flow.deficit <= 0:
                flow.credit = quantum * flow.weight
                top = flow.credit if flow.n_wait else 0.0
                flow.deficit = min(flow.deficit + count * flow.credit, top)
        return True

    def overdrawn(self, want: Want, overdraft: float) -> Ticket | None:
        """Returns a ticket for a resident model, out of turn: from credit, else from the least overdrawn.

        Args:
            want: the lane and the model.
            overdraft: slot-seconds per unit of weight that a flow may be in debt for this.
        """
        best: Flow | None = None
        best_ratio = -overdraft
        for flow in islice(self, AFFINITY_SCAN):
            if want not in flow.queues or flow.capped:
                continue
            if flow.deficit > 0:
                return flow.queues[want][0]
            ratio = flow.deficit / flow.weight
            if ratio > best_ratio:
                best, best_ratio = flow, ratio
        return None if best is None else best.queues[want][0]


def _usable(flow: Flow, wants: set[Want]) -> bool:
    return bool(flow.n_wait) and not flow.capped and not wants.isdisjoint(flow.queues)
