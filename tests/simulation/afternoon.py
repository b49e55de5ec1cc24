"""Simulated afternoons: what waiting people were told, and what then happened.

``python -m tests.simulation.afternoon`` prints the table of docs/queue.md.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from gpushare.core.flows import Ticket
from gpushare.core.forecast import LONGEST_S
from gpushare.core.habits import Habits
from gpushare.core.model import Service
from gpushare.core.scheduler import Params, Scheduler
from tests.simulation.simulator import Cost, Job, Simulation, quantile

HOUR_S = 3600.0
LOOK_EVERY_S = 10.0
LONG_S = 10.0  # of shorter waits only the absolute error says anything
CODER, CHAT, LARGE = "coder:30b", "chat:8b", "chat:27b"
LOADS_S = {CODER: 14.0, CHAT: 5.0, LARGE: 11.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of afternoon."""

    models: int
    slots: int

    def __str__(self) -> str:
        return f"{self.models} model{'s' * (self.models > 1)}, {self.slots} slot{'s' * (self.slots > 1)}"


CASES = [Case(models=models, slots=slots) for models in (1, 3) for slots in (1, 2)]


@dataclass(slots=True, kw_only=True)
class Note:
    """What was said of one waiting call at one moment.

    ``first``: as it came.  ``simple`` is what the simple formula says: the calls before it, those that run
    included, times the mean cost of all calls, by the number of slots.
    """

    job: Job
    at: float
    first: bool
    told: float | None
    simple: float

    @property
    def real_s(self) -> float:
        """The time it really took from then on, cut where the page says no more than "more than 10 min"."""
        assert self.job.started is not None
        return min(self.job.started - self.at, LONGEST_S)


class Foresight(Habits):
    """Habits that know beforehand how long each call of a simulation takes, and nothing else.

    Args:
        job_of: returns the job of a ticket's id, None of one that is only expected.
    """

    def __init__(self, job_of: Callable[[str], Job | None]) -> None:
        super().__init__()
        self._job_of = job_of

    def length_s(self, ticket: Ticket) -> float:
        """Returns the length of a call."""
        job = self._job_of(ticket.id)
        return job.cost_s if job else super().length_s(ticket)

    def left_s(self, ticket: Ticket, elapsed_s: float) -> float:
        """Returns what is left of a call."""
        job = self._job_of(ticket.id)
        return max(0.0, job.cost_s - elapsed_s) if job else super().left_s(ticket, elapsed_s)


