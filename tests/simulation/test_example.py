"""The numbers of docs/queue.md, played on the real scheduler."""

import re
from functools import partial
from pathlib import Path

import pytest

from gpushare.core.model import Service
from gpushare.core.scheduler import Lease, Params, Scheduler, Ticket
from tests.simulation.simulator import MODEL, Simulation

PAGE = (Path(__file__).parents[2] / "docs" / "queue.md").read_text()
QUANTUM_S = 4.0
COSTS_S = {"agent": 12.0, "script": 4.0, "alice": 4.0}
# When, who, and how many calls at once.
SENT = [(0.0, "agent", 3), (1.0, "script", 8), (2.0, "alice", 1), (30.0, "alice", 1)]


def table(first_header: str) -> list[list[str]]:
    """Returns the cells of the table whose first column has this header."""
    rows = re.search(rf"^\| {first_header} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert rows, first_header
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in rows[1].splitlines()]


def number(text: str) -> float:
    """Returns the number a cell begins with."""
    return float(text.split(maxsplit=1)[0])


def one_slot() -> Scheduler:
    """Returns a scheduler with one slot, the model in memory, that knows what everybody's calls cost."""
    scheduler = Scheduler(Params(quantum=QUANTUM_S))
    scheduler.add_backend("gpu", slots=1)
    scheduler.set_resident("gpu", [MODEL], 0.0)
    for owner, cost_s in COSTS_S.items():
        scheduler.costs.learn(owner, MODEL, cost_s)
    return scheduler


def balances(scheduler: Scheduler) -> dict[str, float]:
    """Returns the balance of everybody who has come so far."""
    return {share.owner: share.deficit_s for share in scheduler.snapshot(0.0).shares}


def test_the_example_is_what_the_scheduler_does() -> None:
    """Every line of the table: who gets the slot, when, and everybody's balance just after it."""
    sim = Simulation(one_slot(), checked=True)
    played: list[str] = []

    def look() -> None:
        for job in sim.running:
            line = f"{job.started} {job.owner} {balances(sim.scheduler)}"
            if job.started == sim.now and line not in played:
                played.append(line)

    def send(owner: str, count: int) -> None:
        for _ in range(count):
            sim.submit(owner, COSTS_S[owner])

    sim.watchers.append(look)
    for at, owner, count in SENT:
        sim.after(at, partial(send, owner, count))
    sim.run(100.0)
    shown = []
    for when, owner, *cells in table("at"):
        there = {name: number(cell) for name, cell in zip(COSTS_S, cells, strict=True) if cell}
        shown.append(f"{number(when)} {owner} {there}")
    assert played == shown


def test_in_order_of_arrival_alice_would_have_waited() -> None:
    """The page says when her first question would have started without turns."""
    before = sum(count * COSTS_S[owner] for _, owner, count in SENT if owner != "alice")
    assert f"her first question would have started at {before:.0f} s" in " ".join(PAGE.split())


def grant_of_bob() -> tuple[Scheduler, Lease]:
    """Returns a scheduler that has just given bob a slot, for a call expected to take 4 s."""
    scheduler = one_slot()
    scheduler.costs.learn("bob", MODEL, 4.0)
    scheduler.add(Ticket(id="1", owner="bob", service=Service.INTERACTIVE, model=MODEL), 0.0)
    lease = scheduler.pick(0.0)
    assert lease
    scheduler.started(lease, 0.0)
    return scheduler, lease


def test_a_call_is_charged_as_the_page_says() -> None:
    """The estimate at once, what exceeds it as it passes, the truth at the end."""
    scheduler, lease = grant_of_bob()
    rows = table("after")
    for after, charged, balance in rows:
        now = number(after)
        if (after, charged, balance) == tuple(rows[-1]):
            scheduler.finished(lease, now)
        scheduler.set_params(scheduler.params, now)  # charges what has been used so far
        assert (lease.charged, balances(scheduler)["bob"]) == (number(charged), number(balance))


def test_who_leaves_early_gets_the_rest_back() -> None:
    """The page says what is left after a second."""
    scheduler, lease = grant_of_bob()
    scheduler.finished(lease, 1.0, ok=False)
    left = balances(scheduler)["bob"]
    assert f"left after 1 s, the balance would be {left:.0f} s" in " ".join(PAGE.split())


@pytest.mark.parametrize("name", COSTS_S)
def test_the_text_says_what_everybody_sends(name: str) -> None:
    """The story above the table is the one that is played."""
    story = " ".join(PAGE.split())
    assert re.search(rf"\*{name}\* [^.]* of {COSTS_S[name]:.0f} s", story)
