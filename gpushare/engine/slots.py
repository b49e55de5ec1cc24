"""The scheduler in asyncio clothes: waiting for a turn, giving up, and giving back.

Owns: the futures and timers of waiting calls.  Called by: ``engine.gateway`` (``lease``), ``engine.monitor``
(what is resident), ``app`` (limits, drain, pause).

Rules:
- Only ``wait`` awaits, and it awaits one bare future.  No lock, no semaphore, no ``wait_for``: up to 3.11 the
  last can swallow a cancellation that meets a result (cpython 86296).
- The slot is taken in the same step as the decision (``lease``, ``pump``), not when the waiter wakes up.
- One ``with`` covers the wait and the use.  A grant that meets a cancellation is given on there, so no
  order of grant, cancel and time-out can lose a slot.
- Settling is synchronous and idempotent.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from gpushare.core.errors import (
    Draining,
    GpushareError,
    Paused,
    PersonLimit,
    QueueFull,
    WaitedTooLong,
    WouldWaitTooLong,
    spread_retry_s,
)
from gpushare.core.keys import OwnerTerms
from gpushare.core.model import Call, Lane, Outcome, Principal, Record
from gpushare.core.reasons import Reasons
from gpushare.core.scheduler import Forecast, Params, QueueCounts, QueueView, Scheduler, Ticket
from gpushare.core.scheduler import Lease as Grant
from gpushare.engine.energy import EnergyMeter
from gpushare.engine.held import HeldSlot

CLOSE_RETRY_S = 5.0  # a restart takes about this long
DRAIN_RETRY_S = 30.0  # nobody knows when an admin lets calls in again
EARLY_REFUSAL_FACTOR = 1.5  # estimates are wrong: refuse at once only when far over the limit


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How many calls may wait; the total never refuses a person with nothing waiting."""

    max_waiting: int = 64
    max_waiting_per_person: int = 8


