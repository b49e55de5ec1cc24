"""A call that nobody stands before passes through; the books are those of one that queued."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core.model import Lane, Service
from gpushare.core.scheduler import Lease, Params, Scheduler, State, Ticket

Step = tuple[str, str, str, float]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "call", "call", "start", "end", "end", "pause", "resume"]),
        st.sampled_from(["alice", "bob", "carol"]),
        st.sampled_from(["small", "small", "large"]),
        st.sampled_from([0.0, 0.01, 3.0, 40.0, 4000.0]),
    ),
    max_size=40,
)


class Books:
    """One scheduler that is driven with or without the short way."""

    def __init__(self, *, at_once: bool, slots: int) -> None:
        self.at_once = at_once
        self.taken = 0
        self.now = 0.0
        self.held: list[Lease] = []
        self.scheduler = Scheduler(Params())
        self.scheduler.add_backend("gpu", slots=slots)
        self.scheduler.add_backend("embed", slots=2, lane=Lane.EMBED)
        self.scheduler.set_resident("gpu", ["small"], 0.0)
        self.scheduler.set_owner("carol", weight=2.0, max_running=1)

    def play(self, steps: Sequence[Step]) -> None:
        for number, (what, owner, model, seconds) in enumerate(steps):
            self.now += seconds
            self.step(what, owner, model, f"t{number}")
            self.scheduler.check()

    def step(self, what: str, owner: str, model: str, name: str) -> None:
        scheduler, now = self.scheduler, self.now
        if what in ("pause", "resume"):
            scheduler.set_paused(what == "pause", now)
        elif what == "call":
            self.call(owner, model, name)
        elif self.held and what == "start":
            scheduler.started(self.held[-1], now)
        elif self.held:
            scheduler.finished(self.held.pop(0), now)
        while (lease := scheduler.pick(now)) is not None:
            self.held.append(lease)

    def call(self, owner: str, model: str, name: str) -> None:
        service = Service.BACKGROUND if owner == "bob" else Service.INTERACTIVE
        ticket = Ticket(id=name, owner=owner, service=service, model=model)
        lease = self.scheduler.take_at_once(ticket, self.now) if self.at_once else None
        if lease is None:
            assert ticket.state is State.NEW
            self.scheduler.add(ticket, self.now)
        else:
            self.taken += 1
            self.held.append(lease)

    def pages(self) -> Any:
        """Everything there is to compare."""
        accounts = self.scheduler.accounts
        flows = {
            key: (flow.deficit, flow.credit, flow.n_wait, flow.where, flow.gap_s, flow.last_grant)
            for key, flow in accounts.flows.items()
            if flow.where != "none" or flow.n_wait
        }
        rings = [[flow.owner.name for flow in ring] for ring in accounts.rings.values()]
        return (
            flows,
            rings,
            accounts.virtual,
            accounts.charged_s,
            [(lease.ticket.id, lease.ticket.seq, lease.est, lease.charged) for lease in self.held],
            self.scheduler.snapshot(self.now),
        )


@given(STEPS, st.integers(1, 3))
def test_the_short_way_leaves_the_books_of_the_long_one(steps: list[Step], slots: int) -> None:
    """Whatever happens before and after, nobody can tell which way a call came."""
    short, long = Books(at_once=True, slots=slots), Books(at_once=False, slots=slots)
    short.play(steps)
    long.play(steps)
    assert short.pages() == long.pages()


def test_a_call_that_finds_a_free_slot_passes_through() -> None:
    """The short way is taken, or the comparison above would compare nothing."""
    books = Books(at_once=True, slots=1)
    books.play([("call", "alice", "small", 0.0), ("end", "", "", 2.0), ("call", "alice", "small", 1.0)])
    assert books.taken == 2


@pytest.mark.parametrize(
    "before",
    [
        [("call", "bob", "small", 0.0)],  # no slot is free
        [("pause", "", "", 0.0)],
        [("call", "bob", "large", 0.0)],  # a model is being loaded
    ],
)
def test_a_call_with_something_before_it_queues(before: list[Step]) -> None:
    """Nothing is taken that the queue would not have given."""
    books = Books(at_once=True, slots=1)
    books.play(before)
    taken = books.taken
    books.play([("call", "alice", "small", 0.0)])
    assert books.taken == taken
