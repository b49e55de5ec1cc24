"""Tests of flows and of the ring they stand in."""

import pytest

from gpushare.core.backends import Backend, Want
from gpushare.core.flows import Flow, Lease, Owner, Ring, State, Ticket, Where
from gpushare.core.model import Lane, Service

WANT = Want(Lane.GENERATE, "m")
Q = 5.0


def flow(name: str = "alice", **terms: float) -> Flow:
    """Returns a flow of an owner."""
    return Flow(owner=Owner(name=name, **terms), service=Service.INTERACTIVE)  # type: ignore[arg-type]


def ticket(seq: int, model: str = "m") -> Ticket:
    """Returns a waiting ticket."""
    made = Ticket(id=f"t{seq}", owner="alice", service=Service.INTERACTIVE, model=model, seq=seq)
    made.state = State.QUEUED
    return made


def waiting(*deficits: float) -> tuple[Ring, list[Flow]]:
    """Returns a ring whose OLD holds flows with one waiting ticket and these deficits."""
    ring = Ring()
    flows = [flow(f"o{index}") for index in range(len(deficits))]
    for each, deficit in zip(flows, deficits, strict=True):
        each.push(ticket(1))
        ring.enter(each, Q)
        ring.to_back(each)
        each.deficit = deficit
    return ring, flows


def test_a_flow_serves_its_oldest_ticket() -> None:
    """Across models the oldest ticket that a free backend can serve goes first."""
    mine = flow()
    for seq, model in ((1, "a"), (2, "b"), (3, "a")):
        mine.push(ticket(seq, model))
    a, b = Want(Lane.GENERATE, "a"), Want(Lane.GENERATE, "b")
    assert mine.oldest({a, b}) is mine.queues[a][0]
    assert mine.oldest({b}) is mine.queues[b][0]
    assert mine.oldest(set()) is None


def test_a_returned_ticket_stands_by_its_age() -> None:
    """A ticket that comes back stands before everything younger, in whatever order tickets return."""
    mine = flow()
    for seq in (3, 2, 1):
        mine.push(ticket(seq))
    assert [each.seq for each in mine.queues[WANT]] == [1, 2, 3]


def test_cancelled_tickets_are_never_first_and_do_not_pile_up() -> None:
    """Tombstones go when they reach the front, or when there are many of them."""
    mine = flow()
    tickets = [ticket(seq) for seq in range(40)]
    for each in tickets:
        mine.push(each)
    for each in (*tickets[1:38], tickets[0]):
        each.state = State.CANCELLED
        mine.drop(each)
    assert mine.waiting() == tickets[38:]
    assert mine.queues[WANT][0] is tickets[38]
    assert len(mine.queues[WANT]) < 25
    for each in tickets[38:]:
        each.state = State.CANCELLED
        mine.drop(each)
    assert (mine.n_wait, mine.queues) == (0, {})


def test_the_gap_between_grants_counts_only_while_calls_are_left_waiting() -> None:
    """An owner that was idle in between tells nothing about its pace."""
    mine = flow()
    gaps = []
    for now, left in ((10.0, 1), (14.0, 1), (18.0, 0), (100.0, 0)):
        mine.n_wait = left
        mine.note_grant(now)
        gaps.append(mine.gap_s)
    assert gaps == [None, 4.0, 4.0, 4.0]


def test_a_lease_always_has_something_left() -> None:
    """A call that outlives its estimate is not taken to end at once."""
    lease = Lease(
        ticket=ticket(1), flow=flow(), backend=Backend(name="gpu", slots=1), est=8.0, charged=8.0, t_grant=0.0
    )
    assert (lease.elapsed_s(5.0), lease.remaining_s(5.0)) == (0.0, 8.0)
    lease.t_start = 5.0
    assert (lease.elapsed_s(8.0), lease.remaining_s(8.0)) == (3.0, 5.0)
    assert lease.remaining_s(50.0) == 2.0


