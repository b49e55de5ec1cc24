"""Tests of the picture of the queue."""

from dataclasses import replace

import pytest

from gpushare.core import views
from gpushare.core.model import Lane, Service
from gpushare.core.scheduler import Params, Scheduler, ShareView, Ticket
from gpushare.core.told import Told
from tests.unit.queue import Queue


def share(used_s: float, due_s: float) -> ShareView:
    """Returns a row."""
    return ShareView(owner="o", weight=1.0, used_s=used_s, due_s=due_s, deficit_s=0.0, waiting=0, running=0)


def ticket(name: str, owner: str, model: str = "m", service: Service = Service.INTERACTIVE) -> Ticket:
    """Returns a ticket."""
    return Ticket(id=name, owner=owner, service=service, model=model)


def test_a_snapshot_shows_who_runs_and_who_waits() -> None:
    """Running calls with their age, waiting ones in order with their position, and the slots."""
    scheduler = Scheduler(Params(quantum=5.0))
    scheduler.add_backend("gpu", slots=1)
    for each in (ticket("t1", "alice"), ticket("t2", "alice", "other"), ticket("t3", "bob")):
        scheduler.add(each, 10.0)
    lease = scheduler.pick(12.0)
    assert lease is not None
    loading = scheduler.snapshot(15.0)
    assert [(row.id, row.started_s, row.swap) for row in loading.running] == [("t1", 3.0, True)]
    assert loading.backends[0].incoming == "m"
    scheduler.loaded(lease, 16.0)
    view = scheduler.snapshot(17.0)
    assert [(row.id, row.backend, row.swap) for row in view.running] == [("t1", "gpu", False)]
    waiting = [(row.id, row.position, row.since, row.swap) for row in view.waiting]
    assert waiting == [("t3", 1, 10.0, False), ("t2", 2, 10.0, True)]
    assert (view.backends[0].busy, view.backends[0].resident) == (1, ("m",))
    assert (view.granted_total, view.released_total, view.held) == (1, 0, 1)
    assert {row.owner: (row.running, row.waiting) for row in view.shares} == {"alice": (1, 1), "bob": (0, 1)}
    assert view.jain is None


def test_one_call_of_several_loads_their_model() -> None:
    """Whatever is loaded now: those behind it find it loaded, and a model it throws out is loaded again."""
    scheduler = Scheduler(Params(quantum=5.0))
    scheduler.add_backend("gpu", slots=1)
    scheduler.set_resident("gpu", ["m"], 0.0)
    for number, model in enumerate(("other", "other", "m")):
        scheduler.add(ticket(f"t{number}", "alice", model), 10.0)
    rows = scheduler.snapshot(500.0).waiting
    assert [(row.id, row.swap, row.loads) for row in rows] == [
        ("t0", True, True),
        ("t1", True, False),
        ("t2", False, True),
    ]
    lease = scheduler.pick(500.0)
    assert lease is not None
    assert [(row.id, row.loads) for row in scheduler.snapshot(501.0).waiting] == [("t1", False), ("t2", True)]


def test_only_the_calls_that_are_next_are_told_a_time() -> None:
    """In a long queue the rest stand by age, each with a place and without a time."""
    queue = Queue()
    queue.teach("o0", 1.0)
    most = views.FORECAST_MOST
    for number in range(most + 3):
        queue.send("o0", now=float(number))
    rows = queue.scheduler.snapshot(500.0).waiting
    assert [row.position for row in rows] == list(range(1, most + 4))
    assert [row.eta_s is None for row in rows] == [False] * most + [True] * 3
    assert {row.id for row in rows} == {f"t{number}" for number in range(1, most + 4)}
    assert [row.since for row in rows[most:]] == sorted(row.since for row in rows[most:])


def test_told_times_are_in_the_order_of_the_rows() -> None:
    """What was told before gives way to the order of now, each lane by itself."""
    times = Told()
    first = rows(("a", Lane.GENERATE, 40.0), ("b", Lane.GENERATE, 44.0), ("e", Lane.EMBED, 3.0))
    assert [row.eta_s for row in views.told(first, times, 1000.0).waiting] == [40, 44, 3]
    other = rows(("b", Lane.GENERATE, 41.0), ("a", Lane.GENERATE, 41.0), ("e", Lane.EMBED, 3.0))
    assert [row.eta_s for row in views.told(other, times, 1000.0).waiting] == [44, 44, 3]


def rows(*waiting: tuple[str, Lane, float]) -> views.QueueView:
    """Returns a queue with waiting calls and the times expected for them."""
    empty = Scheduler(Params()).snapshot(0.0)
    calls = [
        views.WaitingView(
            id=name,
            owner=name,
            service=Service.INTERACTIVE,
            model="m",
            since=0.0,
            position=place,
            eta_s=eta_s,
            swap=False,
            lane=lane,
        )
        for place, (name, lane, eta_s) in enumerate(waiting, start=1)
    ]
    return replace(empty, waiting=tuple(calls))


def test_the_figures_alone_are_those_of_the_whole_picture() -> None:
    """What metrics read says the same as what the page reads."""
    scheduler = Scheduler(Params(quantum=5.0))
    scheduler.add_backend("gpu", slots=1)
    for number in range(3):
        scheduler.add(ticket(f"t{number}", "alice"), 0.0)
    lease = scheduler.pick(0.0)
    assert lease is not None
    scheduler.started(lease, 0.0)
    scheduler.finished(lease, 3.0)
    scheduler.pick(3.0)
    counts, view = scheduler.counts(), scheduler.snapshot(3.0)
    assert (counts.waiting, counts.held) == (len(view.waiting), len(view.running)) == (1, 1)
    assert (
        (counts.granted_total, counts.released_total) == (view.granted_total, view.released_total) == (2, 1)
    )
    assert (counts.shares, counts.jain) == (view.shares, view.jain)


def test_shares_tell_what_was_used_and_what_was_due() -> None:
    """An owner who had all the slot-seconds while two wanted them got twice what was due."""
    scheduler = Scheduler(Params(quantum=5.0))
    scheduler.add_backend("gpu", slots=1)
    scheduler.add_backend("embed", slots=1, lane=Lane.EMBED)
    scheduler.add(ticket("t1", "alice"), 0.0)
    lease = scheduler.pick(0.0)
    assert lease is not None
    scheduler.started(lease, 0.0)
    scheduler.add(ticket("t2", "bob"), 0.0)
    scheduler.add(ticket("t3", "bob", service=Service.BACKGROUND), 0.0)
    scheduler.finished(lease, 8.0)
    rows = {row.owner: row for row in scheduler.snapshot(8.0).shares}
    assert (rows["alice"].used_s, rows["alice"].due_s) == (8.0, 4.0)
    assert (rows["bob"].used_s, rows["bob"].due_s) == (0.0, 4.0)
    assert rows["bob"].deficit_s == 10.0
    assert rows["bob"].waiting == 2


@pytest.mark.parametrize(
    ("rows", "index"),
    [
        ([], None),
        ([share(0.0, 0.0)], None),
        ([share(0.0, 5.0)], None),
        ([share(4.0, 4.0), share(9.0, 9.0)], 1.0),
        ([share(8.0, 4.0), share(0.0, 4.0)], 0.5),
    ],
)
def test_jains_index_compares_what_was_got_with_what_was_due(
    rows: list[ShareView], index: float | None
) -> None:
    """The index is 1 when all got what was due, 1/n when one got all, and unknown without anything due."""
    assert views.jain(rows) == index
