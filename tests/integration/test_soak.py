"""The soak, for some seconds: its course, and its books, which must be able to find something wrong."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from gpushare.core.model import Outcome, Record
from tests.soak.books import Answer, Journal, Life, balance
from tests.soak.clients import ACTIONS
from tests.soak.conductor import GROWTH_BYTES, Course, Findings, Soak, judge
from tests.soak.process import Rest
from tests.unit.records import CALL

KILLED_AT = 1_000_000.0
BUSY_S = 5.0
"""In the place of the promised second: where tests run the processor may be busy."""


async def test_a_short_soak(tmp_path: Path) -> None:
    """P1, P20, P24, P26, P36: whatever clients do and is done to either program, nothing goes wrong."""
    course = Course(total_s=16, harm_s=8, step_s=0.3, rest_s=6, clients=20)
    said: list[str] = []
    found = await Soak(course, tmp_path, said.append).run(moment_s=BUSY_S)
    assert found.wrong == []
    assert (found.leaked, found.lost) == (0, [])
    assert found.ends["kill -9"] >= 1
    assert found.balance.outcomes[Outcome.OK] >= 20
    assert {"whole", "leaves"} <= set(found.did) <= {*ACTIONS, "broken off"}


# --- what the books find -----------------------------------------------------------------------------------


def line(age_s: float, request: str = "a", **fields: Any) -> dict[str, Any]:
    """Returns the log line of a call that ended so long before the kill."""
    time = datetime.fromtimestamp(KILLED_AT - age_s, UTC).isoformat()
    base = {"event": "request.done", "level": "info", "request": request, "outcome": "ok", "status": 200}
    return {**base, "time": time, **fields}


def answer(age_s: float, request: str = "a", *, complete: bool = True) -> Answer:
    """Returns what a client got of such a call."""
    at = KILLED_AT - age_s
    return Answer(
        request=request, life=0, status=200, queued=True, began_at=at, ended_at=at, complete=complete
    )


def row(outcome: Outcome, request: str = "a") -> dict[str, Record]:
    """Returns its row."""
    return {request: structs.replace(CALL, request_id=request, outcome=outcome)}


def life(*lines: dict[str, Any], killed: bool = True) -> list[Life]:
    """Returns one process with this log."""
    return [Life(journal=Journal(lines), killed_at=KILLED_AT if killed else None)]


@pytest.mark.parametrize(
    ("killed", "age_s", "lost"), [(True, 0.9, []), (True, 1.1, ["a"]), (False, 0.0, ["a"])]
)
@pytest.mark.parametrize("rows", [{}, row(Outcome.LOST_CRASH)], ids=["none", "lost_crash"])
def test_a_call_without_its_row_is_lost_unless_it_was_young(
    *, killed: bool, age_s: float, lost: list[str], rows: dict[str, Record]
) -> None:
    """By the log and by the clients, each for itself; who was not killed may lose nothing."""
    by_log = balance([], life(line(age_s), killed=killed), rows)
    by_clients = balance([answer(age_s)], life(killed=killed), rows)
    assert by_log.lost(1.0) == by_clients.lost(1.0) == lost
    assert len(by_log.missing) == len(by_clients.missing) == 1


@pytest.mark.parametrize(
    ("answers", "lines", "rows"),
    [
        ([answer(9)], [line(9, outcome="timeout_idle")], row(Outcome.TIMEOUT_IDLE)),  # the client had it all
        ([answer(9, complete=False)], [line(9)], row(Outcome.OK)),  # the client had not
        ([], [line(9, outcome="timeout_idle")], row(Outcome.OK)),  # log and ledger disagree
        ([], [line(9), line(8)], row(Outcome.OK)),  # logged twice
        ([], [], row(Outcome.OK)),  # never logged
        ([], [{"event": "request.failed", "level": "error"}], {}),
        ([], [{"event": "ollama.up", "level": "info", "lost_lines": 2}], {}),
    ],
)
def test_the_books_find_what_must_not_be(
    answers: list[Answer], lines: list[dict[str, Any]], rows: dict[str, Record]
) -> None:
    """Each of these is named; the same without the fault is not."""
    assert len(balance(answers, life(*lines), rows).wrong) == 1
    assert balance([answer(9)], life(line(9)), row(Outcome.OK)).wrong == []


def test_what_has_grown_or_leaked_is_named() -> None:
    """Of the last process the memory since it was warm, of each what it has at rest; and slots and rows."""
    rest = Rest(
        age_s=1,
        memory_bytes=1,
        peak_bytes=1,
        descriptors=9,
        opened=Counter(pipe=9),
        threads=5,
        tasks=3,
        blocks=1,
        granted=7,
        released=7,
        held=0,
    )
    found = Findings(
        seconds=1,
        balance=balance([], [], {}),
        rests=[[rest, rest, rest]],
        ends=Counter(),
        steps=Counter(),
        did=Counter(),
        statuses=Counter(),
        wrong=[],
        lost=[],
        leaked=0,
    )
    assert judge(found) == []
    for worse in (
        replace(found, leaked=1),
        replace(found, balance=balance([answer(9)], life(), {}), lost=["a"]),
        replace(found, rests=[[rest, replace(rest, descriptors=10)], [rest]]),
        replace(found, rests=[[rest, replace(rest, threads=99)]]),
        replace(found, rests=[[rest, replace(rest, tasks=4)]]),
        replace(found, rests=[[rest, rest, replace(rest, memory_bytes=2 + GROWTH_BYTES)]]),
    ):
        assert len(judge(worse)) == 1, worse
