"""What people are told of their own calls and terms."""

import re
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from gpushare.core.model import Outcome, Phase, Principal, Service
from gpushare.core.own import MOST_CALLS, OUTCOMES, outcome, share, use
from gpushare.core.usage import Refusal, UsageRow
from tests.unit.records import CALL


def person(**fields: object) -> Principal:
    """A caller."""
    return Principal(**{"key_id": "aaaaaa", "name": "alice", "owner": "aaaaaa", **fields})  # type: ignore[arg-type]


def test_every_outcome_has_words() -> None:
    """Nobody reads a word of the log; no two ends read alike."""
    assert set(OUTCOMES) == set(Outcome)
    assert len(set(OUTCOMES.values())) == len(OUTCOMES)
    assert not [words for words in OUTCOMES.values() if re.search(r"_|please|sorry|!", words)]


def test_an_answer_nobody_took_is_told() -> None:
    """Ollama's work was done; that the tool did not read it is worth knowing."""
    assert outcome(CALL) == "answered"
    assert "left before" in outcome(replace(CALL, delivered=False))
    assert outcome(replace(CALL, outcome=Outcome.CANCELLED, delivered=False)) == "cancelled"


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (1.0, "a normal share"),
        (2.0, "twice a normal share"),
        (0.5, "half a normal share"),
        (1.5, "1.5 times a"),
    ],
)
def test_a_weight_is_a_share(weight: float, words: str) -> None:
    """The number comes with what it means."""
    assert share(person(weight=weight), 0.11).startswith(f"Your weight is {weight:g}: you get {words}")


def test_a_background_key_has_a_part_of_a_share() -> None:
    """Its class counts as well as its weight."""
    background = person(service=Service.BACKGROUND, weight=2.0)
    assert "22 % of a normal share" in share(background, 0.11)


DAYS = (
    UsageRow(name="2026-11-19", requests=1200, slot_s=4320.0, tokens_in=5, tokens_out=7),
    UsageRow(name="2026-11-20", requests=1, slot_s=31.0, tokens_in=10, tokens_out=20),
)
AT = 1_795_183_392.0


def test_days_have_sums_and_bars() -> None:
    """Today comes first; the busiest day has the longest bar."""
    told = use(DAYS, (), ())
    assert (told.since, told.today.requests, told.week.requests, told.week.tokens_out) == (
        "2026-11-19",
        1,
        1201,
        27,
    )
    assert [(day.name, day.requests, round(day.part, 3)) for day in told.days] == [
        ("Fri 20 Nov", 1, 0.007),
        ("Thu 19 Nov", 1200, 1.0),
    ]
    assert [day.part for day in use((UsageRow(name="2026-11-20"),), (), ()).days] == [0.0]


def test_calls_are_told_with_their_times() -> None:
    """What a call did not get to is not there: no time of running for one that gave up waiting."""
    gone = replace(CALL, phase=Phase.QUEUE, outcome=Outcome.QUEUE_TIMEOUT, waited_s=240.0, total_s=240.0)
    passed = replace(CALL, waited_s=None, total_s=0.5, input_tokens=None)
    calls = use(DAYS, (replace(CALL, ended_at=AT), gone, passed), ()).calls
    assert calls[0].ended == datetime(2026, 11, 20, 14, 3, 12, tzinfo=UTC)
    assert [(call.waited_s, call.ran_s, call.input_tokens) for call in calls] == [
        (2.0, 4.0, 10),
        (240.0, None, 10),
        (None, 0.5, None),
    ]
    assert [call.outcome for call in calls] == ["answered", OUTCOMES[Outcome.QUEUE_TIMEOUT], "answered"]


def test_a_long_list_ends() -> None:
    """Nobody reads a thousand rows; how many more there are is told."""
    told = use(DAYS, [CALL] * (MOST_CALLS + 7), ())
    assert (len(told.calls), told.older) == (MOST_CALLS, 7)


def test_refusals_of_one_reason_are_one_row() -> None:
    """A tool that tries again each second is one line; the reason that was met last comes first."""
    full, own = Outcome.REJECTED_QUEUE_FULL, Outcome.REJECTED_KEY_LIMIT
    rows = [(full, 5, AT), (own, 1, AT - 120), (full, 2, AT - 180)]
    told = use(DAYS, (), [Refusal(at=at, outcome=outcome, count=count) for outcome, count, at in rows])
    assert [(row.reason, row.count) for row in told.refusals] == [(OUTCOMES[full], 7), (OUTCOMES[own], 1)]
    assert told.refusals[0].last == datetime(2026, 11, 20, 14, 3, 12, tzinfo=UTC)
