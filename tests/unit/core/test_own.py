"""What people are told of their own calls and terms."""

import re

import pytest
from msgspec.structs import replace

from gpushare.core.model import Outcome, Principal, Service
from gpushare.core.own import OUTCOMES, TURNED_AWAY, outcome, share
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


def test_whoever_was_turned_away_had_no_turn() -> None:
    """The list of reasons holds the ends in the queue alone."""
    assert {word for word in Outcome if word.value.startswith("rejected")} <= TURNED_AWAY
    assert Outcome.CANCELLED not in TURNED_AWAY
    assert Outcome.CLIENT_GONE_QUEUED not in TURNED_AWAY


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
