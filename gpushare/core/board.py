"""Who waits, and who runs where: the accounts and the backends, which change together.

Owns: one ``Accounts`` and its backends.
Called by: ``core.scheduler``, whose queue it is; ``core.forecast`` plays a copy of it forward.

Rules: a ticket is only read here, never changed, so that a copy may hold the same tickets.
"""

from collections.abc import Callable, Sequence

from gpushare.core.accounts import Accounts
from gpushare.core.backends import Backend
from gpushare.core.flows import Flow, Lease, Ticket
from gpushare.core.model import Lane
from gpushare.core.turns import Choice, Turn


class Board:
    """One state of the queue and of all slots."""

    def __init__(self) -> None:
        self.accounts = Accounts()
        self.backends: dict[str, Backend] = {}

    def copy(self) -> "Board":
        """Returns a board that can be played on; the tickets on it are the same."""
        twin = Board()
        twin.backends = {name: backend.copy() for name, backend in self.backends.items()}
        twin.accounts = self.accounts.copy(twin.backends)
        return twin

    def free(self) -> list[Backend]:
        """Returns the backends that have a free slot."""
        return [backend for backend in self.backends.values() if backend.free]

    @property
    def swap_pending(self) -> bool:
        """Whether a model is being loaded for a granted call."""
        return [each.incoming for each in self.backends.values()].count(None) < len(self.backends)

    def is_resident(self, model: str) -> bool:
        """Whether any backend has the model loaded."""
        return any(model in backend.resident for backend in self.backends.values())

    def choose(
        self, now: float, free: Sequence[Backend], *, quantum: float, stay: Callable[[], float]
    ) -> Choice | None:
        """Returns who gets a slot of one of the given backends; see ``Turn`` for the arguments."""
        if self.swap_pending:  # the load needs the memory that an embedding might take
            free = [backend for backend in free if backend.lane is Lane.GENERATE]
        turn = Turn(accounts=self.accounts, free=free, now=now, quantum=quantum, stay=stay)
        return turn.choose()

    def grant(self, ticket: Ticket, backend: Backend, *, est: float, now: float, quantum: float) -> Lease:
        """Takes a slot and charges the estimate."""
        embeds = backend.lane is Lane.EMBED  # shares the memory of the other backends
        resident = self.is_resident(ticket.model) if embeds else ticket.model in backend.resident
        flow = self.accounts.flow(ticket.owner, ticket.service)
        lease = _lease(ticket, flow, backend, est=est, now=now, resident=resident)
        self.accounts.open_lease(lease)
        self.accounts.rings[ticket.service].granted(flow, quantum)
        flow.note_grant(now)
        self._note_load(backend, now)
        return lease

    def open_way(self, ticket: Ticket, now: float) -> tuple[Flow, Backend] | None:
        """Returns the way of a call that nobody stands before to a slot with its model, if there is one."""
        able = None
        for backend in self.backends.values():
            if backend.incoming is not None:
                return None
            if backend.lane is ticket.lane and ticket.model in backend.resident:
                if able is not None:
                    return None
                able = backend
        if able is None or not able.free or not able.admits(ticket.want):
            return None
        flow = self.accounts.idle_flow(ticket.owner, ticket.service, now)
        return None if flow is None else (flow, able)

    def grant_at_once(
        self, ticket: Ticket, way: tuple[Flow, Backend], *, est: float, now: float, quantum: float
    ) -> Lease:
        """Takes a slot for a ticket that never waited, along an open way."""
        flow, backend = way
        lease = _lease(ticket, flow, backend, est=est, now=now, resident=True)
        self.accounts.pass_through(lease, quantum)
        flow.note_grant(now)
        return lease

    def start(self, lease: Lease, now: float) -> None:
        """Begins useful service; the model answers, so it is resident."""
        self.accounts.start_lease(lease, now)
        lease.backend.became_resident(lease.ticket.model, now)

    def end(self, lease: Lease, used: float, now: float) -> None:
        """Gives a slot back and settles what it cost."""
        lease.released = True
        lease.backend.busy -= 1
        self.accounts.close_lease(lease, used, now)
        self._give_up_swap(lease)
        self._note_load(lease.backend, now)

    def _note_load(self, backend: Backend, now: float) -> None:
        """Notes when a load can begin: once no call of the model that goes is left there."""
        if backend.incoming is not None and backend.load_since is None:
            unstarted = sum(lease.backend is backend for lease in self.accounts.unstarted)
            backend.load_since = now if unstarted == backend.busy else None

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


def _lease(ticket: Ticket, flow: Flow, backend: Backend, *, est: float, now: float, resident: bool) -> Lease:
    """Takes a slot."""
    backend.take(ticket.model, resident=resident)
    return Lease(
        ticket=ticket, flow=flow, backend=backend, est=est, charged=est, t_grant=now, swap=not resident
    )