class Afternoon(Simulation):
    """Seven people on one GPU: three who chat, two agents, a script, and a background script.

    Args:
        case: how many models and slots there are.
        seed: decides everything else.
        foreseen: the lengths of calls are known beforehand.
    """

    def __init__(self, case: Case, seed: int, *, foreseen: bool = False) -> None:
        scheduler = Scheduler(Params())
        scheduler.add_backend("gpu", slots=case.slots)
        super().__init__(scheduler)
        if foreseen:
            scheduler.habits = Foresight(self._by_ticket.get)
        self.notes: list[Note] = []
        self.decreasing = 0
        self._case = case
        self._rng = random.Random(seed)
        models = (CODER, CHAT, LARGE)[: case.models]
        coder, chat, large = (models[index % case.models] for index in range(3))
        scheduler.set_resident("gpu", [coder], 0.0)
        for name, model, mean_s, think_s in (
            ("alice", chat, 9.0, 90.0),
            ("bob", chat, 14.0, 120.0),
            ("carol", large, 11.0, 100.0),
        ):
            self._chats(name, model, self._length(mean_s, 0.8), think_s)
        pause_s = 1 / case.slots  # with more slots there is more work
        self._works("dave", coder, self._length(6.0, 0.6), calls=(10, 30), pause_s=400 * pause_s)
        self._works("erin", coder, self._length(8.0, 0.6), calls=(10, 40), pause_s=600 * pause_s, parallel=2)
        self._works(
            "frank",
            large,
            self._length(7.0, 0.35),
            calls=(20, 50),
            pause_s=1500 * pause_s,
            parallel=6,
            again_s=0.0,
        )
        self._works(
            "grace",
            coder,
            self._length(12.0, 0.35),
            calls=(20, 40),
            pause_s=900 * pause_s,
            parallel=2,
            again_s=0.0,
            service=Service.BACKGROUND,
        )
        self.after(LOOK_EVERY_S, self._look_round)

    def load_time_s(self, model: str) -> float:
        """Loads take about the same each time."""
        return LOADS_S[model] * self._rng.uniform(0.85, 1.2)

    # --- people ----------------------------------------------------------------------------------------

    def _length(self, mean_s: float, sigma: float) -> Cost:
        """Returns a source of lognormal lengths, cut at four minutes."""
        rng = random.Random(self._rng.random())
        return lambda: min(240.0, mean_s * rng.lognormvariate(-(sigma**2) / 2, sigma))

    def _chats(self, owner: str, model: str, length: Cost, think_s: float) -> None:
        """Somebody who asks, reads and thinks, and asks again."""
        rng = random.Random(self._rng.random())

        def later() -> None:
            self.after(rng.expovariate(1 / think_s), ask)

        def ask() -> None:
            self._send(owner, length(), model=model, then=later)

        later()

    def _works(
        self,
        owner: str,
        model: str,
        length: Cost,
        *,
        calls: tuple[int, int],
        pause_s: float,
        parallel: int = 1,
        again_s: float = 2.0,
        service: Service = Service.INTERACTIVE,
    ) -> None:
        """A program that makes a number of calls, the next when one has ended, then pauses for a while."""
        rng = random.Random(self._rng.random())
        left = lanes = 0

        def begin() -> None:
            nonlocal left, lanes
            left, lanes = rng.randint(*calls), parallel
            for _ in range(parallel):
                step()

        def step() -> None:
            nonlocal left, lanes
            if left:
                left -= 1
                again = partial(self.after, rng.uniform(0, again_s), step) if again_s else step
                self._send(owner, length(), model=model, service=service, then=again)
                return
            lanes -= 1
            if not lanes:
                self.after(rng.expovariate(1 / pause_s), begin)

        self.after(rng.expovariate(1 / pause_s), begin)

    # --- what they are told ----------------------------------------------------------------------------

    def _send(
        self,
        owner: str,
        cost_s: float,
        *,
        model: str,
        service: Service = Service.INTERACTIVE,
        then: Callable[[], None],
    ) -> None:
        job = self.submit(owner, cost_s, model=model, service=service, then=then)
        if job.ticket.lease is None:
            self._note({job.ticket.id}, first=True)

    def _look_round(self) -> None:
        self._note({job.ticket.id for job in self.jobs[-200:] if job.ticket.lease is None}, first=False)
        self.after(LOOK_EVERY_S, self._look_round)

    def _note(self, calls: set[str], *, first: bool) -> None:
        """Notes what the page would show of some calls now."""
        if not calls:
            return
        scheduler = self.scheduler
        rows = scheduler.snapshot(self.now).waiting
        for row in rows:
            if row.id in calls:
                before = row.position - 1 + len(scheduler.accounts.leases)
                simple = before * scheduler.costs.mean_s() / self._case.slots
                job = self._by_ticket[row.id]
                self.notes.append(Note(job=job, at=self.now, first=first, told=row.eta_s, simple=simple))
        told = [row.eta_s for row in rows if row.eta_s is not None]
        self.decreasing += told != sorted(told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How far what was told was from what happened: in seconds, and in parts of the waits over 10 s."""

    median_s: float
    p90_s: float
    median_part: float
    wrong_by_half: float


def figures(notes: list[Note], told: Callable[[Note], float | None]) -> Figures:
    """Returns the figures of some notes; those without an estimate are left out."""
    pairs = [(value, note.real_s) for note in notes if (value := told(note)) is not None]
    errors = sorted(abs(value - real) for value, real in pairs)
    parts = sorted(abs(value - real) / real for value, real in pairs if real > LONG_S)
    return Figures(
        median_s=quantile(errors, 0.5),
        p90_s=quantile(errors, 0.9),
        median_part=quantile(parts, 0.5),
        wrong_by_half=sum(part > 0.5 for part in parts) / len(parts),
    )


def play(case: Case, *, seeds: range, hours: float, foreseen: bool = False) -> list[Afternoon]:
    """Plays some afternoons; notes of calls that had not started at the end are dropped."""
    played = []
    for seed in seeds:
        sim = Afternoon(case, seed, foreseen=foreseen)
        sim.run(hours * HOUR_S)
        sim.notes = [note for note in sim.notes if note.job.started is not None]
        played.append(sim)
    return played


def lines() -> Iterator[str]:
    """Yields the rows of the table: first told, told later, by the simple formula, and with foresight."""
    for case in CASES:
        notes = [note for sim in play(case, seeds=range(1, 4), hours=4.0) for note in sim.notes]
        first = [note for note in notes if note.first]
        later = [note for note in notes if not note.first]
        foreseen = [
            note
            for sim in play(case, seeds=range(1, 4), hours=4.0, foreseen=True)
            for note in sim.notes
            if note.first
        ]
        none = sum(note.told is None for note in first) / len(first)
        for what, some, told in (
            ("as it came", first, lambda note: note.told),
            ("every 10 s after", later, lambda note: note.told),
            ("simple formula, as it came", first, lambda note: note.simple),
            ("lengths foreseen, as it came", foreseen, lambda note: note.told),
        ):
            got = figures(some, told)
            unknown = f"{none:.0%}" if some is first and what == "as it came" else ""
            yield (
                f"| {case} | {what} | {len(some)} | {got.median_s:.0f} s | {got.p90_s:.0f} s | "
                f"{got.median_part:.0%} | {got.wrong_by_half:.0%} | {unknown} |"
            )


if __name__ == "__main__":
    print("\n".join(lines()))  # noqa: T201 - a table for a document
