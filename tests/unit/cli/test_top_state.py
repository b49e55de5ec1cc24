import json

import msgspec
import pytest

from gpushare.cli.feed import Lost
from gpushare.cli.terminal import ExitCode, Failure
from gpushare.cli.top.state import Cancel, Quit, State, press
from gpushare.core.document import Document

from .test_status import DOCUMENT

LOST = Lost(failure=Failure("x", "gone", exit_code=ExitCode.UNREACHABLE), tries=3, wait_s=1.0)


def document(**changes: object) -> Document:
    """A document with two running and two waiting requests: r1, r4, r2 (own), r3."""
    return msgspec.json.decode(json.dumps(DOCUMENT | changes), type=Document)


@pytest.fixture
def state() -> State:
    """What is known a moment after the start."""
    state = State()
    state.hear(document(), 100.0)
    return state


def ids(state: State) -> list[str]:
    """Returns the requests in the order of the screen."""
    return [row.id for row in state.rows]


def test_arrows_select_from_the_first_row_to_the_last(state: State) -> None:
    """Through both tables, without falling off; from nothing, down is the first and up the last."""
    seen = []
    for key in ("down", "j", "j", "down", "down", "up", "k"):
        press(state, key)
        seen.append(state.selected)
    assert seen == ["r1", "r4", "r2", "r3", "r3", "r2", "r4"]
    state.selected = "gone"
    press(state, "k")
    assert state.selected == "r3"


def test_with_no_rows_there_is_nothing_to_select() -> None:
    """Before the first document, and in an empty queue."""
    state = State()
    press(state, "j")
    state.hear(document(running=[], waiting=[]), 0.0)
    press(state, "j")
    assert state.selected == ""


def test_only_own_requests_end_and_admins_are_asked(state: State) -> None:
    """No key ends somebody else's request by itself."""
    assert press(state, "c") is None
    assert "Select a request" in state.said
    state.selected = "r2"
    assert press(state, "c") == Cancel("r2")
    state.selected = "r3"
    assert press(state, "c") is None
    assert "Only your own" in state.said
    state.is_admin = True
    assert press(state, "c") is None
    assert state.said == ""
    assert state.asks == "r3"
    assert press(state, "c") is None
    assert state.asks == ""
    press(state, "c")
    assert press(state, "y") == Cancel("r3")


def test_escape_closes_what_is_open_before_it_quits(state: State) -> None:
    """Help, then the filter, then the program; q quits at once."""
    press(state, "?")
    press(state, "/")
    press(state, "m")
    press(state, "enter")
    assert (state.help, state.filter) == (True, "m")
    assert press(state, "escape") is None
    assert (state.help, state.filter) == (False, "")
    assert press(state, "escape") == Quit()
    assert press(state, "q") == Quit()


def test_a_filter_takes_every_key_until_it_ends(state: State) -> None:
    """Also those that mean something else; it looks at people and models, whatever their case."""
    for key in ("/", "Q", "backspace", "G", ":", "up"):
        assert press(state, key) is None
    assert (state.filter, ids(state)) == ("G:", ["r3"])
    press(state, "enter")
    assert (state.typing, ids(state)) == (False, ["r3"])
    press(state, "/")
    assert ids(state) == ["r1", "r4", "r2", "r3"]
    press(state, "escape")
    assert (state.typing, state.filter) == (False, "")


def test_sorting_goes_round_and_turns_over(state: State) -> None:
    """Each table by itself; the queue's own order comes first and again at the end."""
    orders = {}
    for _ in range(4):
        orders[state.sort] = ids(state)
        press(state, "r")
        orders[f"{state.sort} reversed"] = ids(state)
        press(state, "r")
        press(state, "s")
    assert state.sort == "order"
    assert orders == {
        "order": ["r1", "r4", "r2", "r3"],
        "order reversed": ["r4", "r1", "r3", "r2"],
        "who": ["r1", "r4", "r2", "r3"],
        "who reversed": ["r4", "r1", "r3", "r2"],
        "model": ["r4", "r1", "r3", "r2"],
        "model reversed": ["r1", "r4", "r2", "r3"],
        "time": ["r1", "r4", "r2", "r3"],
        "time reversed": ["r4", "r1", "r3", "r2"],
    }


def test_a_paused_picture_stays_and_its_clock_with_it(state: State) -> None:
    """What comes meanwhile is shown when it goes on."""
    press(state, "p")
    state.hear(document(host="new"), 105.0)
    assert state.document is not None
    assert (state.document.host, state.age_s(110.0)) == ("atlas", 0.0)
    press(state, "p")
    state.tick(110.0)
    assert (state.document.host, state.age_s(111.0)) == ("new", 1.0)


def test_the_interval_holds_pictures_back(state: State) -> None:
    """Within its bounds, and the newest one is shown when it is over."""
    assert [press(state, key) or state.interval_s for key in "-++++-"] == [1, 2, 5, 10, 10, 5]
    for second in (101, 102, 104):
        state.hear(document(host=f"s{second}"), float(second))
    assert state.document is not None
    assert state.document.host == "atlas"
    state.tick(105.0)
    assert state.document.host == "s104"
    assert list(state.history) == [2, 2, 2, 2]


def test_a_lost_connection_ends_with_the_next_document(state: State) -> None:
    """Until then no time goes on."""
    state.lost = LOST
    assert state.age_s(200.0) == 0.0
    state.hear(document(), 201.0)
    assert state.lost is None


def test_unknown_keys_do_nothing(state: State) -> None:
    """And take a message away like every other."""
    state.said = "something"
    assert press(state, "x") is None
    assert state.said == ""
