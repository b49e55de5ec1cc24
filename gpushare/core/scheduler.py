"""Who gets the next free slot: deficit round robin over owners, in slot-seconds.

Owns: all queues, balances, leases and slot counts.
Called by: ``engine.slots`` alone; tests and simulations drive it directly.

Rules:
- No clock, no I/O, no futures: every call takes ``now`` (monotonic seconds), so every decision can be
  replayed.  A clock that stands still or jumps forward breaks nothing.
- A slot is taken in ``pick`` and comes back in ``finished``, once; nothing else changes ``busy``.
- Affinity and swaps change the order only.  Everything is charged as always, so long-run shares stay exact.
- ``check`` states the invariants; tests call it after every step.

Theory of operation
===================

``core.flows`` explains the ring.  Around it:

*Balances.*  The estimate is charged at the grant; while a call runs, ``accrue`` charges what exceeds it; the
end settles the difference.  When somebody starts to wait after nobody did, all balances are levelled to zero:
using an idle GPU harms nobody, so it costs nothing.

*Classes.*  Each class has a ring and a virtual time that grows by charge over class weight; the smaller one
is tried first, the other takes what it leaves.  A class that wakes up gets no credit for having slept.

*Models.*  Somebody's turn may need a model that is not loaded.  The swap is put off while the resident
model has not had its time X since it was loaded, and calls for the resident model go first, from flows that
are not too far overdrawn.  From the swap's grant until the model is resident, nothing else is granted there.

With N slots, C the longest call, w the weight, Q the quantum, e the cap of estimates, d the largest
under-estimation and O the overdraft, two owners i and j that wait all the time for the same slots obey

    |S_i/w_i - S_j/w_j|  <=  3Q + sum over both of ([C + (N-1)(e + d)] / w + O)

A pick is O(1) amortised plus O(calls beyond their estimates); it is O(flows) only when the head of the ring
can use no free backend.
"""

from collections.abc import Iterable, Sequence

from gpushare.core import bookings, invariants, views
from gpushare.core.backends import Backend
from gpushare.core.board import Board
from gpushare.core.costs import Costs
from gpushare.core.flows import Lease, State, Ticket
from gpushare.core.forecast import Forecast, Play, Usual
from gpushare.core.habits import Habits
from gpushare.core.model import Lane, Service
from gpushare.core.outlook import Outlook
from gpushare.core.params import Params
from gpushare.core.views import BackendView, QueueCounts, QueueView, RunningView, ShareView, WaitingView

__all__ = [
    "Backend",
    "BackendView",
    "Forecast",
    "Lease",
    "Params",
    "QueueCounts",
    "QueueView",
    "RunningView",
    "Scheduler",
    "ShareView",
    "State",
    "Ticket",
    "WaitingView",
]


