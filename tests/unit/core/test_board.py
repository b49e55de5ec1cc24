"""Tests of the board: a copy goes on as the board itself does, and leaves it alone."""

import random
from copy import deepcopy

import pytest

from gpushare.core.backends import Backend
from gpushare.core.board import Board
from gpushare.core.flows import State, Ticket, Where
from gpushare.core.model import Lane, Service


def new_board(rng: random.Random) -> Board:
    """Returns an empty board with slots in both lanes."""
    board = Board()
    board.backends["gpu"] = Backend(name="gpu", slots=rng.randint(1, 3))
    board.backends["embed"] = Backend(name="embed", slots=1, lane=Lane.EMBED)
    board.accounts.owner("o0").max_running = 1
    board.accounts.owner("o1").weight = 2.0
    return board


def play(board: Board, rng: random.Random, now: float, steps: int) -> tuple[float, list[object]]:
    """Lets calls come, start and end at random; returns the time and everything that was to be seen."""
    seen: list[object] = []
    for _ in range(steps):
        now += rng.expovariate(1.0)
        happens, which = rng.random(), rng.random()
        leases = list(board.accounts.leases)
        if happens < 0.45 or not leases:
            add(board, rng, now)
        elif (lease := leases[int(which * len(leases))]).t_start is None and happens < 0.8:
            board.start(lease, now)
        else:
            board.end(lease, lease.elapsed_s(now), now)
        while (free := board.free()) and (choice := board.choose(now, free, quantum=5.0, stay=lambda: 20.0)):
            seen.append(board.grant(*choice, est=3.0, now=now, quantum=5.0).ticket.id)
        seen.append(state(board))
    return now, seen


def add(board: Board, rng: random.Random, now: float) -> None:
    """A call comes."""
    ticket = Ticket(
        id=f"t{now}",
        owner=f"o{rng.randrange(5)}",
        service=rng.choice(list(Service)),
        model=rng.choice("abc"),
        lane=Lane.EMBED if rng.random() < 0.2 else Lane.GENERATE,
        state=State.QUEUED,
        seq=int(now * 1e6),
    )
    board.accounts.enqueue(ticket, now, quantum=5.0)


def state(board: Board) -> object:
    """Returns all that decides what comes next."""
    accounts = board.accounts
    flows = sorted(
        (flow.owner.name, flow.service.value, flow.deficit, flow.n_wait, flow.owner.n_run)
        for flow in accounts.flows.values()
        if flow.where is not Where.NONE
    )
    leases = [(lease.ticket.id, lease.t_start, lease.charged, lease.swap) for lease in accounts.leases]
    backends = [
        (each.busy, dict(each.resident), each.incoming, each.load_since) for each in board.backends.values()
    ]
    return flows, dict(accounts.virtual), accounts.n_wait, dict(accounts.wanted), leases, backends


def load(backend: Backend) -> tuple[str | None, float | None]:
    """Returns what is being loaded, and since when."""
    return backend.incoming, backend.load_since


@pytest.mark.parametrize("seed", range(30))
def test_a_copy_goes_on_as_the_board_does(seed: int) -> None:
    """The same events bring the same grants, charges and swaps on both, and neither feels the other."""
    rng = random.Random(seed)
    board = new_board(rng)
    now, _ = play(board, rng, 0.0, 60)
    before = deepcopy(state(board))
    copy, again = board.copy(), random.Random()
    again.setstate(rng.getstate())
    _, foreseen = play(copy, again, now, 60)
    assert state(board) == before
    _, happened = play(board, rng, now, 60)
    assert happened == foreseen


def test_a_load_begins_when_nothing_of_the_old_model_runs() -> None:
    """The barrier is up from the grant; the load can begin once what ran of the old model has ended."""
    board = new_board(random.Random(0))
    board.backends["gpu"].slots = 2
    tickets = [
        Ticket(id=model, owner="o2", service=Service.INTERACTIVE, model=model, state=State.QUEUED, seq=seq)
        for seq, model in enumerate("ab")
    ]
    for ticket in tickets:
        board.accounts.enqueue(ticket, 0.0, quantum=5.0)
    gpu = board.backends["gpu"]
    old = board.grant(tickets[0], gpu, est=1.0, now=0.0, quantum=5.0)
    assert load(gpu) == ("a", 0.0)
    board.start(old, 2.0)
    swap = board.grant(tickets[1], gpu, est=1.0, now=3.0, quantum=5.0)
    assert load(gpu) == ("b", None)
    board.end(old, 3.0, 5.0)
    assert load(gpu) == ("b", 5.0)
    board.start(swap, 9.0)
    assert load(gpu)[0] is None
    assert list(gpu.resident) == ["b"]
