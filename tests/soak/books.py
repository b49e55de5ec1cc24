"""Two books of every call, the clients' and the log's, and what is wrong with the ledger by them."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gpushare.core.model import Outcome, Record


@dataclass(slots=True, kw_only=True)
class Answer:
    """One answer as its client saw it; times are seconds since 1970.

    ``life`` is the number of the process that gave it.  ``ended_at`` is None where the connection broke
    first, and ``stayed`` False where the client did not wait for the end.
    """

    request: str
    life: int
    status: int
    queued: bool
    began_at: float
    ended_at: float | None = None
    complete: bool = False
    stayed: bool = True


class Journal(list[dict[str, Any]]):
    """The log of one process as it comes in: calls are kept apart, by their ids."""

    def __init__(self, lines: Iterable[dict[str, Any]] = ()) -> None:
        super().__init__()
        self.done: dict[str, dict[str, Any]] = {}
        self.refused: set[str] = set()
        self.twice: list[str] = []
        for line in lines:
            self.append(line)

    def append(self, line: dict[str, Any]) -> None:
        """Takes in a line."""
        if line["event"] == "request.done":
            if line["request"] in self.done:
                self.twice.append(line["request"])
            self.done[line["request"]] = line
        elif line["event"] == "request.refused":
            self.refused.add(line["request"])
        else:
            super().append(line)


@dataclass(slots=True, kw_only=True)
class Life:
    """One process of the gateway; ``killed_at`` is None where it ended by itself."""

    journal: Journal
    killed_at: float | None = None

    def age_s(self, at: float) -> float:
        """Returns how old something was when the process was killed."""
        return math.inf if self.killed_at is None else self.killed_at - at


@dataclass(slots=True, kw_only=True)
class Balance:
    """What the books say of the ledger.

    ``missing`` has the calls without the row they should have, with how many seconds before the kill of their
    process they ended.  ``wrong`` names whatever must not be.
    """

    calls: int = 0
    answers: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    missing: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def miss(self, request: str, age_s: float) -> None:
        """Notes a call without its row; of two ages the larger counts."""
        self.missing[request] = max(age_s, self.missing.get(request, -math.inf))

    def lost(self, moment_s: float) -> list[str]:
        """Returns the calls whose rows should have been written: they were older than this."""
        return [request for request, age_s in self.missing.items() if age_s > moment_s]


def balance(answers: Iterable[Answer], lives: list[Life], rows: Mapping[str, Record]) -> Balance:
    """Returns what the books say.

    Args:
        answers: what clients got.
        lives: the processes, in order.
        rows: of the ledger, by the ids of the calls.
    """
    found = Balance(outcomes=Counter(row.outcome.value for row in rows.values()))
    known: set[str] = set()
    for number, life in enumerate(lives):
        admitted = {name: line for name, line in life.journal.done.items() if line["level"] == "info"}
        found.calls += len(admitted)
        found.wrong += [f"{name} was logged twice" for name in life.journal.twice]
        found.wrong += [f"{name} was logged by two processes" for name in known & admitted.keys()]
        known |= admitted.keys()
        for name, line in admitted.items():
            _check_line(found, life, line, rows.get(name))
        found.wrong += [f"process {number} logged {line}" for line in life.journal if is_fault(line)]
    for answer in answers:
        found.answers += 1
        _check_answer(found, lives[answer.life], answer, rows.get(answer.request))
    made_up = {name for name, row in rows.items() if row.outcome is not Outcome.LOST_CRASH} - known
    found.wrong += [f"the ledger has {name}, which the log has not" for name in made_up]
    return found


def is_fault(line: dict[str, Any]) -> bool:
    """Whether a line of the log tells of something that must not happen, whatever clients and Ollama do."""
    return "lost_lines" in line or (line["level"] == "error" and line["event"] != "config.rejected")


def _check_line(found: Balance, life: Life, line: dict[str, Any], row: Record | None) -> None:
    name = line["request"]
    if row is None or row.outcome is Outcome.LOST_CRASH:
        found.miss(name, life.age_s(datetime.fromisoformat(line["time"]).timestamp()))
    elif (row.outcome.value, row.status) != (line["outcome"], line["status"]):
        found.wrong.append(f"{name} is {row.outcome} in the ledger, {line['outcome']} in the log")


def _check_answer(found: Balance, life: Life, answer: Answer, row: Record | None) -> None:
    name, ended_at = answer.request, answer.ended_at or answer.began_at
    told = name in life.journal.done or name in life.journal.refused
    if row is None:
        if (answer.queued and answer.status == 200) or not told:
            found.miss(name, life.age_s(ended_at))
    elif answer.complete and row.outcome is Outcome.LOST_CRASH:
        found.miss(name, life.age_s(ended_at))
    elif answer.complete and row.outcome is not Outcome.OK:
        found.wrong.append(f"{name} was answered whole and is {row.outcome} in the ledger")
    elif answer.stayed and not answer.complete and answer.status == 200 and row.outcome is Outcome.OK:
        found.wrong.append(f"{name} was not answered whole and is ok in the ledger")
