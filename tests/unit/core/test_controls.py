"""What a control means for whom, in words."""

import pytest

from gpushare.core.controls import Control, Controls, before, standing, unloading


@pytest.mark.parametrize(
    ("control", "running", "people", "said"),
    [
        (
            Control.PAUSE,
            1,
            3,
            (
                "3 people are waiting; they keep waiting. 1 request is running and will finish. "
                "Nothing else starts until you resume."
            ),
        ),
        (
            Control.PAUSE,
            0,
            0,
            "Nobody is waiting. Nothing is running. Nothing else starts until you resume.",
        ),
        (
            Control.DRAIN,
            2,
            1,
            (
                "1 person is waiting; that person's requests are turned away now. "
                "2 requests are running and will finish. New requests are turned away until you resume."
            ),
        ),
        (
            Control.DRAIN,
            0,
            2,
            (
                "2 people are waiting; their requests are turned away now. Nothing is running. "
                "New requests are turned away until you resume."
            ),
        ),
        (Control.RESUME, 0, 2, "Waiting requests start again, and new ones are taken."),
    ],
)
def test_it_is_told_beforehand(control: Control, running: int, people: int, said: str) -> None:
    """Who is waiting, what runs, and what becomes of both."""
    assert before(control, running=running, people=people) == said


def test_unloading_tells_what_runs() -> None:
    """A model in use leaves later."""
    assert unloading("m", 0) == "The next request for m loads it again, which takes a while."
    assert unloading("m", 1).startswith("1 request is running on m and will finish first. ")


@pytest.mark.parametrize(
    ("paused", "draining", "word"),
    [(False, False, "Open"), (True, False, "Paused"), (False, True, "Draining"), (True, True, "Draining")],
)
def test_how_the_queue_stands(paused: bool, draining: bool, word: str) -> None:  # noqa: FBT001
    """The graver word first."""
    controls = Controls(paused=paused, draining=draining, running=1, waiting=3)
    assert standing(controls) == f"{word}: 1 running, 3 waiting."
