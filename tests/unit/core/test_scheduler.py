"""Tests of the scheduler's operations, one at a time; long runs are in ``tests/simulation``."""

import pytest

from gpushare.core.errors import spread_retry_s
from gpushare.core.model import Lane, Service
from gpushare.core.scheduler import Lease, Params, Scheduler, State, Ticket

FRONT, BACK = Service.INTERACTIVE, Service.BACKGROUND


class Bench:
    """A scheduler with one backend, and short names for what tests do to it."""

    def __init__(self, *, slots: int = 1, quantum: float | None = 5.0, stay_s: float | None = 0.0) -> None:
        self.scheduler = Scheduler(Params(quantum=quantum, stay_on_model=stay_s))
        self.backend = self.scheduler.add_backend("gpu", slots=slots)
        self.count = 0

    def add(
        self, owner: str, *, model: str = "m", service: Service = FRONT, lane: Lane = Lane.GENERATE
    ) -> Ticket:
        """Adds a call at 0 s."""
        self.count += 1
        ticket = Ticket(id=f"t{self.count}", owner=owner, service=service, model=model, lane=lane)
        self.scheduler.add(ticket, 0.0)
        return ticket

    def grant(self, now: float = 0.0) -> Lease:
        """Grants a slot, which must be possible."""
        lease = self.scheduler.pick(now)
        assert lease is not None
        self.scheduler.check()
        return lease

    def idle(self, now: float = 0.0) -> bool:
        """Returns whether nothing can be granted."""
        return self.scheduler.pick(now) is None


def test_a_grant_takes_the_slot_at_once() -> None:
    """The slot counts as taken from the decision on, and comes back with the end."""
    bench = Bench()
    first, second = bench.add("alice"), bench.add("bob")
    lease = bench.grant()
    assert (lease.ticket, first.lease, bench.backend.busy) == (first, lease, 1)
    assert bench.idle()
    bench.scheduler.finished(lease, 1.0)
    assert bench.backend.busy == 0
    assert bench.grant().ticket is second


def test_an_outside_driver_chooses_the_free_backends() -> None:
    """``pick_any`` decides among the given backends and grants like ``pick``."""
    bench = Bench()
    ticket = bench.add("alice")
    assert bench.scheduler.pick_any(0.0, []) is None
    assert bench.scheduler.pick_any(0.0, [bench.backend]) == (ticket, bench.backend)
    assert ticket.lease is not None
    assert bench.backend.busy == 1


def test_a_ticket_is_added_once() -> None:
    """A ticket that was added, whatever became of it, cannot be added again."""
    bench = Bench()
    ticket = bench.add("alice")
    with pytest.raises(ValueError, match="t1 is queued"):
        bench.scheduler.add(ticket, 0.0)
    bench.scheduler.cancel(ticket, 0.0)
    with pytest.raises(ValueError, match="t1 is cancelled"):
        bench.scheduler.add(ticket, 0.0)


def test_a_cancelled_call_is_not_granted() -> None:
    """A call that left the queue costs nothing and gets nothing."""
    bench = Bench()
    gone, stays = bench.add("alice"), bench.add("alice")
    bench.scheduler.cancel(gone, 0.0)
    bench.scheduler.cancel(gone, 0.0)
    assert bench.scheduler.waiting("alice") == 1
    assert bench.grant().ticket is stays


def test_cancelling_a_granted_call_changes_nothing() -> None:
    """After the grant only ``finished`` takes effect, so a cancel that comes too late is harmless."""
    bench = Bench()
    ticket = bench.add("alice")
    lease = bench.grant()
    bench.scheduler.cancel(ticket, 0.0)
    assert (ticket.state, bench.backend.busy) == (State.GRANTED, 1)
    bench.scheduler.finished(lease, 0.0, ok=False)
    assert (ticket.state, bench.backend.busy) == (State.DONE, 0)


@pytest.mark.parametrize(("start", "cost"), [(None, 0.0), (2.0, 5.0)])
def test_a_call_that_breaks_off_is_charged_for_what_it_used(start: float | None, cost: float) -> None:
    """Without a start nothing is charged, else the time since then; nothing is learned from it."""
    bench = Bench()
    bench.add("alice")
    lease = bench.grant()
    if start is not None:
        bench.scheduler.started(lease, start)
    bench.scheduler.finished(lease, 7.0, ok=False)
    assert lease.charged == cost
    assert bench.scheduler.costs.estimate_s("alice", "m", 60.0) == 5.0


def test_a_release_counts_once() -> None:
    """A second end of the same lease changes nothing."""
    bench = Bench()
    bench.add("alice")
    lease = bench.grant()
    for now in (3.0, 9.0):
        bench.scheduler.finished(lease, now, used=3.0)
        bench.scheduler.started(lease, now)
        bench.scheduler.check()
    assert (lease.charged, bench.backend.busy, bench.scheduler.released_total) == (3.0, 0, 1)


