"""When a waiting call will start, and in which order they will: the queue played forward.

Owns: one copy of the board, for one look.  Called by: ``core.scheduler``.

Rules:
- An estimate is "about"; it cannot know who will come or leave.
- The copy is moved on by the code that moves the queue itself, so weights, debts, caps, lanes and swaps put
  off are foreseen without a second account of them.
- What nobody can know is taken from ``core.habits``: calls take their usual time, a running one the usual
  rest of those that ran as long, a load its usual time; who usually sends the next call at once does so.
- A time that rests on a guess is not told.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from gpushare.core.backends import Backend
from gpushare.core.board import Board
from gpushare.core.flows import Lease, State, Ticket
from gpushare.core.habits import Habits
from gpushare.core.model import Lane

LONGEST_S = 600.0  # a call that starts later is told this: "more than 10 min"
RETURNS_MOST = 20  # calls that are expected to come: each costs as much as one that waits
_RETURNING = 1 << 60  # their ``seq``, above that of every call that waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Where a call stands: calls served before it, and seconds until it starts (None: cannot be known).

    ``loads``: its start needs a load, whatever is loaded now; None where the play did not come so far.
    """

    position: int
    eta_s: float | None
    loads: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """What the queue is played with.

    Attributes:
        quantum: slot-seconds per turn and unit of weight.
        stay: returns how many seconds a model keeps the GPU after its load.
        habits: lengths, returns and loads.
        charge: what is charged for a ticket in advance.
    """

    quantum: float
    stay: Callable[[], float]
    habits: Habits
    charge: Callable[[Ticket], float]


