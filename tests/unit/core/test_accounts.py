"""Tests of balances, of levelling, and of what sharing owed."""

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gpushare.core.accounts import FORGET_AFTER_S, Accounts
from gpushare.core.backends import Backend
from gpushare.core.flows import Lease, State, Ticket, Where
from gpushare.core.model import Service

Q = 5.0


def enqueue(accounts: Accounts, owner: str, now: float, service: Service = Service.INTERACTIVE) -> Ticket:
    """Adds a waiting ticket."""
    ticket = Ticket(id="t", owner=owner, service=service, model="m", state=State.QUEUED)
    accounts.enqueue(ticket, now, quantum=Q)
    return ticket


def grant(accounts: Accounts, ticket: Ticket, *, est: float, now: float, start: float | None = None) -> Lease:
    """Opens a lease for a waiting ticket."""
    ticket.state = State.GRANTED
    lease = Lease(
        ticket=ticket,
        flow=accounts.flow(ticket.owner, ticket.service),
        backend=Backend(name="gpu", slots=1),
        est=est,
        charged=est,
        t_grant=now,
    )
    accounts.open_lease(lease)
    if start is not None:
        accounts.start_lease(lease, start)
    return lease


def test_a_call_is_charged_its_estimate_then_its_overrun_then_its_cost() -> None:
    """The estimate is charged at the grant, more as time passes, and the end settles the rest."""
    accounts = Accounts()
    lease = grant(accounts, enqueue(accounts, "alice", 0.0), est=4.0, now=0.0, start=0.0)
    flow = lease.flow
    assert flow.deficit == Q - 4.0
    accounts.accrue(3.0)
    assert flow.deficit == Q - 4.0
    accounts.accrue(6.0)
    assert flow.deficit == Q - 6.0
    accounts.close_lease(lease, 6.5, 6.5)
    assert (flow.deficit, accounts.charged_s, accounts.used_s) == (Q - 6.5, 6.5, 6.5)


@given(st.lists(st.tuples(st.floats(0.1, 9.0), st.floats(0.0, 5.0)), max_size=12), st.randoms())
def test_only_calls_beyond_their_estimates_are_charged_and_all_of_them(
    calls: list[tuple[float, float]], rng: random.Random
) -> None:
    """Whatever starts and ends in between, an accrual leaves each running call charged what it has used."""
    accounts = Accounts()
    for est, start in calls:
        ticket = enqueue(accounts, "alice", 0.0)
        grant(accounts, ticket, est=est, now=0.0, start=start if rng.random() < 0.8 else None)
    for now in (5.0, 6.0, 8.0, 11.0, 20.0):
        accounts.accrue(now)
        for lease in accounts.leases:
            assert lease.charged == max(lease.est, lease.elapsed_s(now))
        if accounts.leases:
            lease = rng.choice(list(accounts.leases))
            accounts.close_lease(lease, lease.elapsed_s(now), now)
    held = sum(lease.charged for lease in accounts.leases)
    assert accounts.charged_s == pytest.approx(accounts.used_s + held)


def test_a_call_that_did_not_start_is_refunded() -> None:
    """The end of a call that used nothing gives the whole estimate back."""
    accounts = Accounts()
    lease = grant(accounts, enqueue(accounts, "alice", 0.0), est=4.0, now=0.0)
    accounts.accrue(100.0)
    accounts.close_lease(lease, 0.0, 100.0)
    assert (lease.flow.deficit, accounts.charged_s) == (Q, 0.0)


def test_levelling_forgives_all_but_what_is_paid_ahead() -> None:
    """When somebody starts to wait after nobody did, idle flows leave and running ones keep their refund."""
    accounts = Accounts()
    done = grant(accounts, enqueue(accounts, "alice", 0.0), est=4.0, now=0.0, start=0.0)
    runs = grant(accounts, enqueue(accounts, "bob", 0.0), est=9.0, now=0.0)
    accounts.close_lease(done, 50.0, 50.0)
    accounts.start_lease(runs, 48.0)
    enqueue(accounts, "carol", 50.0)
    assert (done.flow.where, done.flow.deficit) == (Where.NONE, 0.0)
    assert (runs.flow.where, runs.flow.deficit) == (Where.OLD, -7.0)