def test_a_call_whose_dial_failed_goes_back_to_the_head() -> None:
    """The lease is settled at nothing and the ticket stands before the younger ones of its flow."""
    bench = Bench()
    first, second = bench.add("alice"), bench.add("alice")
    lease = bench.grant()
    bench.scheduler.requeue(lease, 1.0)
    assert (first.state, first.lease, lease.charged, bench.backend.busy) == (State.QUEUED, None, 0.0, 0)
    again = bench.grant(2.0)
    assert again.ticket is first
    assert again is not lease
    bench.scheduler.finished(again, 3.0)
    assert bench.grant(3.0).ticket is second


def test_a_call_that_has_begun_goes_back_and_pays() -> None:
    """Its slot was used: giving the time back would be free credit.  Going back twice is going back once."""
    bench = Bench()
    ticket = bench.add("alice")
    lease = bench.grant()
    bench.scheduler.started(lease, 0.0)
    for _ in range(2):
        bench.scheduler.requeue(lease, 5.0)
        bench.scheduler.check()
    assert lease.charged == 5.0
    assert (ticket.state, bench.scheduler.n_wait) == (State.QUEUED, 1)


def test_a_call_whose_slot_has_come_back_goes_back_too() -> None:
    """The relay gives slots back by itself; what it gave back is not given back again."""
    bench = Bench()
    bench.add("alice")
    lease = bench.grant()
    bench.scheduler.finished(lease, 1.0, ok=False)
    bench.scheduler.requeue(lease, 1.0)
    assert (bench.backend.busy, bench.scheduler.released_total, bench.scheduler.n_wait) == (0, 1, 1)


def test_a_backend_can_be_held_to_fewer_calls_for_now() -> None:
    """What runs is left alone; nothing is granted above the limit until it is lifted."""
    bench = Bench(slots=3)
    bench.scheduler.set_resident("gpu", ["m"], 0.0)
    for _ in range(3):
        bench.add("alice")
    bench.scheduler.set_most("gpu", 1, 0.0)
    bench.grant()
    assert bench.scheduler.pick(0.0) is None
    bench.scheduler.set_most("gpu", None, 0.0)
    bench.grant()
    bench.grant()


def test_a_model_that_is_loaded_charges_from_the_start() -> None:
    """A grant for a resident model is no swap; one for another model is."""
    bench = Bench(slots=2)
    bench.scheduler.set_resident("gpu", ["m"], 0.0)
    bench.add("alice")
    bench.add("bob", model="other")
    assert not bench.grant().swap
    assert bench.grant().swap
    assert bench.scheduler.swap_pending


def test_the_first_byte_starts_all_that_waited_for_the_load() -> None:
    """When a model answers, every call granted for it runs, and the barrier is gone."""
    bench = Bench(slots=2)
    for owner in ("alice", "bob"):
        bench.add(owner)
    first, second = bench.grant(), bench.grant()
    assert first.swap
    assert second.swap
    bench.scheduler.loaded(second, 4.0)
    assert (first.t_start, second.t_start) == (4.0, 4.0)
    assert sorted([first.load_s or 0.0, second.load_s or 0.0]) == [0.0, 4.0]  # one load
    assert not bench.scheduler.swap_pending
    assert bench.scheduler.is_resident("m")


def test_a_listing_starts_what_waited_for_the_load() -> None:
    """Charging of a swap begins when the model is listed, if no byte told it sooner."""
    bench = Bench()
    bench.add("alice")
    lease = bench.grant()
    starts = []
    for now, model in ((1.0, "old"), (2.0, "m"), (3.0, "m")):
        bench.scheduler.set_resident("gpu", [model], now)
        starts.append(lease.t_start)
    assert starts == [None, 2.0, 2.0]
    assert lease.load_s == 2.0
    assert not bench.scheduler.swap_pending


def test_a_load_nobody_waits_for_any_more_is_no_barrier() -> None:
    """When the last call for the incoming model has gone before the load, others may go on."""
    bench = Bench(slots=2)
    for owner in ("alice", "bob"):
        bench.add(owner, model="new")
    first, second = bench.grant(), bench.grant()
    bench.scheduler.finished(first, 1.0, ok=False)
    assert bench.scheduler.swap_pending
    bench.scheduler.finished(second, 1.0, ok=False)
    assert not bench.scheduler.swap_pending


def test_a_stale_listing_does_not_unload_what_answers() -> None:
    """A model with a running call is loaded, whatever a list that is a moment old says."""
    bench = Bench(slots=2)
    bench.scheduler.set_resident("gpu", ["m"], 0.0)
    for owner in ("alice", "bob"):
        bench.add(owner)
    bench.scheduler.started(bench.grant(), 0.0)
    bench.scheduler.set_resident("gpu", [], 1.0)
    assert not bench.grant(1.0).swap


