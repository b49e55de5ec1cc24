from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpushare.core import wording
from gpushare.core.credentials import TOOLS
from gpushare.core.document import Document, Ollama, Running, State, Waiting
from gpushare.core.views import Delay, Reason
from gpushare.core.wording import Headline

NOW = datetime(2026, 11, 20, 14, 3, 12, tzinfo=UTC)


def status(state: State, *, running: int = 0, waiting: int = 0) -> Document:
    """Returns a document with so many calls."""
    return Document(
        now=NOW,
        host="atlas",
        version="0.1.0",
        state=state,
        notices=(),
        new_request_starts_in_s=None,
        ollama=Ollama(up=True, version="0.21.0", since=NOW - timedelta(seconds=120)),
        running=tuple(
            Running(id="r", who="bob", you=False, model="gemma3:27b", started=NOW, swap=state is State.SWAP)
            for _ in range(running)
        ),
        waiting=tuple(
            Waiting(
                id="w", position=n, who="bob", you=False, model="m", since=NOW, starts_in_s=None, swap=False
            )
            for n in range(1, waiting + 1)
        ),
        models=(),
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "no estimate yet"),
        (-3.0, "any moment"),
        (0.0, "any moment"),
        (7.9, "in a few seconds"),
        (8.0, "about 10 s"),
        (27.4, "about 25 s"),
        (57.4, "about 55 s"),
        (58.0, "about 1 min"),
        (150.0, "about 2 min 30 s"),
        (590.0, "about 10 min"),
        (600.0, "more than 10 min"),
    ],
)
def test_estimates_are_coarse(seconds: float | None, words: str) -> None:
    """Estimates are rounded to 5 s below a minute, to 30 s below ten, and end there."""
    assert wording.estimate(seconds) == words


@given(st.floats(min_value=8.0, max_value=599.9))
def test_an_estimate_is_never_zero(seconds: float) -> None:
    """No rounding says that a wait of seconds is none."""
    assert not wording.estimate(seconds).startswith("about 0")


@pytest.mark.parametrize(
    ("seconds", "told", "words"),
    [
        (None, False, "There is no estimate yet for a new request"),
        (0.0, False, "A new request would start at once"),
        (0.0, True, "A new request would start any moment"),
        (3.0, True, "A new request would start in a few seconds"),
        (90.0, True, "A new request would start in about 1 min 30 s"),
        (700.0, True, "A new request would start in more than 10 min"),
    ],
)
def test_newcomers_get_a_sentence(seconds: float | None, *, told: bool, words: str) -> None:
    """The estimate for a new request reads as a sentence; what is overdue is not "at once"."""
    assert wording.newcomer(seconds, told=told) == words


def test_every_tool_has_a_name_for_people() -> None:
    """Not the word of the metrics: nobody says "from other"."""
    assert wording.TOOL_NAMES.keys() == TOOLS
    assert wording.tool("claude-code") == "Claude Code"
    assert wording.tool("one of a later version") == "one of a later version"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (31.9, "31 s"),
        (60, "1 min"),
        (150, "2 min 30 s"),
        (4320, "1 h 12 min"),
        (86400 + 3600, "25 h"),
        (12 * 86400, "12 days"),
    ],
)
def test_durations_have_at_most_two_units(seconds: float, words: str) -> None:
    """Lengths of time are cut, not rounded, and never carry more than two units."""
    assert wording.duration(seconds) == words


def test_numbers_read_well() -> None:
    """Thousands, bytes and parts look the same everywhere."""
    assert wording.number(1204) == "1\u202f204"
    assert wording.size(21_260_000_000) == "19.8 GB"
    assert wording.percent(0.184) == "18\u202f%"
    assert wording.at_most(2.1) == "3 s"


@pytest.mark.parametrize(
    ("document", "text", "icon"),
    [
        (status(State.FREE), "Free: a request starts at once", "idle"),
        (status(State.BUSY, running=1), "Busy: 1 running, nobody waiting", "busy"),
        (status(State.BUSY, running=1, waiting=3), "Busy: 1 running, 3 waiting", "busy"),
        (status(State.SWAP, running=1, waiting=3), "Loading gemma3:27b, 3 waiting", "busy"),
        (status(State.SWAP, running=1), "Loading gemma3:27b, nobody waiting", "busy"),
        (status(State.FULL, waiting=64), "Full: 64 waiting, new requests are turned away for now", "down"),
        (status(State.PAUSED), "Paused by an admin: requests wait", "down"),
        (
            status(State.DRAINING),
            "Closing down: running requests finish, new ones are turned away",
            "down",
        ),
        (status(State.OLLAMA_DOWN), "Ollama does not answer (for 2 min)", "down"),
        (status(State.STARTING), "Starting", "idle"),
    ],
)
def test_headline_answers_first(document: Document, text: str, icon: str) -> None:
    """Each state has exactly one headline and one of three icons."""
    assert wording.opening(document) == text
    assert headline(document).icon == icon


