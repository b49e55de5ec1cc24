"""The scheduler as a state machine: hypothesis chooses what happens, ``check`` looks after every step.

P1 and P2 for the scheduler: no order of operations loses a slot, grants one twice, or grants above the slots.
"""

import math
from collections.abc import Callable

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gpushare.core.model import Lane, Service
from gpushare.core.scheduler import Lease, Params, Scheduler, State, Ticket

OWNERS = st.sampled_from(["alice", "bob", "carol", "dave"])
MODELS = st.sampled_from(["small", "large"])
LANES = st.sampled_from([Lane.GENERATE, Lane.GENERATE, Lane.EMBED])
PARAMS = st.builds(
    Params,
    quantum=st.sampled_from([None, 0.5, 5.0]),
    stay_on_model=st.sampled_from([None, 0.0, 20.0]),
    estimate_cap=st.sampled_from([5.0, 60.0]),
)


class QueueMachine(RuleBasedStateMachine):
    """Calls come, go, run, break and wait; slots and terms change under them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.count = 0
        self.waiting: list[Ticket] = []
        self.held: list[Lease] = []
        self.used_s = 0.0

    @initialize(params=PARAMS, slots=st.integers(1, 3))
    def start(self, params: Params, slots: int) -> None:
        self.scheduler = Scheduler(params)
        self.scheduler.add_backend("gpu", slots=slots)
        self.scheduler.add_backend("embed", slots=2, lane=Lane.EMBED)

    @rule(owner=OWNERS, model=MODELS, lane=LANES, service=st.sampled_from(Service))
    def submit(self, owner: str, model: str, lane: Lane, service: Service) -> None:
        self.count += 1
        ticket = Ticket(id=f"t{self.count}", owner=owner, service=service, model=model, lane=lane)
        expected = self.scheduler.forecast_new(owner, service, model, lane, self.now)
        self.scheduler.add(ticket, self.now)
        assert self.scheduler.forecast(ticket, self.now).position == expected.position
        self.waiting.append(ticket)

    @rule(seconds=st.floats(0.0, 90.0))
    def advance(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def grant(self) -> None:
        lease = self.scheduler.pick(self.now)
        if lease is not None:
            assert lease.ticket in self.waiting
            assert lease.backend.busy <= lease.backend.slots
            self.waiting.remove(lease.ticket)
            self.held.append(lease)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave_the_queue(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(ticket)
        self.scheduler.cancel(ticket, self.now)
        assert ticket.state is State.CANCELLED

    @precondition(lambda self: self.held)
    @rule(data=st.data(), act=st.sampled_from(["started", "loaded"]))
    def serve(self, data: st.DataObject, act: str) -> None:
        call: Callable[[Lease, float], None] = getattr(self.scheduler, act)
        call(data.draw(st.sampled_from(self.held)), self.now)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), ok=st.booleans())
    def end(self, data: st.DataObject, *, ok: bool) -> None:
        lease = data.draw(st.sampled_from(self.held))
        self.held.remove(lease)
        used = 0.0 if lease.t_start is None else self.now - lease.t_start
        self.scheduler.finished(lease, self.now, ok=ok)
        self.scheduler.finished(lease, self.now + 1, ok=ok)
        assert lease.charged == used
        self.used_s += used

    @precondition(lambda self: any(lease.t_start is None for lease in self.held))
    @rule(data=st.data())
    def fail_to_dial(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from([each for each in self.held if each.t_start is None]))
        self.held.remove(lease)
        self.scheduler.requeue(lease, self.now)
        self.waiting.append(lease.ticket)

    @rule(owner=OWNERS, weight=st.sampled_from([0.1, 1.0, 100.0]), cap=st.integers(0, 2))
    def change_terms(self, owner: str, weight: float, cap: int) -> None:
        self.scheduler.set_owner(owner, weight=weight, max_running=cap)

    @rule(slots=st.integers(0, 4))
    def resize(self, slots: int) -> None:
        self.scheduler.resize("gpu", slots, self.now)

    @rule(params=PARAMS)
    def reload(self, params: Params) -> None:
        widest = max(params.estimate_cap, self.scheduler.params.estimate_cap)
        self.scheduler.set_params(
            Params(quantum=params.quantum, stay_on_model=params.stay_on_model, estimate_cap=widest), self.now
        )

    @rule(up=st.booleans(), paused=st.booleans())
    def trouble(self, *, up: bool, paused: bool) -> None:
        self.scheduler.set_up("gpu", up, self.now)
        self.scheduler.set_paused(paused, self.now)

    @rule(models=st.frozensets(MODELS))
    def poll(self, models: frozenset[str]) -> None:
        for name in ("gpu", "embed"):
            self.scheduler.set_resident(name, models, self.now)

    @invariant()
    def sound(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        self.scheduler.check()
        view = self.scheduler.snapshot(self.now)
        assert view.granted_total == view.released_total + view.held
        assert [row.id for row in view.running] == [
            lease.ticket.id for lease in self.scheduler.accounts.leases
        ]
        assert sorted(row.id for row in view.waiting) == sorted(ticket.id for ticket in self.waiting)

    def teardown(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        for ticket in self.waiting:
            self.scheduler.cancel(ticket, self.now)
        for lease in self.held:
            self.used_s += 0.0 if lease.t_start is None else self.now - lease.t_start
            self.scheduler.finished(lease, self.now, ok=False)
        view = self.scheduler.snapshot(self.now)
        assert (view.held, view.waiting) == (0, ())
        assert math.isclose(self.scheduler.accounts.charged_s, self.used_s, rel_tol=1e-9, abs_tol=1e-6)


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(
    max_examples=100, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