def test_a_barrier_outlives_no_call_that_waits_for_it() -> None:
    """A granted call for another model, not begun yet, does not keep up a barrier nobody waits for."""
    bench = Bench(slots=3)
    bench.scheduler.set_resident("gpu", ["m"], 0.0)
    bench.add("alice")
    bench.add("bob", model="new")
    bench.grant()
    swap = bench.grant()
    assert bench.backend.incoming == "new"
    bench.scheduler.finished(swap, 1.0, ok=False)
    assert bench.backend.incoming is None


def test_during_a_swap_nothing_else_is_granted() -> None:
    """Neither another model nor an embedding starts while a model loads."""
    bench = Bench(slots=2)
    bench.scheduler.add_backend("embed", slots=2, lane=Lane.EMBED)
    bench.scheduler.set_resident("embed", ["e"], 0.0)
    bench.add("alice")
    loading = bench.grant()
    other = bench.add("bob", model="other")
    bench.add("bob", model="e", lane=Lane.EMBED)
    assert bench.idle()
    bench.scheduler.loaded(loading, 5.0)
    bench.scheduler.cancel(other, 5.0)
    assert bench.grant(5.0).backend.name == "embed"


def test_embeddings_do_not_wait_behind_generations() -> None:
    """An embedding runs in its own lane while all slots are taken, on the same account."""
    bench = Bench()
    bench.scheduler.add_backend("embed", slots=1, lane=Lane.EMBED)
    bench.scheduler.set_resident("gpu", ["m", "e"], 0.0)
    bench.add("alice")
    bench.add("alice")
    running = bench.grant()
    bench.scheduler.started(running, 0.0)
    for owner in ("alice", "bob"):
        bench.add(owner, model="e", lane=Lane.EMBED)
    vector = bench.grant()
    assert (vector.backend.name, vector.swap) == ("embed", False)
    assert bench.idle()
    bench.scheduler.finished(vector, 1.0, used=1.0)
    bench.scheduler.check()
    assert bench.grant(1.0).backend.name == "embed"


@pytest.mark.parametrize("trouble", ["down", "full", "paused"])
def test_nothing_is_granted_in_trouble(trouble: str) -> None:
    """Nothing starts on a lost or full backend, or while paused."""
    bench = Bench()
    scheduler = bench.scheduler
    bench.add("alice")

    def switch(*, ill: bool) -> None:
        if trouble == "down":
            scheduler.set_up("gpu", not ill, 0.0)
        elif trouble == "full":
            scheduler.resize("gpu", 0 if ill else 1, 0.0)
        else:
            scheduler.set_paused(ill, 0.0)

    switch(ill=True)
    assert bench.idle()
    switch(ill=False)
    bench.grant()


def test_lowering_the_slots_never_interrupts() -> None:
    """Running calls end by themselves; nothing is granted until the new number allows it."""
    bench = Bench(slots=3)
    bench.scheduler.set_resident("gpu", ["m"], 0.0)
    for _ in range(6):
        bench.add("alice")
    leases = [bench.grant() for _ in range(3)]
    bench.scheduler.resize("gpu", 1, 1.0)
    for lease in leases[:2]:
        bench.scheduler.finished(lease, 2.0)
        assert bench.idle(2.0)
    bench.scheduler.finished(leases[2], 3.0)
    bench.grant(3.0)
    bench.scheduler.resize("gpu", 2, 4.0)
    bench.grant(4.0)


def test_a_cap_counts_both_classes_of_an_owner() -> None:
    """An owner at its cap is passed over in every class, and others are served."""
    bench = Bench(slots=3)
    bench.scheduler.set_owner("alice", max_running=1)
    bench.add("alice")
    bench.add("alice", service=BACK)
    bench.add("bob", service=BACK)
    assert [bench.grant().ticket.owner, bench.grant().ticket.owner] == ["alice", "bob"]
    assert bench.idle()
    assert bench.scheduler.waiting("alice") == 1
    assert bench.scheduler.waiting("nobody") == 0
    assert bench.scheduler.n_wait == 1


def test_the_background_class_waits_while_the_other_is_entitled() -> None:
    """Between classes the one that had less for its weight goes first."""
    bench = Bench()
    for _ in range(9):
        bench.add("alice")
        bench.add("bob", service=BACK)
    order = []
    for now in range(0, 100, 5):
        lease = bench.scheduler.pick(now)
        if lease is None:
            break
        order.append(lease.ticket.owner)
        bench.scheduler.started(lease, now)
        bench.scheduler.finished(lease, now + 5)
    assert order[:10].count("bob") == 1
    assert order[11:].count("alice") == 0


