"""The picture of the queue that pages, metrics and logs read.

Owns: nothing.  Called by: ``core.scheduler``.  Rules: a picture is immutable and holds no scheduler object,
so it may be kept and handed to any layer; it may be a moment old.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby

from gpushare.core.accounts import Accounts
from gpushare.core.backends import Backend
from gpushare.core.flows import Ticket
from gpushare.core.forecast import Forecast, Play
from gpushare.core.habits import Habits
from gpushare.core.model import Lane, Service
from gpushare.core.told import Told

FORECAST_MOST = 200  # calls that are told a time: nobody reads more, and each costs


class Delay(StrEnum):
    """What can make an estimate grow."""

    IN_FRONT = "in-front"
    LOAD = "load"
    LONGER = "longer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a call starts later than was told first.

    ``owner`` is whose call it is because of, empty for a load; ``used_less``: it comes first by its turn, not
    by its class.
    """

    delay: Delay
    owner: str = ""
    used_less: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningView:
    """A call that holds a slot.

    ``started_s`` is seconds since the grant, ``ran_s`` since its model was there; ``swap``: it still loads.
    ``usual_s`` is how long such calls run, ``load_s`` how long its model loads; None while that is not known.
    """

    id: str
    owner: str
    service: Service
    model: str
    backend: str
    started_s: float
    swap: bool
    lane: Lane = Lane.GENERATE
    ran_s: float = 0.0
    usual_s: float | None = None
    load_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingView:
    """A call in the queue.  ``since`` is on the scheduler's clock; ``position`` counts from 1.

    ``swap``: its model is not loaded now; ``loads``: it is foreseen not to be when the call's turn comes, so
    the call itself waits for a load.  ``usual_s`` is how long such calls run, ``load_s`` how long its model
    loads, None while that is not known.  ``reason``: why it starts later than was told first.
    """

    id: str
    owner: str
    service: Service
    model: str
    since: float
    position: int
    eta_s: float | None
    swap: bool
    loads: bool = False
    lane: Lane = Lane.GENERATE
    usual_s: float | None = None
    load_s: float | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareView:
    """What one owner got and what sharing by weight owed it, in slot-seconds of calls that ended.

    ``deficit_s`` is the balance now: credit above 0, debt below; ``max_running`` 0 is no limit.
    """

    owner: str
    weight: float
    used_s: float
    due_s: float
    deficit_s: float
    waiting: int
    running: int
    max_running: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendView:
    """One set of slots."""

    name: str
    lane: Lane
    slots: int
    busy: int
    up: bool
    resident: tuple[str, ...]
    incoming: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """An immutable picture of the queue at ``now`` (the scheduler's clock).

    ``waiting`` is in the order of service for the calls that are next, then by age.  ``jain`` is Jain's index
    over what the owners got for each second they were owed: 1 is perfectly fair; None before anybody was owed
    anything.
    """

    now: float
    running: tuple[RunningView, ...]
    waiting: tuple[WaitingView, ...]
    shares: tuple[ShareView, ...]
    backends: tuple[BackendView, ...]
    granted_total: int
    released_total: int
    held: int
    paused_since: float | None
    jain: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """The figures of ``QueueView`` alone: what is asked for often must not cost more in a long queue."""

    waiting: int
    held: int
    granted_total: int
    released_total: int
    shares: tuple[ShareView, ...]
    jain: float | None


def running(accounts: Accounts, habits: Habits, now: float) -> tuple[RunningView, ...]:
    """Returns the calls that hold a slot, oldest grant first."""
    return tuple(
        RunningView(
            id=lease.ticket.id,
            owner=lease.ticket.owner,
            service=lease.ticket.service,
            model=lease.ticket.model,
            backend=lease.backend.name,
            started_s=now - lease.t_grant,
            swap=lease.swap and lease.t_start is None,
            lane=lease.backend.lane,
            ran_s=lease.elapsed_s(now),
            usual_s=habits.usual_s(lease.ticket),
            load_s=habits.usual_load_s(lease.ticket.model) if lease.swap else None,
        )
        for lease in accounts.leases
    )


def waiting(play: Play, habits: Habits, loaded: Iterable[str]) -> tuple[WaitingView, ...]:
    """Returns the waiting calls, lane by lane in the order of service.

    Beyond the first ``FORECAST_MOST`` they stand by age, without a time.
    """
    resident = frozenset(loaded)
    told = play.forecasts(most=FORECAST_MOST)
    return tuple(_waiting(ticket, each, habits, resident) for ticket, each in told)


def _waiting(ticket: Ticket, told: Forecast, habits: Habits, resident: frozenset[str]) -> WaitingView:
    swap = ticket.model not in resident
    return WaitingView(
        id=ticket.id,
        owner=ticket.owner,
        service=ticket.service,
        model=ticket.model,
        since=ticket.since,
        position=told.position + 1,
        eta_s=told.eta_s,
        swap=swap,
        loads=swap if told.loads is None else told.loads,
        lane=ticket.lane,
        usual_s=habits.usual_s(ticket),
        load_s=habits.usual_load_s(ticket.model) if swap else None,
    )


def told(queue: QueueView, times: Told, wall: float) -> QueueView:
    """Returns the queue with the times that waiting calls were told, as long as those hold.

    Args:
        queue: with the times expected now.
        times: what was told before.
        wall: the instant of ``queue`` in seconds since 1970.
    """
    times.keep(row.id for row in queue.waiting)
    rows: list[WaitingView] = []
    for _, lane in groupby(queue.waiting, key=lambda row: row.lane):
        line = list(lane)
        lefts = times.in_line([(row.id, row.eta_s) for row in line], wall)
        rows += (replace(row, eta_s=left_s) for row, left_s in zip(line, lefts, strict=True))
    return replace(queue, waiting=tuple(rows))


def shares(accounts: Accounts) -> tuple[ShareView, ...]:
    """Returns what every owner got and was owed."""
    deficits: dict[str, float] = {}
    for flow in accounts.flows.values():
        deficits[flow.owner.name] = deficits.get(flow.owner.name, 0.0) + flow.deficit
    return tuple(
        ShareView(
            owner=name,
            weight=owner.weight,
            used_s=owner.used_s,
            due_s=accounts.due_s(owner),
            deficit_s=deficits.get(name, 0.0),
            waiting=owner.n_wait,
            running=owner.n_run,
            max_running=owner.max_running,
        )
        for name, owner in accounts.owners.items()
    )


def counts(accounts: Accounts, *, granted: int, released: int) -> QueueCounts:
    """Returns the figures of the queue, without the calls in it."""
    rows = shares(accounts)
    return QueueCounts(
        waiting=accounts.n_wait,
        held=len(accounts.leases),
        granted_total=granted,
        released_total=released,
        shares=rows,
        jain=jain(rows),
    )


def backend(each: Backend) -> BackendView:
    """Returns one backend's picture."""
    return BackendView(
        name=each.name,
        lane=each.lane,
        slots=each.slots,
        busy=each.busy,
        up=each.up,
        resident=tuple(each.resident),
        incoming=each.incoming,
    )


def jain(rows: Iterable[ShareView]) -> float | None:
    """Returns Jain's index (sum x)^2 / (n sum x^2) over used / due: 1 when all are equal, 1/n at worst."""
    ratios = [row.used_s / row.due_s for row in rows if row.due_s > 0]
    squares = sum(ratio * ratio for ratio in ratios)
    return sum(ratios) ** 2 / (len(ratios) * squares) if squares else None
