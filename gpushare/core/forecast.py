"""When a waiting call will start, and in which order they will.

Owns: nothing; it reads the accounts.  Called by: ``core.scheduler``.

Rules: an estimate is "about"; it cannot know who will come or leave.  The order is found by playing the ring
forward on copies of the balances with estimated costs, without affinity and caps, so it is the order the
queue would serve if nothing else happened.

That costs as much as the queue is long.  What every admission asks is answered by a closed formula instead:
before a call that its flow reaches once everybody has had ``need`` for each unit of weight, each other flow
has had what its balance and ``need`` allow, or all it waits for.  It looks at a bounded number of flows and
running calls, so in a longer queue it tells a time that is too short, never one that is too long for that.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from gpushare.core.accounts import Accounts
from gpushare.core.backends import Backend
from gpushare.core.flows import Flow, Ring, Ticket, Where
from gpushare.core.model import Lane, Service

Estimate = Callable[[Ticket], float]

LOOKED_AT = 32  # flows and running calls: keeps an admission constant-time


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Where a call stands: calls served before it, and seconds until it starts (None: cannot be known)."""

    position: int
    eta_s: float | None


@dataclass(slots=True)
class _Line:
    """A copy of a flow that can be played forward; its tickets are fetched when its turn comes."""

    deficit: float
    credit: float
    fetch: Callable[[], deque[Ticket]]
    tickets: deque[Ticket] | None = None

    def pop(self) -> Ticket:
        """Takes the oldest ticket out."""
        if self.tickets is None:
            self.tickets = self.fetch()
        return self.tickets.popleft()


