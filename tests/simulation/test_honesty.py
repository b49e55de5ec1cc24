"""How far what waiting people are told is from what happens."""

import random

import pytest

from gpushare.core.flows import Ticket
from gpushare.core.habits import NEEDED
from gpushare.core.model import Service
from gpushare.core.scheduler import Params, Scheduler
from tests.simulation.afternoon import CASES, Afternoon, Case, figures, play
from tests.simulation.simulator import Simulation

LOAD_S = 7.0


@pytest.fixture(scope="module", params=CASES, ids=str)
def afternoon(request: pytest.FixtureRequest) -> Afternoon:
    """Returns one afternoon of each kind."""
    case: Case = request.param
    return play(case, seeds=range(1, 2), hours=2.0)[0]


def test_what_is_told_is_about_right(afternoon: Afternoon) -> None:
    """Half of what is told is off by less than two fifths of the wait, and most of it by less than half."""
    first = figures([note for note in afternoon.notes if note.first], lambda note: note.told)
    later = figures([note for note in afternoon.notes if not note.first], lambda note: note.told)
    assert first.median_part < 0.4
    assert later.median_part < 0.4
    assert first.wrong_by_half < 0.4
    assert later.wrong_by_half < 0.4


def test_what_is_told_is_nearer_than_the_simple_formula(afternoon: Afternoon) -> None:
    """Playing the queue forward is worth it: half of the errors are smaller, and so are the large ones."""
    told = figures(afternoon.notes, lambda note: note.told)
    simple = figures(afternoon.notes, lambda note: note.simple)
    assert told.median_s < 0.8 * simple.median_s
    assert told.p90_s < simple.p90_s
    assert told.median_part < simple.median_part
    assert told.wrong_by_half < simple.wrong_by_half


@pytest.mark.parametrize("case", CASES, ids=str)
def test_most_of_what_is_wrong_is_what_nobody_knows(case: Case) -> None:
    """With the lengths of calls known beforehand, half of what is told is off by less than an eighth."""
    (sim,) = play(case, seeds=range(1, 2), hours=2.0, foreseen=True)
    first = figures([note for note in sim.notes if note.first], lambda note: note.told)
    assert first.median_part < 0.125
    assert first.wrong_by_half < 0.2


def test_few_are_told_that_there_is_no_estimate(afternoon: Afternoon) -> None:
    """Once the models were used a few times, everybody is told a time; before that, nobody is."""
    settled = [note for note in afternoon.notes if note.at > 1800.0]
    assert sum(note.told is None for note in settled) / len(settled) < 0.05
    assert {note.told for note in afternoon.notes if note.at < 30.0} <= {None}


def test_nobody_is_told_to_start_before_somebody_in_front(afternoon: Afternoon) -> None:
    """In the order of the rows, the told times never decrease."""
    assert afternoon.decreasing == 0


@pytest.mark.parametrize("seed", range(40))
def test_what_holds_nothing_unknown_is_foretold_exactly(seed: int) -> None:
    """With lengths and loads that never change, and nobody who comes or leaves, every told time is kept."""
    rng = random.Random(seed)
    params = Params(stay_on_model=rng.choice([0.0, 20.0, 60.0]), quantum=rng.choice([None, 5.0]))
    scheduler = Scheduler(params)
    scheduler.add_backend("gpu", slots=rng.randint(1, 3))
    models = ["a", "b", "c"][: rng.randint(1, 3)]
    lengths = {(f"o{n}", model): rng.uniform(0.5, 20.0) for n in range(5) for model in models}
    for (owner, model), length in lengths.items():
        teach(scheduler, owner, model, length)
        scheduler.set_owner(owner, weight=rng.choice([0.5, 1.0, 2.0]), max_running=rng.choice([0, 0, 1, 2]))
    sim = Simulation(scheduler, load_s=LOAD_S)
    for _ in range(30):
        owner, model = rng.choice(list(lengths))
        sim.submit(owner, lengths[owner, model], model=model, service=rng.choice(list(Service)))
    told: list[tuple[float, dict[str, float | None]]] = []
    for now in sorted(rng.uniform(0, 200.0) for _ in range(6)):
        sim.run(now)
        told.append((now, {row.id: row.eta_s for row in scheduler.snapshot(now).waiting}))
    sim.run(3000.0)
    started = {job.ticket.id: job.started for job in sim.jobs if job.started is not None}
    assert len(started) == 30
    for now, rows in told:
        assert rows == pytest.approx({call: min(600.0, started[call] - now) for call in rows}), now


def teach(scheduler: Scheduler, owner: str, model: str, length_s: float) -> None:
    """Tells the scheduler what the calls of an owner cost, and how long the model loads."""
    for _ in range(NEEDED):
        scheduler.habits.took(Ticket(id="", owner=owner, service=Service.INTERACTIVE, model=model), length_s)
    scheduler.costs.learn(owner, model, length_s)
    scheduler.habits.loaded(model, LOAD_S)