def test_balances_stay_while_anybody_waits() -> None:
    """Another call that comes while somebody waits changes no balance."""
    accounts = Accounts()
    lease = grant(accounts, enqueue(accounts, "alice", 0.0), est=4.0, now=0.0, start=0.0)
    enqueue(accounts, "bob", 1.0)
    accounts.close_lease(lease, 30.0, 30.0)
    debt = lease.flow.deficit
    enqueue(accounts, "carol", 30.0)
    assert lease.flow.deficit == debt == -29.0  # levelled at 1 s: from there on 29 s were used


def test_a_class_that_wakes_up_gets_no_credit_for_sleeping() -> None:
    """The clock of a class without waiting calls is brought up to the others'."""
    accounts = Accounts()
    lease = grant(accounts, enqueue(accounts, "alice", 0.0), est=4.0, now=0.0, start=0.0)
    enqueue(accounts, "alice", 1.0)
    accounts.close_lease(lease, 30.0, 30.0)
    assert accounts.woken(Service.BACKGROUND) == 30.0
    enqueue(accounts, "bob", 30.0, Service.BACKGROUND)
    assert accounts.virtual[Service.BACKGROUND] == 30.0


def test_classes_go_by_virtual_time() -> None:
    """The class that has had less for its weight is tried first."""
    accounts = Accounts()
    accounts.class_weight[Service.BACKGROUND] = 0.1
    front, back = accounts.rings[Service.INTERACTIVE], accounts.rings[Service.BACKGROUND]
    assert accounts.rings_in_order() == []
    enqueue(accounts, "alice", 0.0)
    enqueue(accounts, "bob", 0.0, Service.BACKGROUND)
    assert accounts.rings_in_order() == [front, back]
    accounts.debit(accounts.flow("alice", Service.INTERACTIVE), 1.0)
    assert accounts.rings_in_order() == [back, front]
    accounts.debit(accounts.flow("bob", Service.BACKGROUND), 0.2)
    assert accounts.rings_in_order() == [front, back]


def test_what_is_due_follows_weights_and_presence() -> None:
    """Each slot-second is owed, by weight, to everybody who waits or runs when it is settled."""
    accounts = Accounts()
    accounts.set_weight(accounts.owner("bob"), 3.0)
    first = grant(accounts, enqueue(accounts, "alice", 0.0), est=4.0, now=0.0, start=0.0)
    second = grant(accounts, enqueue(accounts, "bob", 0.0), est=4.0, now=0.0, start=0.0)
    accounts.close_lease(first, 8.0, 8.0)
    alice, bob = accounts.owner("alice"), accounts.owner("bob")
    assert (accounts.due_s(alice), accounts.due_s(bob)) == (2.0, 6.0)
    accounts.set_weight(bob, 1.0)
    accounts.close_lease(second, 4.0, 9.0)
    assert (accounts.due_s(alice), accounts.due_s(bob)) == (2.0, 10.0)
    assert accounts.due_s(alice) + accounts.due_s(bob) == accounts.used_s


def test_a_cancelled_call_is_uncounted_and_uncharged() -> None:
    """A withdrawn ticket leaves no count and no charge behind."""
    accounts = Accounts()
    ticket = enqueue(accounts, "alice", 0.0)
    enqueue(accounts, "alice", 0.0)
    ticket.state = State.CANCELLED
    accounts.withdraw(ticket, 1.0)
    assert (accounts.n_wait, accounts.owner("alice").n_wait, accounts.charged_s) == (1, 1, 0.0)
    assert list(accounts.wanted.values()) == [1]


@pytest.mark.parametrize(("later", "kept"), [(FORGET_AFTER_S - 1, True), (FORGET_AFTER_S + 1, False)])
def test_flows_that_were_idle_for_long_are_forgotten(later: float, *, kept: bool) -> None:
    """A flow out of its ring for an hour is dropped, so that the table stays bounded."""
    accounts = Accounts()
    lease = grant(accounts, enqueue(accounts, "alice", 10.0), est=4.0, now=10.0, start=10.0)
    accounts.close_lease(lease, 1.0, 10.0)
    enqueue(accounts, "bob", 10.0 + later)
    enqueue(accounts, "carol", 10.0 + 2 * FORGET_AFTER_S)
    assert ("alice", Service.INTERACTIVE) not in accounts.flows
    assert ("bob", Service.INTERACTIVE) in accounts.flows
    assert kept or accounts.owner("alice").used_s == 1.0
