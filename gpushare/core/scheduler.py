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
from gpushare.core.accounts import Accounts
from gpushare.core.backends import Backend
from gpushare.core.costs import Costs
from gpushare.core.flows import Lease, State, Ticket
from gpushare.core.forecast import Forecast, Outlook
from gpushare.core.model import Lane, Service
from gpushare.core.params import Params
from gpushare.core.turns import Turn
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
        self.backends: dict[str, Backend] = {}
        self.accounts = Accounts()
        self.costs = Costs()
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
        """Notes whether a backend answers; nothing is granted on one that does not."""
        self.accounts.accrue(now)
        self.backends[name].up = up

    def set_draining(self, name: str, draining: bool, now: float) -> None:  # noqa: FBT001 - as set_up
        """Stops or resumes granting on a backend; running calls are left alone."""
        self.accounts.accrue(now)
        self.backends[name].draining = draining

    def set_installed(self, name: str, models: frozenset[str] | None) -> None:
        """Takes the models a backend can load; None means any."""
        self.backends[name].installed = models

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
        backend.list_resident(answering.union(models), now)
        for lease in leases:
            if lease.swap and lease.ticket.model in backend.resident:
                self.started(lease, now)

    def is_resident(self, model: str) -> bool:
        """Whether any backend has the model loaded."""
        return any(model in backend.resident for backend in self.backends.values())

    def knows_cost(self, model: str) -> bool:
        """Whether the cost of the model's calls has been seen, so that a forecast is more than a guess."""
        return self.costs.knows(model)

    @property
    def swap_pending(self) -> bool:
        """Whether a model is being loaded for a granted call."""
        return [each.incoming for each in self.backends.values()].count(None) < len(self.backends)

    def learn_load(self, model: str, seconds: float) -> None:
        """Takes the measured load time of a model."""
        self.costs.learn_load(model, seconds)

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
        self._seq += 1
        ticket.seq = self._seq
        ticket.since = now
        self._enqueue(ticket, now)

    def _enqueue(self, ticket: Ticket, now: float) -> None:
        ticket.state = State.QUEUED
        self.accounts.enqueue(ticket, now, quantum=self.quantum_s)

    def cancel(self, ticket: Ticket, now: float) -> None:
        """Takes a waiting ticket out of the queue without a charge; does nothing in any other state."""
        if ticket.state is State.QUEUED:
            ticket.state = State.CANCELLED
            self.accounts.withdraw(ticket, now)

    def requeue(self, lease: Lease, now: float) -> None:
        """Gives a slot back unused and puts its ticket before the younger ones of its flow.

        Raises:
            ValueError: the call has begun, so the slot was used and the cost is the caller's.
        """
        if not lease.released:
            if lease.t_start is not None:
                raise ValueError(f"the call of ticket {lease.ticket.id} has begun")
            self.finished(lease, now, used=0.0, ok=False)
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
        free = [each for each in self.backends.values() if each.free]
        found = self.pick_any(now, free) if free else None
        return found[0].lease if found else None

    def pick_any(self, now: float, free: Sequence[Backend]) -> tuple[Ticket, Backend] | None:
        """Grants a slot of one of the given backends; the lease is then the ticket's.

        Args:
            now: monotonic seconds.
            free: backends that are up, not draining, and have a free slot.
        """
        if self.swap_pending:  # the load needs the memory that an embedding might take
            free = [backend for backend in free if backend.lane is Lane.GENERATE]
        quantum = self.quantum_s
        turn = Turn(accounts=self.accounts, free=free, now=now, quantum=quantum, stay=self._stay_s)
        choice = turn.choose()
        if choice is not None:
            self._grant(*choice, now=now, quantum=quantum)
        return choice

    def _grant(self, ticket: Ticket, backend: Backend, *, now: float, quantum: float) -> None:
        flow = self.accounts.flow(ticket.owner, ticket.service)
        est = self._estimate(ticket)
        embeds = backend.lane is Lane.EMBED  # shares the memory of the other backends
        resident = self.is_resident(ticket.model) if embeds else ticket.model in backend.resident
        lease = Lease(
            ticket=ticket, flow=flow, backend=backend, est=est, charged=est, t_grant=now, swap=not resident
        )
        ticket.lease = lease
        ticket.state = State.GRANTED
        backend.take(ticket.model, resident=resident)
        self.accounts.open_lease(lease)
        self.accounts.rings[ticket.service].granted(flow, quantum)
        flow.note_grant(now)
        self.granted_total += 1

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
        self.accounts.start_lease(lease, now)
        lease.ticket.state = State.RUNNING
        lease.backend.became_resident(lease.ticket.model, now)

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
        lease.released = True
        lease.ticket.state = State.DONE
        lease.backend.busy -= 1
        self.accounts.close_lease(lease, used, now)
        self.released_total += 1
        if ok and lease.t_start is not None:
            self.costs.learn(lease.ticket.owner, lease.ticket.model, used)
        self._give_up_swap(lease)

    def _give_up_swap(self, lease: Lease) -> None:
        """Takes the barrier away when the last call that waited for its model has gone before the load."""
        backend, model = lease.backend, lease.ticket.model
        if backend.incoming != model:
            return
        waiting_for_load = (
            other.ticket.model for other in self.accounts.unstarted if other.backend is backend
        )
        if model not in waiting_for_load:
            backend.incoming = None

    # --- reading ---------------------------------------------------------------------------------------

    def forecast(self, ticket: Ticket, now: float) -> Forecast:
        """Returns where a waiting ticket stands; for any other ticket, the front."""
        forecasts = self._outlook().forecasts(ticket.lane, now)
        nowhere = Forecast(position=0, eta_s=None)
        return next((forecast for each, forecast in forecasts if each is ticket), nowhere)

    def forecast_new(self, owner: str, service: Service, model: str, lane: Lane, now: float) -> Forecast:
        """Returns where a call would stand if it came now."""
        ticket = Ticket(id="", owner=owner, service=service, model=model, lane=lane)
        forecasts = self._outlook().forecasts(lane, now, extra=ticket)
        return next(forecast for each, forecast in forecasts if each is ticket)

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
        shares = views.shares(self.accounts)
        return QueueCounts(
            waiting=self.n_wait,
            held=len(self.accounts.leases),
            granted_total=self.granted_total,
            released_total=self.released_total,
            shares=shares,
            jain=views.jain(shares),
        )

    def snapshot(self, now: float) -> QueueView:
        """Returns an immutable picture of the queue, with times for the calls that are next."""
        shares = views.shares(self.accounts)
        loaded = (model for backend in self.backends.values() for model in backend.resident)
        return QueueView(
            now=now,
            running=views.running(self.accounts, now),
            waiting=views.waiting(self.accounts, self._outlook(), loaded, now),
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