def test_affinity_follows_the_load_time_unless_it_is_set() -> None:
    """The resident model keeps the GPU for two load times, between 20 and 120 s."""
    for load_s, stay_s in ((1.0, 20.0), (30.0, 60.0), (500.0, 120.0)):
        bench = Bench(stay_s=None)
        bench.scheduler.costs.learn_load("m", load_s)
        bench.scheduler.set_resident("gpu", ["m"], 0.0)
        rare, common = bench.add("alice", model="rare"), bench.add("bob")
        early = bench.grant(stay_s - 1)
        assert early.ticket is common
        bench.scheduler.finished(early, stay_s - 1)
        assert bench.grant(stay_s).ticket is rare


def test_new_parameters_act_from_the_next_decision() -> None:
    """A new class weight and quantum are used at once."""
    bench = Bench(quantum=None)
    bench.scheduler.set_params(Params(quantum=2.0, background_weight=0.5), 1.0)
    assert bench.scheduler.quantum_s == 2.0
    assert bench.scheduler.accounts.class_weight[BACK] == 0.5


def test_refused_calls_are_told_different_times() -> None:
    """Calls turned away together come back one gap apart, never later than a client obeys."""
    bench = Bench()
    bench.scheduler.costs.learn("alice", "m", 4.0)
    bench.scheduler.set_resident("gpu", ["m"], 0.0)
    for _ in range(3):
        bench.add("alice")
    bench.scheduler.started(bench.grant(), 0.0)
    told = [bench.scheduler.refuse_own("alice", FRONT, 0.0) for _ in range(12)]
    assert told[:3] == pytest.approx([5.0, 10.0, 15.0])
    assert told[-1] == pytest.approx(37.5)
    assert {spread_retry_s(base, 0.0) for base in told} <= set(range(1, 31))
    assert bench.scheduler.refuse_own("alice", FRONT, 100.0) <= 5.0


def test_a_full_queue_books_at_the_pace_of_all_slots() -> None:
    """Any grant frees a place of the whole queue, so the pace is the mean cost over the slots."""
    bench = Bench(slots=4)
    bench.scheduler.costs.learn("alice", "m", 4.0)
    assert bench.scheduler.refuse_any(0.0) == pytest.approx(1.25)
    assert bench.scheduler.refuse_any(0.0) == pytest.approx(2.5)


def test_an_owner_without_waiting_calls_is_booked_one_mean_call_away() -> None:
    """Where nothing tells a pace, one mean call is as good a guess as any."""
    assert Bench().scheduler.refuse_own("alice", FRONT, 0.0) == pytest.approx(1.25 * 5.0)


def test_a_light_owner_does_not_wait_for_a_turn_of_many_calls() -> None:
    """The automatic quantum is one mean call, so owners with short calls alternate."""
    bench = Bench(quantum=None)
    bench.scheduler.costs.learn("alice", "m", 0.2)
    bench.scheduler.set_resident("gpu", ["m"], 0.0)
    for _ in range(4):
        bench.add("alice")
        bench.add("bob")
    order, now = [], 0.0
    while (lease := bench.scheduler.pick(now)) is not None:
        order.append(lease.ticket.owner)
        bench.scheduler.started(lease, now)
        now += 0.2
        bench.scheduler.finished(lease, now, used=0.2)
    assert order == ["alice", "bob"] * 4


def test_the_queue_can_be_asked_about_without_changing_it() -> None:
    """Forecasts and snapshots tell positions and decide nothing."""
    bench = Bench()
    bench.scheduler.set_resident("gpu", ["m"], 0.0)
    tickets = [bench.add("alice") for _ in range(3)]
    assert bench.scheduler.forecast(tickets[2], 0.0).position == 2
    assert bench.scheduler.forecast_new("bob", FRONT, "m", Lane.GENERATE, 0.0).position == 1
    view = bench.scheduler.snapshot(0.0)
    assert [row.id for row in view.waiting] == ["t1", "t2", "t3"]
    assert bench.grant().ticket is tickets[0]


def test_a_failed_load_ends_the_barrier_of_its_backend_only() -> None:
    """A load given up on one backend leaves the swap of another one alone."""
    bench = Bench()
    bench.scheduler.add_backend("second", slots=1)
    bench.add("alice", model="a")
    bench.add("bob", model="b")
    first, second = bench.grant(), bench.grant()
    assert first.backend is not second.backend
    bench.scheduler.finished(first, 1.0, ok=False)
    assert second.backend.incoming == "b"
    assert first.backend.incoming is None


def test_the_first_byte_concerns_its_own_model_only() -> None:
    """A model that answers starts no call of another model that still loads elsewhere."""
    bench = Bench()
    bench.scheduler.add_backend("second", slots=1)
    bench.add("alice", model="a")
    bench.add("bob", model="b")
    first, second = bench.grant(), bench.grant()
    bench.scheduler.loaded(first, 1.0)
    assert (first.t_start, second.t_start) == (1.0, None)