class LocalSlots:
    """The slots of this process's backends and everybody who waits for one.

    Args:
        scheduler: who goes next.
        limits: how many may wait.
        clock: monotonic seconds.
        jitter: returns a number in [0, 1) that spreads ``Retry-After``.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        *,
        limits: QueueLimits,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._scheduler = scheduler
        self._limits = limits
        self._clock = clock
        self._jitter = jitter
        self._people: Mapping[str, OwnerTerms] = {}
        self._waiters: dict[str, HeldSlot] = {}
        self._beside: set[str] = set()
        self._reasons = Reasons()
        self.meter = EnergyMeter(clock)
        self._trials: set[str] = set()
        self._pumping = False
        self.closing = False
        self.draining = False
        self.paused = False

    # --- waiting ---------------------------------------------------------------------------------------

    def lease(self, call: Call, who: Principal, *, ticket_id: str, max_wait_s: float) -> HeldSlot:
        """Puts a call in its owner's queue; enter the result at once, and await its ``turn`` inside.

        Raises:
            GpushareError: Draining, PersonLimit, QueueFull or WouldWaitTooLong.
        """
        now = self._clock()
        lane = self._lane(call)
        if self.draining:
            raise self.closing_down()
        self._refuse_over_limit(who, call.model, lane, max_wait_s=max_wait_s, now=now)
        ticket = Ticket(id=ticket_id, owner=who.owner, service=who.service, model=call.model, lane=lane)
        waiter = HeldSlot(self, ticket, who, added=now, max_wait_s=max_wait_s)
        self._waiters[ticket_id] = waiter
        waiter.grant = self._scheduler.take_at_once(ticket, now)
        if waiter.grant is None:
            self._scheduler.add(ticket, now)
        else:
            self.meter.begin(ticket_id)
        return waiter

    async def wait(self, waiter: HeldSlot) -> None:
        """Waits for a grant; called by ``HeldSlot.turn`` alone."""
        loop = asyncio.get_running_loop()
        waiter.waited = True
        waiter.future = loop.create_future()
        left_s = waiter.max_wait_s - (self._clock() - waiter.added)
        waiter.timer = loop.call_later(max(0.0, left_s), self._expire, waiter)
        await waiter.future

    def requeue(self, waiter: HeldSlot) -> None:
        """Gives a slot back unused; called by ``HeldSlot.again`` alone.

        Raises:
            Draining: who waits is turned away, and so is this one.
        """
        if self.draining:
            raise self.closing_down()
        grant, waiter.grant, waiter.future = waiter.held(), None, None
        if not grant.released:
            self.meter.end(waiter.ticket.id)
        self._scheduler.requeue(grant, self._clock())

    def _refuse_over_limit(
        self, who: Principal, model: str, lane: Lane, *, max_wait_s: float, now: float
    ) -> None:
        scheduler = self._scheduler
        mine = scheduler.waiting(who.owner)
        terms = self._people.get(who.owner)
        limit = (terms.max_waiting if terms else 0) or self._limits.max_waiting_per_person
        if mine >= limit:
            raise PersonLimit(
                mine, limit, self._retry_after(scheduler.refuse_own(who.owner, who.service, now))
            )
        if mine and scheduler.n_wait >= self._limits.max_waiting:
            raise QueueFull(scheduler.n_wait, self._retry_after(scheduler.refuse_any(now)))
        if not mine or self.paused or not scheduler.knows_cost(model):
            return  # nobody is turned away on a guess
        eta = scheduler.starts_in_s(who.owner, who.service, model, lane, now)
        if eta is not None and eta > EARLY_REFUSAL_FACTOR * max_wait_s:
            raise WouldWaitTooLong(eta, max_wait_s, self._retry_after(eta - max_wait_s))

    def _lane(self, call: Call) -> Lane:
        """Returns the lane a call needs: embeddings that would evict a model take an ordinary slot."""
        if call.lane is Lane.EMBED and call.model not in self._beside:
            return Lane.EMBED if self._scheduler.is_resident(call.model) else Lane.GENERATE
        return call.lane

    def _retry_after(self, base_s: float) -> float:
        return spread_retry_s(base_s, self._jitter())

    def closing_down(self) -> Draining:
        """Returns the refusal of every call while the server drains."""
        return Draining(self._retry_after(CLOSE_RETRY_S if self.closing else DRAIN_RETRY_S))

    def _expire(self, waiter: HeldSlot) -> None:
        """The wait limit passed."""
        if waiter.grant is not None or waiter.future is None or waiter.future.done():
            return
        now = self._clock()
        forecast = self._scheduler.forecast(waiter.ticket, now)
        retry = self._retry_after(self._scheduler.refuse_own(waiter.who.owner, waiter.who.service, now))
        late = WaitedTooLong(now - waiter.added, forecast.position, retry)
        self._turn_away(waiter, Paused(retry) if self.paused else late)

    def _turn_away(self, waiter: HeldSlot, error: GpushareError) -> None:
        self._scheduler.cancel(waiter.ticket, self._clock())
        if waiter.future is not None and not waiter.future.done():
            waiter.future.set_exception(error)

    def leave(self, waiter: HeldSlot) -> None:
        """The one way out of the queue and of a slot, whatever happened in between."""
        self._waiters.pop(waiter.ticket.id, None)
        if waiter.timer is not None:
            waiter.timer.cancel()
        future, grant = waiter.future, waiter.grant
        if future is not None and future.done() and not future.cancelled():
            future.exception()  # a refusal that met a cancellation is nobody's to raise any more
        if grant is None:
            self._scheduler.cancel(waiter.ticket, self._clock())
        elif not grant.released:
            self.settle(grant, Outcome.CLIENT_GONE_RUNNING)
        waiter.ticket.lease = None  # the two know each other

    # --- slots -----------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Grants free slots until the scheduler has nobody for them."""
        if self._pumping or not self._scheduler.n_wait:
            return
        self._pumping = True
        try:
            while (grant := self._scheduler.pick(self._clock())) is not None:
                self._hand_over(grant)
        finally:
            self._pumping = False

    def _hand_over(self, grant: Grant) -> None:
        waiter = self._waiters[grant.ticket.id]
        waiter.grant = grant
        self.meter.begin(grant.ticket.id)
        if waiter.future is None:  # its own step: it does not wait
            return
        if waiter.timer is not None:
            waiter.timer.cancel()
        if waiter.future.done():  # cancelled in this very pass, before its task could run
            self.settle(grant, Outcome.CLIENT_GONE_QUEUED)
        else:
            waiter.future.set_result(None)

    def started(self, grant: Grant) -> None:
        """Useful service begins: charging runs from now."""
        self._scheduler.started(grant, self._clock())

    def loaded(self, grant: Grant) -> None:
        """The first byte arrived, so the model is resident; ends a pending swap."""
        self._scheduler.loaded(grant, self._clock())
        self.pump()

    def settle(self, grant: Grant, outcome: Outcome) -> None:
        """Releases a slot, charges what was used and grants it on.  Idempotent."""
        if grant.released:
            return
        grant.energy_j = self.meter.end(grant.ticket.id)
        self._scheduler.finished(grant, self._clock(), ok=outcome is Outcome.OK)
        self.pump()

    # --- what others tell us ---------------------------------------------------------------------------

    def set_people(self, people: Mapping[str, OwnerTerms]) -> None:
        """Takes new weights and limits; they act from the next quantum and the next admission on."""
        if people == self._people:
            return
        self._people = people
        for owner, terms in people.items():
            self._scheduler.set_owner(owner, weight=terms.weight, max_running=terms.max_running)
        self.pump()

    def set_limits(self, limits: QueueLimits) -> None:
        """Takes new queue limits; whoever already waits keeps the place."""
        self._limits = limits

    def set_params(self, params: Params) -> None:
        """Takes new parameters of the scheduler; they act from the next decision on."""
        self._scheduler.set_params(params, self._clock())
        self.pump()

    def resize(self, backend: str, slots: int) -> None:
        """Changes the slot count; lowering it never interrupts."""
        self._scheduler.resize(backend, slots, self._clock())
        self.pump()

    def set_door(self, backend: str, *, granting: bool, trial: bool) -> None:
        """Takes what the breaker says: grant nothing, one call at a time, or as many as there are slots."""
        self._scheduler.set_up(backend, granting, self._clock())
        (self._trials.add if trial else self._trials.discard)(backend)
        self._let_on(backend)

    def hold_back(self, backend: str, seconds: float) -> None:
        """Grants nothing more on a backend for a moment: somebody around the queue is using it."""
        now = self._clock()
        self._scheduler.set_most(backend, self._scheduler.backends[backend].busy, now)
        asyncio.get_running_loop().call_later(seconds, self._let_on, backend)

    def _let_on(self, backend: str) -> None:
        self._scheduler.set_most(backend, 1 if backend in self._trials else None, self._clock())
        self.pump()

    def set_resident(self, backends: Iterable[str], models: frozenset[str]) -> None:
        """Takes a fresh list of resident models and learns which fit beside others."""
        if len(models) > 1:
            self._beside |= models
        for backend in backends:
            self._scheduler.set_resident(backend, models, self._clock())
        self.pump()

    def remember(self, call: Record) -> None:
        """Learns from a call of an earlier process what calls cost and how long they take."""
        if call.outcome is not Outcome.OK or not call.slot_s:
            return
        scheduler = self._scheduler
        ticket = Ticket(id="", owner=call.owner, service=call.service, model=call.model)
        scheduler.costs.learn(call.owner, call.model, call.slot_s)
        scheduler.habits.took(ticket, call.slot_s)
        if call.swap and call.load_s:
            scheduler.habits.loaded(call.model, call.load_s)
            scheduler.costs.learn_load(call.model, call.load_s)

    def learn_load(self, model: str, seconds: float) -> None:
        """Remembers how long loading a model took."""
        self._scheduler.costs.learn_load(model, seconds)

    def pause(self) -> None:
        """Grants nothing from now on; running calls finish, waiting calls wait."""
        self.paused = True
        self._scheduler.set_paused(True, self._clock())

    def resume(self) -> None:
        """Ends ``pause`` and ``drain``; a server that closes down stays closed."""
        self.paused = False
        self.draining = self.closing
        self._scheduler.set_paused(False, self._clock())
        self.pump()

    def drain(self) -> None:
        """Refuses new and waiting calls until ``resume``; running ones finish."""
        self.draining = True
        self.evict(lambda _: True, self.closing_down)

    def close(self) -> None:
        """Drains for good: the server closes down."""
        self.closing = True
        self.drain()

    def evict(self, chosen: Callable[[Principal], bool], error: Callable[[], GpushareError]) -> None:
        """Turns away every waiting call of the chosen callers."""
        for waiter in list(self._waiters.values()):
            if waiter.grant is None and chosen(waiter.who):
                self._turn_away(waiter, error())

    def withdraw(self, ticket_id: str, error: GpushareError) -> None:
        """Turns one call away if it waits."""
        waiter = self._waiters.get(ticket_id)
        if waiter is not None and waiter.grant is None:
            self._turn_away(waiter, error)

    # --- what others read ------------------------------------------------------------------------------

    def snapshot(self) -> QueueView:
        """Returns an immutable picture of the queue, which is taken to be told to people."""
        return self._reasons.explained(self._scheduler.snapshot(self._clock()))

    def counts(self) -> QueueCounts:
        """Returns the figures of the queue, at little cost however long it is."""
        return self._scheduler.counts()

    def forecast_new(self, who: Principal, model: str) -> Forecast:
        """Returns where a call of ``who`` would stand if it came now."""
        return self._scheduler.forecast_new(who.owner, who.service, model, Lane.GENERATE, self._clock())

    def is_stuck(self) -> bool:
        """Whether a slot belongs to nobody, or somebody waits though nothing runs: a fault of ours."""
        board = self._scheduler.board
        held = board.accounts.leases
        if any(grant.ticket.id not in self._waiters for grant in held):
            return True
        free = {backend.lane for backend in board.free()}
        return not held and not self.paused and any(want.lane in free for want in board.accounts.wanted)

    @property
    def swap_pending(self) -> bool:
        """Whether a model is being loaded, so that ``/api/ps`` is worth asking often."""
        return self._scheduler.swap_pending
