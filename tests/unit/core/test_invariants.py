"""Tests that the check of the queue notices what is broken."""

from collections.abc import Callable

import pytest

from gpushare.core.flows import Where
from gpushare.core.model import Service
from gpushare.core.scheduler import Params, Scheduler, State, Ticket


def busy() -> Scheduler:
    """Returns a sound scheduler with a running and two waiting calls of alice, and an idle owner bob."""
    scheduler = Scheduler(Params(quantum=5.0))
    scheduler.add_backend("gpu", slots=1)
    for name, owner in (("t0", "bob"), ("t1", "alice"), ("t2", "alice"), ("t3", "alice")):
        scheduler.add(Ticket(id=name, owner=owner, service=Service.INTERACTIVE, model="m"), 0.0)
    first = scheduler.pick(0.0)
    assert first is not None
    scheduler.loaded(first, 0.0)
    scheduler.finished(first, 5.0)
    running = scheduler.pick(5.0)
    assert running is not None
    scheduler.check()
    return scheduler


def change(path: str, value: object) -> Callable[[Scheduler], None]:
    """Returns a change of one attribute of alice's flow, her owner, the ring, the backend or the accounts."""

    def apply(scheduler: Scheduler) -> None:
        accounts = scheduler.accounts
        alice = accounts.flow("alice", Service.INTERACTIVE)
        places = {
            "flow": alice,
            "owner": alice.owner,
            "ring": accounts.rings[Service.INTERACTIVE],
            "backend": scheduler.backends["gpu"],
            "accounts": accounts,
            "lease": next(iter(accounts.leases)),
            "ticket": next(iter(accounts.leases)).ticket,
        }
        place, name = path.split(".")
        setattr(places[place], name, value)

    return apply


def reverse(scheduler: Scheduler) -> None:
    """Turns a queue round."""
    for queue in scheduler.accounts.flow("alice", Service.INTERACTIVE).queues.values():
        queue.reverse()


def cancel_in_secret(scheduler: Scheduler) -> None:
    """Cancels the first of a queue without telling anybody."""
    for queue in scheduler.accounts.flow("alice", Service.INTERACTIVE).queues.values():
        queue[0].state = State.CANCELLED


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (change("backend.busy", 2), "busy is the number of leases"),
        (change("backend.incoming", "x"), "a pending swap has a call that waits for it"),
        (change("lease.released", True), "a lease in the list is not released"),
        (change("ticket.lease", None), "a ticket knows its one lease"),
        (change("ticket.state", State.DONE), "a lease's ticket runs"),
        (change("ring.n_wait", 7), "a ring counts its waiting tickets"),
        (change("accounts.wanted", {}), "needs are counted"),
        (change("accounts.n_wait", 7), "all waiting tickets are counted"),
        (change("owner.n_wait", 7), "an owner counts its waiting tickets"),
        (change("owner.n_run", 7), "an owner counts its running calls"),
        (change("flow.where", Where.NONE), "holds the flows that say so"),
        (change("flow.n_wait", 7), "a flow counts its waiting tickets"),
        (change("flow.deficit", 1e6), "credit is bounded"),
        (change("accounts.charged_s", 7.0), "charges less refunds are the costs"),
        (reverse, "tickets with one need stand by age"),
        (cancel_in_secret, "waiting tickets"),
    ],
)
def test_what_is_broken_is_named(fault: Callable[[Scheduler], None], what: str) -> None:
    """Each fault makes the check fail with the rule it breaks."""
    scheduler = busy()
    fault(scheduler)
    with pytest.raises(AssertionError, match=what):
        scheduler.check()


def test_a_flow_outside_its_ring_has_no_balance() -> None:
    """A flow that left with a debt is noticed."""
    scheduler = busy()
    bob = scheduler.accounts.flow("bob", Service.INTERACTIVE)
    scheduler.accounts.rings[Service.INTERACTIVE].leave(bob)
    bob.deficit = -1.0
    with pytest.raises(AssertionError, match="a flow outside has no balance"):
        scheduler.check()
