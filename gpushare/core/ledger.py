"""What waits to be written to the ledger, and what is given up when nothing can be written.

Called by: ``edge.store``; the gateway makes ``Admission``s.  Rules: each admitted call becomes one row;
refusals before the queue become one sum for each key, outcome and minute.  Whatever waits is bounded: beyond
the bound the oldest goes, and is counted.
"""

from itertools import count
from typing import Any, TypeVar

from msgspec import Struct

from gpushare.core.model import Endpoint, Kind, Outcome, Principal, Record

_Key = TypeVar("_Key")


class Admission(Struct, frozen=True, kw_only=True):
    """A call that was let in; ``at`` is wall-clock seconds since 1970.

    It refers to nothing but values that live longer than the call, so it may be kept.
    """

    request_id: str
    who: Principal
    tool: str
    endpoint: Endpoint
    model: str
    at: float


class Action(Struct, frozen=True, kw_only=True):
    """What an admin did: ``what`` to ``target``, with ``detail`` in words; ``at`` as in ``Admission``."""

    at: float
    key_id: str
    name: str
    what: str
    target: str = ""
    detail: str = ""


class Begun(Struct, frozen=True, kw_only=True):
    """The row of a call that runs; all that is known of it should the server not live to see its end."""

    request_id: str
    key_id: str
    owner: str
    person: str
    tool: str
    api: str
    route: str
    model: str
    service: str
    queued: bool
    began_at: float


class Refusals(Struct, frozen=True, kw_only=True):
    """How many calls of one key ended alike before the queue, within one minute (minutes since 1970)."""

    minute: int
    key_id: str
    owner: str
    person: str
    outcome: Outcome
    count: int


class LedgerState(Struct, frozen=True, kw_only=True):
    """How the ledger is doing.

    ``writable`` is whether rows are being written.  ``lag_s`` is how long the oldest row has waited for that,
    ``waiting`` how many do.  ``written`` and ``lost`` count rows since the start.  ``answered_s`` is how long
    ago the writer's thread last came round.
    """

    writable: bool
    lag_s: float
    waiting: int
    written: int
    lost: int
    answered_s: float


Entry = Admission | Record | Action


class Backlog:
    """What is to be written next, oldest first.

    Args:
        limit: how many rows of each kind may wait.

    Attributes:
        begun: calls that are to be noted as running.
        left: ids of calls whose note of running is to go.
        ended: rows of calls that ended.
        refused: sums of refusals.
        actions: what admins did.
        running: ids of calls that are noted as running; bounded by the calls there are.
        lost: how many rows were given up.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbers = count()
        self.begun: dict[str, Admission] = {}
        self.left: set[str] = set()
        self.ended: dict[str, Record] = {}
        self.refused: dict[tuple[int, str, Outcome], Refusals] = {}
        self.actions: dict[int, Action] = {}
        self.running: set[str] = set()
        self.lost = 0

    def __len__(self) -> int:
        return sum(map(len, (self.begun, self.left, self.ended, self.refused, self.actions)))

    def take(self, entry: Entry) -> None:
        """Adds one entry; a call that began and ended in between is never noted as running."""
        if isinstance(entry, Admission):
            self.begun[entry.request_id] = entry
        elif isinstance(entry, Record):
            self._end(entry)
        else:
            self._add(self.actions, next(self._numbers), entry)

    def written(self) -> int:
        """Takes note that everything is in the ledger; returns how many rows that were."""
        self.running.update(self.begun)
        self.running -= self.left
        return self._clear()

    def give_up(self) -> None:
        """Counts everything that waits as lost."""
        self.lost += self._clear()

    def _clear(self) -> int:
        rows = len(self.ended) + len(self.refused) + len(self.actions)
        for waiting in (self.begun, self.left, self.ended, self.refused, self.actions):
            waiting.clear()
        return rows

    def _end(self, record: Record) -> None:
        request_id = record.request_id
        noted = request_id in self.running
        if noted:
            self.left.add(request_id)
        if self.begun.pop(request_id, None) or noted or record.admitted:
            self._add(self.ended, request_id, record)
        elif record.outcome is not Outcome.OK:  # a list that went well is nobody's business
            self._sum(record)

    def _sum(self, record: Record) -> None:
        key = (int(record.ended_at // 60), record.key_id, record.outcome)
        before = self.refused.get(key)
        sums = Refusals(
            minute=key[0],
            key_id=record.key_id,
            owner=record.owner,
            person=record.person,
            outcome=record.outcome,
            count=1 + (before.count if before else 0),
        )
        self._add(self.refused, key, sums)

    def _add(self, waiting: dict[_Key, Any], key: _Key, row: object) -> None:
        waiting[key] = row
        if len(waiting) > self._limit:
            del waiting[next(iter(waiting))]
            self.lost += 1


def begun(admission: Admission) -> Begun:
    """Returns the row of a call that was let in."""
    who, endpoint = admission.who, admission.endpoint
    return Begun(
        request_id=admission.request_id,
        key_id=who.key_id,
        owner=who.owner,
        person=who.name,
        tool=admission.tool,
        api=endpoint.dialect,
        route=endpoint.path,
        model=admission.model,
        service=who.service,
        queued=endpoint.kind is Kind.QUEUED,
        began_at=admission.at,
    )