class Outlook:
    """One moment of the queue, played forward.

    Args:
        accounts: read, never changed.
        backends: read, never changed.
        quantum: slot-seconds per turn and unit of weight.
        estimate: the expected cost of a ticket.
        load_s: the expected load time of a model.
        paused: nothing starts, so no time can be told.
    """

    def __init__(
        self,
        accounts: Accounts,
        backends: Mapping[str, Backend],
        *,
        quantum: float,
        estimate: Estimate,
        load_s: Callable[[str], float],
        paused: bool,
    ) -> None:
        self._accounts = accounts
        self._backends = backends
        self._quantum = quantum
        self._estimate = estimate
        self._load_s = load_s
        self._paused = paused

    def forecasts(
        self, lane: Lane, now: float, extra: Ticket | None = None
    ) -> Iterator[tuple[Ticket, Forecast]]:
        """Yields the waiting tickets of a lane in the order of service, with their forecasts.

        ``extra`` is treated as if it had just been added.
        """
        backends = [each for each in self._backends.values() if each.lane is lane and each.up]
        slots = 0 if self._paused else sum(each.slots for each in backends if not each.draining)
        left = self._left_s(lane, now)
        has_free = any(each.free for each in backends)
        work = 0.0
        before: dict[tuple[str, Service], int] = {}
        for position, ticket in enumerate(self._order(lane, extra)):
            key = ticket.owner, ticket.service
            ahead = before.get(key, 0)
            before[key] = ahead + 1
            eta: float | None = None
            if slots:
                eta = _by_gap(self._accounts.flows.get(key), ahead, now)
                if eta is None and not position:
                    eta = 0.0 if has_free else min(left, default=0.0)
                elif eta is None:
                    eta = (work + sum(left)) / slots
                if not any(ticket.model in each.resident for each in backends):
                    eta += self._load_s(ticket.model)
            yield ticket, Forecast(position=position, eta_s=eta)
            work += self._estimate(ticket)

    def starts_in_s(self, ticket: Ticket, flow: Flow, now: float) -> float | None:
        """Returns about when a ticket that is not queued would start as the last of its flow."""
        slots = 0 if self._paused else self._slots(ticket.lane)
        if not slots:
            return None
        calls, own_s = self._asked(flow, ticket.lane)
        eta = _by_gap(flow, calls, now)
        if eta is None:
            work = self._work_before_s(flow, ticket.lane, own_s)
            free = any(each.free for each in self._backends.values() if each.lane is ticket.lane)
            running_s = 0.0 if free and not work else self._running_s(ticket.lane, now)
            eta = (work + running_s) / slots
        resident = any(ticket.model in each.resident for each in self._backends.values())
        return eta if resident else eta + self._load_s(ticket.model)

    def until_last_s(self, flow: Flow, now: float) -> float:
        """Returns about how long the work takes that is before the youngest call of a flow."""
        calls, own_s = self._asked(flow, Lane.GENERATE)
        work = self._work_before_s(flow, Lane.GENERATE, own_s * (1 - 1 / calls)) if calls else 0.0
        return (work + self._running_s(Lane.GENERATE, now)) / max(1, self._slots(Lane.GENERATE))

    def _work_before_s(self, flow: Flow, lane: Lane, own_s: float) -> float:
        """Returns the work that is served before a call that has ``own_s`` of its own flow before it."""
        accounts, service = self._accounts, flow.service
        inside = flow.where is not Where.NONE
        balance = flow.deficit if inside else self._quantum * flow.weight
        need = max(0.0, own_s - balance) / flow.weight
        work = own_s
        for other in islice(accounts.rings[service], LOOKED_AT):
            if not need and (other is flow or (other.where is Where.OLD and flow.where is not Where.OLD)):
                break
            if other is not flow:
                work += self._turn_s(other, lane, need)
        mine = accounts.virtual[service] if inside else accounts.woken(service)
        mine += work / accounts.class_weight[service]
        for beside, ring in accounts.rings.items():
            if beside is not service and ring.n_wait:
                turn = (mine - accounts.virtual[beside]) * accounts.class_weight[beside]
                asked = sum(self._asked(other, lane)[1] for other in islice(ring, LOOKED_AT))
                work += max(0.0, min(turn, asked))
        return work

    def _turn_s(self, flow: Flow, lane: Lane, need: float) -> float:
        """Returns what a flow is served while everybody gets ``need`` for each unit of weight."""
        turn = flow.deficit + need * flow.weight
        calls, asked_s = self._asked(flow, lane) if turn > 0 else (0, 0.0)
        return min(asked_s, turn + asked_s / calls / 2) if calls else 0.0

    def _asked(self, flow: Flow, lane: Lane) -> tuple[int, float]:
        """Returns how many calls of a flow wait for a lane, and about their work."""
        calls, asked = 0, 0.0
        for queue in (queue for want, queue in flow.queues.items() if want.lane is lane):
            calls += len(queue)
            asked += len(queue) * self._estimate(queue[0])
        alive = min(calls, flow.n_wait)  # a queue may hold some that were cancelled
        return alive, asked * alive / calls if calls else 0.0

    def _slots(self, lane: Lane) -> int:
        backends = [each for each in self._backends.values() if each.lane is lane]
        return sum(each.slots for each in backends if each.up and not each.draining)

    def _running_s(self, lane: Lane, now: float) -> float:
        """Returns about the service that running calls of a lane still need, by those that run longest."""
        some = list(islice(self._accounts.leases, LOOKED_AT))
        left = sum(lease.remaining_s(now) for lease in some if lease.backend.lane is lane)
        return left * len(self._accounts.leases) / len(some) if some else 0.0

    def _left_s(self, lane: Lane, now: float) -> list[float]:
        """Returns the service that running calls of a lane probably still need."""
        return [lease.remaining_s(now) for lease in self._accounts.leases if lease.backend.lane is lane]

    def _order(self, lane: Lane, extra: Ticket | None) -> Iterator[Ticket]:
        """Yields tickets of all classes, each class by its virtual time."""
        accounts = self._accounts
        virtual = dict(accounts.virtual)
        if extra:
            virtual[extra.service] = accounts.woken(extra.service)
        turns = {service: self._turns(ring, lane, service, extra) for service, ring in accounts.rings.items()}
        heads = {service: head for service in turns if (head := next(turns[service], None))}
        while heads:
            service = min(heads, key=virtual.__getitem__)
            ticket = heads[service]
            yield ticket
            virtual[service] += self._estimate(ticket) / accounts.class_weight[service]
            following = next(turns[service], None)
            if following is None:
                del heads[service]
            else:
                heads[service] = following

    def _turns(self, ring: Ring, lane: Lane, service: Service, extra: Ticket | None) -> Iterator[Ticket]:
        """Yields the tickets of one class in the order of the ring."""
        new, old = self._lines(ring, lane, extra if extra and extra.service is service else None)
        visits = 0
        while new or old:
            if visits > 2 * (len(new) + len(old)):
                _jump_laps([*new, *old])
                visits = 0
            visits += 1
            lines = new or old
            line = lines[0]
            if line.deficit <= 0:
                line.deficit += line.credit
                old.append(lines.popleft())
                continue
            visits = 0
            ticket = line.pop()
            line.deficit -= self._estimate(ticket)
            if not line.tickets:
                lines.popleft()
            elif lines is new and line.deficit > 0:
                new.rotate(-1)
            yield ticket

    def _lines(self, ring: Ring, lane: Lane, extra: Ticket | None) -> tuple[deque[_Line], deque[_Line]]:
        """Returns copies of NEW and OLD, of the flows that wait for the lane."""
        mine = self._accounts.flows.get((extra.owner, extra.service)) if extra else None
        new, old = (
            deque(
                self._line(flow, lane, extra if flow is mine else None)
                for flow in flows
                if flow.asks_for(lane) or (extra and flow is mine)
            )
            for flows in (ring.new, ring.old)
        )
        if extra and (mine is None or mine not in ring):
            weight = (
                self._accounts.owners[extra.owner].weight if extra.owner in self._accounts.owners else 1.0
            )
            new.append(_Line(self._quantum * weight, self._quantum * weight, lambda: deque((extra,))))
        return new, old

    def _line(self, flow: Flow, lane: Lane, extra: Ticket | None) -> _Line:
        last = (extra,) if extra else ()
        return _Line(flow.deficit, self._quantum * flow.weight, lambda: deque((*flow.waiting(lane), *last)))


def _by_gap(flow: Flow | None, ahead: int, now: float) -> float | None:
    """Returns the time by Little's law: so many grants of this flow, at the pace it has been getting them."""
    if not ahead or flow is None or flow.gap_s is None or flow.last_grant is None:
        return None
    return (ahead + 1) * flow.gap_s - min(flow.gap_s, now - flow.last_grant)


def _jump_laps(lines: list[_Line]) -> None:
    """Gives everybody the laps that bring the first line to its turn: deep debt costs no time."""
    count = min(math.floor(-line.deficit / line.credit) for line in lines)
    for line in lines:
        line.deficit += max(0, count) * line.credit