def headline(document: Document) -> Headline:
    """Returns the headline of a document."""
    waiting = len(document.waiting)
    return wording.headline(document.state, document.running, waiting=waiting, ollama=document.ollama)


def test_a_headline_counts_from_an_instant() -> None:
    """What grows with time is kept apart, so that the line itself stays the same."""
    line = headline(status(State.OLLAMA_DOWN))
    assert (line.lead, line.since) == ("Ollama does not answer", NOW - timedelta(seconds=120))


@pytest.mark.parametrize(
    ("why", "words"),
    [
        (Reason(delay=Delay.IN_FRONT, used_less=True), "bob's request came back in front (has used less)"),
        (Reason(delay=Delay.IN_FRONT), "bob's request came back in front"),
        (Reason(delay=Delay.LOAD), "loads the model first"),
        (Reason(delay=Delay.LONGER), "bob's answer is longer than usual"),
    ],
)
def test_an_estimate_that_grew_has_one_of_three_reasons(why: Reason, words: str) -> None:
    """Who is named is the caller's to decide."""
    assert wording.reason(why, "bob's") == words


def test_title_starts_with_what_a_narrow_tab_shows() -> None:
    """The viewer's own place comes first, else the number of those who wait."""
    busy, free = (headline(status(state)) for state in (State.BUSY, State.FREE))
    assert wording.title(busy, "atlas", waiting=3) == "(3) Busy · gpushare on atlas"
    assert wording.title(busy, "atlas", waiting=3, own_place=2) == "(you: 2) Busy · gpushare on atlas"
    assert wording.title(free, "atlas", waiting=0) == "Free · gpushare on atlas"


@pytest.mark.parametrize(
    ("count", "words"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (13, "13th"), (22, "22nd")],
)
def test_places_are_ordinals(count: int, words: str) -> None:
    """A place in line reads as one."""
    assert wording.ordinal(count) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "any moment"),
        (45, "in 45 s"),
        (29 * 60 + 59, "in 29 min"),
        (5 * 3600, "in 5 h"),
        (1e9, "not by itself"),
    ],
)
def test_what_ends_by_itself_is_told_roughly(seconds: float, words: str) -> None:
    """When a model unloads needs no seconds; one that Ollama keeps for ever is said to stay."""
    assert wording.left(seconds) == words


def test_each_hour_says_when_it_was() -> None:
    """A bar of the last day has words: how long, and how long ago."""
    assert wording.waits_by_hour([3.2, None, 21.0]) == ["4 s (2 h ago)", "", "21 s (this hour)"]


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ([0, 1204, 9999], ["0", "1\u202f204", "9\u202f999"]),
        ([10_000, 400], ["10.0 k", "0.4 k"]),
        ([9_140_000, 400_000, 0], ["9.1 M", "0.4 M", "0.0 M"]),
        ([], []),
    ],
)
def test_a_column_of_counts_has_one_unit(counts: list[int], shown: list[str]) -> None:
    """Figures below each other can be compared."""
    assert wording.scaled(counts) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (61, "1 min"),
        (3599, "59 min"),
        (3780, "1 h  3 min"),
        (29_520, "8 h 12 min"),
        (200_000, "55 h 33 min"),
    ],
)
def test_sums_of_time_stay_hours(seconds: float, text: str) -> None:
    """GPU time is compared in hours, however many."""
    assert wording.worked(seconds) == text


def test_a_little_time_is_not_nothing() -> None:
    """Only what was not used at all is 0 s."""
    assert [wording.spent(seconds) for seconds in (0.0, 0.01, 0.99, 1.0, 90.0)] == [
        "0 s",
        "under 1 s",
        "under 1 s",
        "1 s",
        "1 min 30 s",
    ]
    assert wording.worked(0.4) == "under 1 s"


def test_a_count_may_be_unknown() -> None:
    """It is not 0, in no unit."""
    dash = "\N{EN DASH}"
    assert wording.counted(None) == dash
    assert wording.scaled([None, 12]) == [dash, "12"]
    assert wording.scaled([9_100_000, None]) == ["9.1 M", dash]


def test_energy_and_what_it_costs() -> None:
    """In the unit of the electricity bill."""
    assert wording.energy(9.36e6) == "2.6 kWh"
    assert wording.cost(2.124e7, 0.3, "€") == "≈ 1.77 €"
    assert wording.cost(3.6e6, 0.3, "") == "≈ 0.30"
