"""What must be true of the queue at any instant.

Called by: ``Scheduler.check``, which tests run after every step.

Rules: everything is counted again from the tickets, flows and leases themselves, never from another counter.
"""

import math
from collections import Counter
from collections.abc import Mapping

from gpushare.core.accounts import Accounts
from gpushare.core.backends import Backend, Want
from gpushare.core.flows import Flow, Ring, State, Where

SLACK_S = 1e-6  # floating-point sums of slot-seconds


def check(accounts: Accounts, backends: Mapping[str, Backend], *, estimate_cap: float) -> None:
    """Verifies the accounts and the slots.

    Raises:
        AssertionError: names what is broken.
    """
    _check_slots(accounts, backends)
    _check_counts(accounts)
    for flow in accounts.flows.values():
        _check_flow(flow, accounts.rings[flow.service])
    _check_balances(accounts, estimate_cap)


def _require(truth: object, what: str, *details: object) -> None:
    if not truth:
        raise AssertionError(f"{what}: {', '.join(map(str, details))}")


def _check_slots(accounts: Accounts, backends: Mapping[str, Backend]) -> None:
    held = Counter(lease.backend.name for lease in accounts.leases)
    for name, backend in backends.items():
        _require(backend.busy == held[name] >= 0, "busy is the number of leases", name, backend.busy, held)
        waits_for_load = {
            lease.ticket.model
            for lease in accounts.leases
            if lease.backend is backend and lease.t_start is None
        }
        _require(
            backend.incoming is None or backend.incoming in waits_for_load,
            "a pending swap has a call that waits for it",
            backend.incoming,
        )
    for lease in accounts.leases:
        _require(not lease.released, "a lease in the list is not released", lease)
        _require(lease.ticket.lease is lease, "a ticket knows its one lease", lease)
        _require(lease.ticket.state in (State.GRANTED, State.RUNNING), "a lease's ticket runs", lease)


def _check_counts(accounts: Accounts) -> None:
    wanted: Counter[Want] = Counter()
    by_owner: Counter[str] = Counter()
    for service, ring in accounts.rings.items():
        flows = [flow for flow in accounts.flows.values() if flow.service is service]
        tickets = [ticket for flow in flows for ticket in flow.waiting()]
        _require(ring.n_wait == len(tickets), "a ring counts its waiting tickets", service, ring.n_wait)
        wanted.update(ticket.want for ticket in tickets)
        by_owner.update(ticket.owner for ticket in tickets)
    _require(accounts.wanted == wanted, "needs are counted", accounts.wanted, wanted)
    _require(accounts.n_wait == wanted.total(), "all waiting tickets are counted", accounts.n_wait)
    running = Counter(lease.flow.owner.name for lease in accounts.leases)
    for name, owner in accounts.owners.items():
        _require(owner.n_wait == by_owner[name], "an owner counts its waiting tickets", owner)
        _require(owner.n_run == running[name], "an owner counts its running calls", owner)


def _check_flow(flow: Flow, ring: Ring) -> None:
    in_new, in_old = flow in ring.new, flow in ring.old
    _require(in_new == (flow.where is Where.NEW), "NEW holds the flows that say so", flow.where)
    _require(in_old == (flow.where is Where.OLD), "OLD holds the flows that say so", flow.where)
    _require(flow.n_wait == len(flow.waiting()), "a flow counts its waiting tickets", flow.n_wait)
    if flow.where is Where.NONE:
        _require(not flow.n_wait, "a flow outside waits for nothing", flow.n_wait)
        _require(not flow.leases, "a flow outside runs nothing", flow.leases)
        _require(flow.deficit == 0, "a flow outside has no balance", flow.deficit)
    for want, queue in flow.queues.items():
        _require(queue and queue[0].state is State.QUEUED, "the first of a queue waits", want)
        ages = [ticket.seq for ticket in queue]
        _require(ages == sorted(ages), "tickets with one need stand by age", want, ages)


def _check_balances(accounts: Accounts, estimate_cap: float) -> None:
    """Credit is at most one quantum and the refunds of calls that were running when it was given."""
    most = accounts.most_leases * estimate_cap
    for flow in accounts.flows.values():
        _require(flow.deficit <= flow.credit + most + SLACK_S, "credit is bounded", flow.deficit, flow.credit)
    held = sum(lease.charged for lease in accounts.leases)
    _require(
        math.isclose(accounts.charged_s, accounts.used_s + held, rel_tol=1e-9, abs_tol=SLACK_S),
        "charges less refunds are the costs",
        accounts.charged_s,
        accounts.used_s + held,
    )
