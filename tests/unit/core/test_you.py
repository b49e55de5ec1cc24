from datetime import UTC, datetime

import pytest

from gpushare.core.document import LastRequest, Running, Waiting, You
from gpushare.core.status import Rows
from gpushare.core.you import Card, card

THEN = datetime(2026, 11, 20, 14, 3, 12, tzinfo=UTC)
LAST = LastRequest(ended=THEN, model="m", waited_s=1.0, took_s=2.0)


def running(*, you: bool) -> Running:
    """Returns a running call."""
    return Running(id="r", who="x", you=you, model="m", started=THEN, swap=False)


def waiting(position: int, *, you: bool) -> Waiting:
    """Returns a waiting call."""
    return Waiting(
        id="w", position=position, who="x", you=you, model="m", since=THEN, starts_in_s=None, swap=False
    )


def alice(*, requests: int = 0, last: LastRequest | None = None) -> You:
    """Returns alice's last day."""
    return You(who="alice", requests=requests, share=None, last=last)


OTHERS = Rows(running=(running(you=False),), waiting=(waiting(1, you=False),))
ONE = Rows(running=(running(you=False),), waiting=(waiting(1, you=False), waiting(2, you=True)))
MANY = Rows(running=(), waiting=tuple(waiting(place, you=place > 1) for place in range(1, 8)))
BOTH = Rows(running=(running(you=True),), waiting=(waiting(1, you=True),))


@pytest.mark.parametrize(
    ("rows", "you", "state", "place"),
    [
        (OTHERS, None, "stranger", None),
        (OTHERS, alice(), "new", None),
        (OTHERS, alice(requests=1), "nothing", None),
        (OTHERS, alice(last=LAST), "nothing", None),
        (ONE, alice(), "waiting", 2),
        (MANY, alice(), "waiting", 2),
        (BOTH, alice(), "running", 1),
    ],
)
def test_the_card_has_one_state(rows: Rows, you: You | None, state: str, place: int | None) -> None:
    """Each state of a person has its card."""
    made = card(rows, you)
    assert (made.state, made.place) == (state, place)


def test_the_card_lists_three_and_counts_all() -> None:
    """Somebody with many requests sees the first ones; nobody else's are among them."""
    made = card(MANY, alice())
    assert ([row.position for row in made.waiting], made.waits) == ([2, 3, 4], 6)
    assert card(OTHERS, None) == Card(state="stranger")


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (OTHERS, "You have nothing waiting."),
        (BOTH, "Your request is running."),
        (ONE, "You are now second in line."),
        (Rows(running=(), waiting=(waiting(1, you=True),)), "You are now next in line."),
        (Rows(running=(), waiting=(waiting(21, you=True),)), "You are now 21st in line."),
    ],
)
def test_the_sentence_is_said_aloud(rows: Rows, sentence: str) -> None:
    """What a screen reader says is a whole sentence."""
    assert card(rows, alice()).sentence == sentence