def test_new_flows_go_before_old_ones() -> None:
    """Who just came has a quantum and is served before the ring goes on."""
    ring, _ = waiting(5.0)
    late = flow("late", weight=2.0)
    late.push(ticket(1))
    ring.enter(late, Q)
    assert ring.head({WANT}, Q) is late
    assert late.deficit == 2 * Q


def test_a_turn_ends_when_the_deficit_is_used_up() -> None:
    """The quantum for the next turn is given at the end of this one, with the move to the back."""
    ring, (first, second) = waiting(-1.0, 3.0)
    assert ring.head({WANT}, Q) is second
    assert first.deficit == 4.0
    assert list(ring) == [second, first]


def test_debt_is_paid_one_lap_at_a_time() -> None:
    """An idle flow in debt gets one quantum per lap, no credit, and leaves when it is even."""
    ring, (debtor, busy) = waiting(-8.0, 1.0)
    debtor.queues.clear()
    debtor.n_wait = 0
    ring.head({WANT}, Q)
    assert (debtor.deficit, debtor.where) == (-3.0, Where.OLD)
    busy.deficit = 0.0
    assert ring.head({WANT}, Q) is busy
    assert (debtor.deficit, debtor.where) == (0.0, Where.NONE)


def test_a_running_flow_keeps_its_place_but_no_credit() -> None:
    """A flow with nothing queued stays while calls run, with a balance of at most zero."""
    ring, (idle, busy) = waiting(4.0, 1.0)
    idle.queues.clear()
    idle.n_wait = 0
    lease = Lease(
        ticket=ticket(1), flow=idle, backend=Backend(name="gpu", slots=1), est=1.0, charged=1.0, t_grant=0.0
    )
    idle.leases.append(lease)
    assert ring.head({WANT}, Q) is busy
    assert (idle.deficit, idle.where) == (0.0, Where.OLD)


def test_a_flow_cannot_return_to_new_without_a_pass_through_old() -> None:
    """A flow that is served from NEW and has nothing left goes to OLD, with no credit."""
    ring = Ring()
    sparse = flow()
    ring.enter(sparse, Q)
    sparse.deficit -= 7.0
    ring.granted(sparse, Q)
    assert (sparse.where, sparse.deficit) == (Where.OLD, 0.0)


def test_flows_in_new_take_turns() -> None:
    """A flow that keeps credit after a grant lets the other newcomers go before its next one."""
    ring = Ring()
    first, second = flow("a"), flow("b")
    for each in (first, second):
        each.push(ticket(1))
        each.push(ticket(2))
        ring.enter(each, Q)
    first.deficit = 2.0
    ring.granted(first, Q)
    assert list(ring.new) == [second, first]
    second.deficit = -1.0
    ring.granted(second, Q)
    assert list(ring.new) == [second, first]
    ring.to_back(second)
    ring.granted(second, Q)
    assert list(ring) == [first, second]


def test_an_idle_flow_in_new_passes_through_old() -> None:
    """A newcomer whose calls were all cancelled is sent on through OLD and leaves from there."""
    ring, (busy,) = waiting(1.0)
    gone = flow("gone")
    ring.enter(gone, Q)
    assert ring.head({WANT}, Q) is busy
    busy.deficit = 0.0
    ring.head({WANT}, Q)
    assert gone.where is Where.NONE


def test_a_capped_flow_lets_others_by_and_keeps_its_credit() -> None:
    """A flow at its cap is skipped, and the search ends when only such flows are left."""
    ring, (capped, other) = waiting(3.0, 2.0)
    capped.owner.max_running = capped.owner.n_run = 1
    assert ring.head({WANT}, Q) is other
    assert capped.deficit == 3.0
    other.owner.max_running = other.owner.n_run = 1
    assert ring.head({WANT}, Q) is None
    capped.deficit = other.deficit = -100.0
    assert ring.head({WANT}, Q) is None