class Scheduler:
    """The queue of one gateway and the slots of its backends.

    Args:
        params: see ``Params``.
    """

    def __init__(self, params: Params | None = None) -> None:
        self.board = Board()
        self.backends = self.board.backends
        self.accounts = self.board.accounts
        self.costs = Costs()
        self.habits = Habits()
        self.granted_total = 0
        self.released_total = 0
        self.paused_since: float | None = None
        self._seq = 0
        self._booked = 0.0
        self.params = Params()
        self.set_params(params or self.params, 0.0)

    # --- backends and terms ----------------------------------------------------------------------------

    def set_params(self, params: Params, now: float) -> None:
        """Takes new parameters; they act from the next decision on."""
        self.accounts.accrue(now)  # what has been used so far is charged under the old ones
        self.params = params
        self.accounts.class_weight[Service.BACKGROUND] = params.background_weight

    def set_owner(self, owner: str, *, weight: float = 1.0, max_running: int = 0) -> None:
        """Sets an owner's terms; a new weight acts from the next quantum on, and 0 means no cap."""
        known = self.accounts.owner(owner)
        self.accounts.set_weight(known, weight)
        known.max_running = max_running

    def add_backend(self, name: str, *, slots: int, lane: Lane = Lane.GENERATE) -> Backend:
        """Adds a set of slots and returns its record, which only the scheduler changes."""
        backend = self.backends[name] = Backend(name=name, slots=slots, lane=lane)
        return backend

    def resize(self, name: str, slots: int, now: float) -> None:
        """Changes a slot count; lowering it never interrupts a call."""
        self.accounts.accrue(now)
        self.backends[name].slots = slots

    def set_up(self, name: str, up: bool, now: float) -> None:  # noqa: FBT001 - the flag is the message
        """Notes whether a backend answers; nothing is granted on one that does not, what runs goes on."""
        self.accounts.accrue(now)
        self.backends[name].up = up

    def set_most(self, name: str, most: int | None, now: float) -> None:
        """Limits a backend to fewer calls at once than it has slots, for now; None lifts it."""
        self.accounts.accrue(now)
        self.backends[name].most = most

    def set_paused(self, paused: bool, now: float) -> None:  # noqa: FBT001 - as set_up
        """Stops or resumes granting anywhere; running calls are left alone."""
        self.paused_since = now if paused else None

    def set_resident(self, name: str, models: Iterable[str], now: float) -> None:
        """Takes a fresh list of loaded models; calls that waited for a load that is listed run from now.

        A list may be a moment old: a model that is answering is loaded, listed or not.
        """
        backend = self.backends[name]
        leases = [lease for lease in self.accounts.leases if lease.backend is backend]
        answering = {lease.ticket.model for lease in leases if lease.t_start is not None}
        listed = frozenset(models)
        backend.list_resident(answering.union(listed), now)
        for lease in leases:
            lease.unlisted = lease.unlisted or lease.ticket.model not in listed
            if lease.swap and lease.ticket.model in backend.resident:
                self.started(lease, now)

    def is_resident(self, model: str) -> bool:
        """Whether any backend has the model loaded."""
        return self.board.is_resident(model)

    def knows_cost(self, model: str) -> bool:
        """Whether the cost of the model's calls has been seen, so that a forecast is more than a guess."""
        return self.costs.knows(model)

    @property
    def swap_pending(self) -> bool:
        """Whether a model is being loaded for a granted call."""
        return self.board.swap_pending

    # --- waiting ---------------------------------------------------------------------------------------

    @property
    def n_wait(self) -> int:
        """How many calls wait."""
        return self.accounts.n_wait

    def waiting(self, owner: str) -> int:
        """Returns how many calls of an owner wait, both classes together."""
        known = self.accounts.owners.get(owner)
        return known.n_wait if known else 0

    def add(self, ticket: Ticket, now: float) -> None:
        """Queues a ticket.

        Raises:
            ValueError: it was added before.
        """
        if ticket.state is not State.NEW:
            raise ValueError(f"ticket {ticket.id} is {ticket.state}")
        self._note(ticket, now)
        self._enqueue(ticket, now)

    def _note(self, ticket: Ticket, now: float) -> None:
        self._seq += 1
        ticket.seq = self._seq
        ticket.since = now
        self.habits.came(ticket, now)

    def _enqueue(self, ticket: Ticket, now: float) -> None:
        ticket.state = State.QUEUED
        self.accounts.enqueue(ticket, now, quantum=self.quantum_s)

    def cancel(self, ticket: Ticket, now: float) -> None:
        """Takes a waiting ticket out of the queue without a charge; does nothing in any other state."""
        if ticket.state is State.QUEUED:
            ticket.state = State.CANCELLED
            self.accounts.withdraw(ticket, now)

    def requeue(self, lease: Lease, now: float) -> None:
        """Gives a slot back, if it is still held, and puts its ticket before the younger ones of its flow.

        Idempotent.  What was used is charged; of a call that had not begun that is nothing.
        """
        if lease.ticket.lease is not lease:
            return
        self.finished(lease, now, ok=False)
        lease.ticket.lease = None
        self._enqueue(lease.ticket, now)

    def refuse_own(self, owner: str, service: Service, now: float) -> float:
        """Books a new try for a call turned away by its owner's limit; returns seconds until then."""
        flow = self.accounts.flow(owner, service)
        work_s = self._outlook().until_last_s(flow, now)
        return bookings.own(flow, work_s, self.costs.mean_s(), now)

    def refuse_any(self, now: float) -> float:
        """Books a new try for a call turned away because the queue is full; returns seconds until then."""
        slots = sum(each.slots for each in self.backends.values() if each.lane is Lane.GENERATE)
        self._booked = bookings.following(self._booked, self.costs.mean_s() / max(1, slots), now)
        return bookings.told_s(self._booked, now)

    # --- granting --------------------------------------------------------------------------------------

    @property
    def quantum_s(self) -> float:
        """Slot-seconds per turn and unit of weight."""
        return self.costs.quantum_s() if self.params.quantum is None else self.params.quantum

    def pick(self, now: float) -> Lease | None:
        """Grants one free slot, if anybody can use one.  Call it until it returns None."""
        if not self.accounts.n_wait or self.paused_since is not None:
            return None
        free = self.board.free()
        found = self.pick_any(now, free) if free else None
        return found[0].lease if found else None

    def pick_any(self, now: float, free: Sequence[Backend]) -> tuple[Ticket, Backend] | None:
        """Grants a slot of one of the given backends; the lease is then the ticket's.

        Args:
            now: monotonic seconds.
            free: backends that are up and have a free slot.
        """
        quantum = self.quantum_s
        choice = self.board.choose(now, free, quantum=quantum, stay=self._stay_s)
        if choice is not None:
            ticket, backend = choice
            est = self._estimate(ticket)
            self._granted(self.board.grant(ticket, backend, est=est, now=now, quantum=quantum))
        return choice

    def take_at_once(self, ticket: Ticket, now: float) -> Lease | None:
        """Grants a slot to a call that nobody stands before: ``add`` and ``pick`` in one step.

        Most calls of a team find a free slot; they need no place in a queue.

        Returns:
            None, and the ticket is as new, where anybody waits, a model has to be loaded, or the owner has
            calls running: then it is to be added.
        """
        way = self.board.open_way(ticket, now) if self.paused_since is None else None
        if way is None:
            return None
        self._note(ticket, now)
        est = self._estimate(ticket)
        return self._granted(self.board.grant_at_once(ticket, way, est=est, now=now, quantum=self.quantum_s))

    def _granted(self, lease: Lease) -> Lease:
        lease.ticket.lease = lease
        lease.ticket.state = State.GRANTED
        self.granted_total += 1
        return lease

    def _stay_s(self) -> float:
        return self.params.stay_s(self.costs.load_s())

    def _estimate(self, ticket: Ticket) -> float:
        return self.costs.estimate_s(ticket.owner, ticket.model, self.params.estimate_cap)

    # --- running ---------------------------------------------------------------------------------------

    def started(self, lease: Lease, now: float) -> None:
        """Begins useful service: charging runs from now.  Idempotent.

        The model answers, so it is resident from now on if it was not before.
        """
        if lease.released or lease.t_start is not None:
            return
        if lease.swap:
            self._note_load(lease, now)
        self.board.start(lease, now)
        lease.ticket.state = State.RUNNING

    def _note_load(self, lease: Lease, now: float) -> None:
        """Measures a load, once for all calls that waited for it."""
        backend = lease.backend
        since = backend.load_since if backend.lane is Lane.GENERATE else lease.t_grant
        backend.load_since = None
        if since is not None:
            lease.load_s = now - since
            self.habits.loaded(lease.ticket.model, lease.load_s)

    def loaded(self, lease: Lease, now: float) -> None:
        """Notes that a lease's model answers: all that was granted for it there runs from now."""
        if not self.accounts.unstarted:
            return
        for other in list(self.accounts.unstarted):
            if other.backend is lease.backend and other.ticket.model == lease.ticket.model:
                self.started(other, now)

    def finished(self, lease: Lease, now: float, *, used: float | None = None, ok: bool = True) -> None:
        """Releases a slot and charges what was used.  Idempotent: the only way a slot comes back.

        Args:
            lease: what to release.
            now: monotonic seconds.
            used: slot-seconds used; None for the time since ``started``, nothing if it never started.
            ok: whether the call ended normally, so that its cost teaches.
        """
        if lease.released:
            return
        used = lease.elapsed_s(now) if used is None else used
        self.board.end(lease, used, now)
        lease.ticket.state = State.DONE
        self.released_total += 1
        if lease.t_start is not None:
            self.habits.ended(lease.ticket, now)
            if ok:
                self.costs.learn(lease.ticket.owner, lease.ticket.model, used)
                self.habits.took(lease.ticket, used)

    # --- reading ---------------------------------------------------------------------------------------

    def forecast(self, ticket: Ticket, now: float) -> Forecast:
        """Returns where a waiting ticket stands; for any other ticket, the front."""
        if ticket.state is not State.QUEUED:
            return Forecast(position=0, eta_s=None)
        forecasts = self._play(now).forecasts(most=self.n_wait, until=ticket)
        return next(forecast for each, forecast in forecasts if each is ticket)

    def forecast_new(self, owner: str, service: Service, model: str, lane: Lane, now: float) -> Forecast:
        """Returns where a call would stand if it came now."""
        ticket = Ticket(id="", owner=owner, service=service, model=model, lane=lane)
        forecasts = self._play(now, ticket).forecasts(most=self.n_wait + 1, until=ticket)
        return next(forecast for each, forecast in forecasts if each is ticket)

    def _play(self, now: float, extra: Ticket | None = None) -> Play:
        usual = Usual(quantum=self.quantum_s, stay=self._stay_s, habits=self.habits, charge=self._estimate)
        return Play(self.board, usual, now, extra=extra, paused=self.paused_since is not None)

    def starts_in_s(self, owner: str, service: Service, model: str, lane: Lane, now: float) -> float | None:
        """Returns about when a call would start if it came now; rather too soon than too late, at no cost."""
        ticket = Ticket(id="", owner=owner, service=service, model=model, lane=lane)
        flow = self.accounts.flow(owner, service)
        return self._outlook().starts_in_s(ticket, flow, now)

    def _outlook(self) -> Outlook:
        return Outlook(
            self.accounts,
            self.backends,
            quantum=self.quantum_s,
            estimate=self._estimate,
            load_s=self.costs.load_s,
            paused=self.paused_since is not None,
        )

    def counts(self) -> QueueCounts:
        """Returns the figures of the queue, without the calls in it."""
        return views.counts(self.accounts, granted=self.granted_total, released=self.released_total)

    def snapshot(self, now: float) -> QueueView:
        """Returns an immutable picture of the queue, with times for the calls that are next."""
        shares = views.shares(self.accounts)
        loaded = (model for backend in self.backends.values() for model in backend.resident)
        return QueueView(
            now=now,
            running=views.running(self.accounts, self.habits, now),
            waiting=views.waiting(self._play(now), self.habits, loaded) if self.n_wait else (),
            shares=shares,
            backends=tuple(views.backend(each) for each in self.backends.values()),
            granted_total=self.granted_total,
            released_total=self.released_total,
            held=len(self.accounts.leases),
            paused_since=self.paused_since,
            jain=views.jain(shares),
        )

    def check(self) -> None:
        """Verifies every invariant that can be told at any instant.

        Raises:
            AssertionError: which one is broken.
        """
        invariants.check(self.accounts, self.backends, estimate_cap=self.params.estimate_cap)
