"""Whose turn it is on the free backends: the fair order, bent by what is loaded.

Owns: nothing; it changes only what passing through the ring changes.  Called by: ``core.scheduler``.

Rules:
- A swap is put off, never refused: at most until the resident model has had its time.
- Going before others is bounded by the overdraft, and is charged like any other call.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct

from gpushare.core.accounts import Accounts
from gpushare.core.backends import Backend, Want
from gpushare.core.flows import Ring, Ticket

Choice = tuple[Ticket, Backend]


class Turn(Struct, kw_only=True):
    """One decision.

    Attributes:
        free: backends that are up and have a free slot.
        quantum: slot-seconds per turn and unit of weight; fixed during one decision.
        stay: returns X, how many seconds a model keeps the GPU after its load while others wait for another.
    """

    accounts: Accounts
    free: Sequence[Backend]
    now: float
    quantum: float
    stay: Callable[[], float]

    def choose(self) -> Choice | None:
        """Returns the next ticket and its backend, or None when no free backend can serve anybody."""
        free = self.free
        wants = {
            want
            for want in self.accounts.wanted
            for backend in free
            if want.lane is backend.lane and backend.admits(want)
        }
        if not wants:
            return None
        self.accounts.accrue(self.now)
        all_swap = None not in [backend.incoming for backend in free]
        for ring in self.accounts.rings_in_order():
            choice = self._behind_barrier(ring) if all_swap else self._in_order(ring, wants)
            if choice is not None:
                return choice
        return None

    def _in_order(self, ring: Ring, wants: set[Want]) -> Choice | None:
        """Returns the next ticket in fair order, or one for a resident model instead of a swap."""
        flow = ring.head(wants, self.quantum)
        if flow is not None and wants.isdisjoint(flow.queues):
            flow = ring.scan_past(wants, self.quantum)
        ticket = flow.oldest(wants) if flow else None
        if ticket is None:
            return None
        backend = self._place(ticket.want)
        instead = self._bypass(ring, backend) if backend.evicts(ticket.model) else None
        return instead or ticket, backend

    def _place(self, want: Want) -> Backend:
        """Returns the best backend for a call that some free backend admits."""
        usable = [backend for backend in self.free if backend.lane is want.lane and backend.admits(want)]
        if len(usable) == 1:
            return usable[0]
        return min(usable, key=lambda backend: backend.rank(want.model, self.accounts.wanted))

    def _bypass(self, ring: Ring, backend: Backend) -> Ticket | None:
        """Returns a ticket for a model that is loaded and has not had its time.

        The time runs from the load, not from the moment somebody is passed over: a call for a rare model is
        honoured at once when the resident model already had its time.
        """
        stay_s = self.stay()
        for model, since in backend.resident.items():
            if self.now - since < stay_s:
                ticket = self._out_of_turn(ring, backend, model)
                if ticket is not None:
                    return ticket
        return None

    def _behind_barrier(self, ring: Ring) -> Choice | None:
        """Returns a ticket for a model that is just being loaded."""
        for backend in self.free:
            ticket = self._out_of_turn(ring, backend, backend.incoming) if backend.incoming else None
            if ticket is not None:
                return ticket, backend
        return None

    def _out_of_turn(self, ring: Ring, backend: Backend, model: str) -> Ticket | None:
        """Returns a ticket for a model, from a flow at most 2 X overdrawn per slot and unit of weight."""
        return ring.overdrawn(Want(backend.lane, model), 2 * self.stay() * backend.slots)