def test_deep_debt_is_passed_in_whole_laps() -> None:
    """Everybody in deep debt gets the same laps at once, so that a decision does not take thousands."""
    ring, (deep, deeper) = waiting(-50_000.0, -60_000.0)
    assert ring.head({WANT}, Q) is deep
    assert deeper.deficit - deep.deficit == pytest.approx(-10_000.0, abs=Q)
    deep.deficit = -50_000.0
    assert ring.head({Want(Lane.GENERATE, "other")}, Q) is None


def test_the_head_keeps_its_place_when_it_can_use_no_free_backend() -> None:
    """Another flow is served past it, first from credit, then by laps, or nobody is."""
    ring, (head, rich, poor) = waiting(3.0, 2.0, -12.0)
    other = Want(Lane.GENERATE, "other")
    for each in (rich, poor):
        each.push(ticket(2, "other"))
    assert ring.scan_past({other}, Q) is rich
    rich.queues.pop(other)
    assert ring.scan_past({other}, Q) is poor
    assert poor.deficit > 0
    assert next(iter(ring)) is head
    assert ring.scan_past({Want(Lane.GENERATE, "none")}, Q) is None


def test_laps_pay_the_debts_of_idle_flows_without_credit() -> None:
    """Laps bring idle flows to zero at most and waiting ones to one quantum at most."""
    ring, (usable, idle, rich) = waiting(-12.0, -7.0, 2.0)
    idle.queues.clear()
    idle.n_wait = 0
    rich.queues = {Want(Lane.GENERATE, "other"): rich.queues[WANT]}
    assert ring.laps({WANT}, Q, extra=1)
    assert (usable.deficit, idle.deficit, rich.deficit) == (3.0, 0.0, 2.0)


def test_laps_for_embeddings_leave_the_others_debts_alone() -> None:
    """A free embedding slot pays no debt of a flow that waits for a generation."""
    ring, (debtor, embedder) = waiting(-30.0, -12.0)
    embed = Want(Lane.EMBED, "e")
    embedder.queues = {embed: embedder.queues[WANT]}
    assert ring.laps({embed}, Q, extra=1)
    assert (debtor.deficit, embedder.deficit) == (-30.0, 3.0)


def test_an_overdraft_is_bounded_and_goes_to_the_least_overdrawn() -> None:
    """Out of turn a flow with credit goes first, else the one with the least debt per weight in the limit."""
    ring, (poor, poorer, capped) = waiting(-10.0, -30.0, 5.0)
    capped.owner.max_running = capped.owner.n_run = 1
    assert ring.overdrawn(WANT, 40.0) is poor.queues[WANT][0]
    assert ring.overdrawn(WANT, 10.0) is None
    poorer.owner.weight = 10.0
    assert ring.overdrawn(WANT, 40.0) is poorer.queues[WANT][0]
    poorer.deficit = 1.0
    assert ring.overdrawn(WANT, 0.0) is poorer.queues[WANT][0]
    assert ring.overdrawn(Want(Lane.GENERATE, "none"), 40.0) is None


def test_an_owner_is_active_while_it_waits_or_runs() -> None:
    """An owner with nothing waiting and nothing running is not active."""
    assert not Owner(name="alice").active
    assert Owner(name="alice", n_wait=1).active
    assert Owner(name="alice", n_run=1).active


def test_a_granted_ticket_leaves_its_queue() -> None:
    """The queue of a need goes with its last ticket."""
    mine = flow()
    for seq in (1, 2):
        mine.push(ticket(seq))
    mine.pop(mine.queues[WANT][0])
    assert mine.n_wait == 1
    mine.pop(mine.queues[WANT][0])
    assert (mine.n_wait, mine.queues) == (0, {})


def test_a_flow_in_debt_that_retires_gets_its_quantum() -> None:
    """A flow that leaves NEW in debt gets the quantum of its next turn, and keeps it if calls wait."""
    ring = Ring()
    late = flow()
    ring.enter(late, Q)
    late.push(ticket(1))
    late.deficit = -2.0
    ring.retire(late, Q)
    assert (late.where, late.deficit) == (Where.OLD, 3.0)