class Play:
    """One moment of the queue, played forward.

    Args:
        board: copied, never changed.
        usual: see there.
        now: monotonic seconds.
        extra: a ticket that is treated as if it had just been added.
        paused: nothing starts, so no time can be told; the order can.
    """

    def __init__(
        self, board: Board, usual: Usual, now: float, *, extra: Ticket | None = None, paused: bool = False
    ) -> None:
        self._board = board.copy()
        self._usual = usual
        self._began = self._t = now
        self._sure = True  # nothing that happened so far rests on a guess
        self._events: list[tuple[float, int, bool, Callable[[], None]]] = []
        self._numbers = count()
        self._loading: set[str] = set()
        self._returns = 0
        self._order: list[Ticket] = []
        self._granted: set[Ticket] = set()
        self._starts: dict[Ticket, float | None] = {}
        self._loads: dict[Ticket, bool] = {}
        self._closed = {lane for lane in Lane if paused or self._is_closed(lane)}
        if extra is not None:
            extra.seq = _RETURNING - 1
            self._add(extra)
        self._left = self._board.accounts.n_wait
        for lease in list(self._board.accounts.leases):
            self._resume(lease)

    def forecasts(self, *, most: int, until: Ticket | None = None) -> Iterator[tuple[Ticket, Forecast]]:
        """Yields the waiting tickets with their forecasts, each lane in the order of service.

        Args:
            most: so many are played; the others follow by age, without a time.
            until: the play ends once this one has started.
        """
        self._play(most, until)
        self._part()
        knows, late = self._usual.habits.knows, self._t > self._began + LONGEST_S and self._sure
        for lane in Lane:
            first = [ticket for ticket in self._order if ticket.lane is lane]
            rest = [each for each in self._board.accounts.waiting(lane) if each.seq < _RETURNING]
            for position, ticket in enumerate(first + rest):
                start = self._starts.get(ticket)
                if start is None and late and ticket not in self._starts and knows(ticket.model):
                    start = self._began + LONGEST_S
                eta = None if start is None or lane in self._closed else start - self._began
                yield ticket, Forecast(position=position, eta_s=eta, loads=self._loads.get(ticket))

    def _part(self) -> None:
        """Parts what holds each other, so that nothing of this play is left to the collector."""
        self._events.clear()
        for lease in self._board.accounts.leases:
            lease.flow.leases.clear()

    def _is_closed(self, lane: Lane) -> bool:
        """Opens a lane in which nothing can start, because the order can be told all the same."""
        backends = [each for each in self._board.backends.values() if each.lane is lane]
        closed = not any(each.up for each in backends)
        for backend in backends if closed else ():
            backend.up = True
        return closed

    # --- what happens ----------------------------------------------------------------------------------

    def _play(self, most: int, until: Ticket | None) -> None:
        """Plays until all that can be said is known."""
        self._grant()
        while self._events and until not in self._starts:
            if not self._granted and (not self._left or len(self._order) >= most):
                return
            self._t, _, sure, happen = heapq.heappop(self._events)
            if self._t > self._began + LONGEST_S:
                return
            self._sure = self._sure and sure
            happen()
            self._grant()

    def _at(self, t: float, happen: Callable[[], None], *, sure: bool) -> None:
        heapq.heappush(self._events, (t, next(self._numbers), sure, happen))

    def _grant(self) -> None:
        """Gives free slots away."""
        board, usual = self._board, self._usual
        while board.accounts.n_wait and (free := board.free()):
            choice = board.choose(self._t, free, quantum=usual.quantum, stay=usual.stay)
            if choice is None:
                return
            ticket, backend = choice
            est = usual.charge(ticket)
            lease = board.grant(ticket, backend, est=est, now=self._t, quantum=usual.quantum)
            if ticket.seq < _RETURNING:
                self._order.append(ticket)
                self._granted.add(ticket)
                self._loads[ticket] = lease.swap
                self._left -= 1
            self._begin(lease)

    def _begin(self, lease: Lease) -> None:
        """Starts a call that has a slot, or loads its model first."""
        model = lease.ticket.model
        if not lease.swap:
            self._start(lease)
        elif lease.backend.incoming == model:
            self._look_at_load(lease.backend)
        else:  # beside the others, in the lane of embeddings
            left_s = self._usual.habits.load_left_s(model, self._t - lease.t_grant)
            self._at(self._t + left_s, lambda: self._start(lease), sure=self._knows_load(model))

    def _look_at_load(self, backend: Backend) -> None:
        """Foresees the end of a load once it has begun."""
        model, since = backend.incoming, backend.load_since
        if model is not None and since is not None and backend.name not in self._loading:
            self._loading.add(backend.name)
            left_s = self._usual.habits.load_left_s(model, self._t - since)
            self._at(self._t + left_s, lambda: self._loaded(backend), sure=self._knows_load(model))

    def _loaded(self, backend: Backend) -> None:
        """Starts all calls that waited for a load."""
        self._loading.remove(backend.name)
        model = backend.incoming
        for lease in list(self._board.accounts.unstarted):
            if lease.backend is backend and lease.ticket.model == model:
                self._start(lease)

    def _start(self, lease: Lease) -> None:
        ticket, habits = lease.ticket, self._usual.habits
        self._board.start(lease, self._t)
        known = habits.knows(ticket.model)
        if ticket in self._granted:
            self._granted.remove(ticket)
            told = self._t == self._began or (known and self._sure)
            self._starts[ticket] = self._t if told else None
        self._at(self._t + habits.length_s(ticket), lambda: self._end(lease), sure=known)

    def _resume(self, lease: Lease) -> None:
        """Goes on with a call that has a slot at the beginning."""
        if lease.t_start is None:
            self._begin(lease)
        else:
            habits, ticket = self._usual.habits, lease.ticket
            left_s = habits.left_s(ticket, lease.elapsed_s(self._t))
            self._at(self._t + left_s, lambda: self._end(lease), sure=habits.knows(ticket.model))

    def _end(self, lease: Lease) -> None:
        """Ends a call; its owner may be back soon."""
        self._board.end(lease, lease.elapsed_s(self._t), self._t)
        self._look_at_load(lease.backend)
        after_s = self._usual.habits.back_after_s(lease.ticket)
        if after_s is not None and self._returns < RETURNS_MOST:
            self._returns += 1
            self._at(self._t + after_s, lambda: self._come(lease.ticket), sure=True)

    def _come(self, like: Ticket) -> None:
        """Queues a call like one that has ended."""
        ticket = Ticket(id="", owner=like.owner, service=like.service, model=like.model, lane=like.lane)
        ticket.seq = _RETURNING + self._returns
        self._add(ticket)

    def _add(self, ticket: Ticket) -> None:
        ticket.state = State.QUEUED
        self._board.accounts.enqueue(ticket, self._t, quantum=self._usual.quantum)

    def _knows_load(self, model: str) -> bool:
        return self._usual.habits.knows_load(model)
