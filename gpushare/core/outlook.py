"""About when a call would start that is not queued yet, at the same small cost however long the queue is.

Owns: nothing; it reads the accounts.  Called by: ``core.scheduler``, for every admission and refusal.

Rules: ``core.forecast``, which tells people a time, plays the whole queue forward; here a closed formula with
the mean costs has to do.  Before a call that its flow reaches once everybody has had ``need`` for each unit
of weight, each other flow has had what its balance and ``need`` allow, or all it waits for.  A bounded number
of flows and running calls is looked at, so in a longer queue the time is too short, never too long for that.
"""

from collections.abc import Callable, Mapping
from itertools import islice

from gpushare.core.accounts import Accounts
from gpushare.core.backends import Backend
from gpushare.core.flows import Flow, Ticket, Where
from gpushare.core.model import Lane

Estimate = Callable[[Ticket], float]

LOOKED_AT = 32  # flows and running calls: keeps an admission constant-time


class Outlook:
    """One moment of the queue.

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
        return sum(each.slots for each in backends if each.up)

    def _running_s(self, lane: Lane, now: float) -> float:
        """Returns about the service that running calls of a lane still need, by those that run longest."""
        some = list(islice(self._accounts.leases, LOOKED_AT))
        left = sum(lease.remaining_s(now) for lease in some if lease.backend.lane is lane)
        return left * len(self._accounts.leases) / len(some) if some else 0.0


def _by_gap(flow: Flow | None, ahead: int, now: float) -> float | None:
    """Returns the time by Little's law: so many grants of this flow, at the pace it has been getting them."""
    if not ahead or flow is None or flow.gap_s is None or flow.last_grant is None:
        return None
    return (ahead + 1) * flow.gap_s - min(flow.gap_s, now - flow.last_grant)
