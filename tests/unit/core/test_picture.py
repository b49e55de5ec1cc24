from dataclasses import replace
from datetime import timedelta

import pytest

from gpushare.core.document import State
from gpushare.core.picture import OllamaView, Picture, readiness, state_of
from tests.unit.core.test_status import NOW, PICTURE, UP, WALL, queue, running

FREE = replace(PICTURE, queue=queue())


@pytest.mark.parametrize(
    ("picture", "state"),
    [
        (FREE, State.FREE),
        (PICTURE, State.BUSY),
        (replace(PICTURE, queue=queue(running("bbbbbb", swap=True))), State.SWAP),
        (replace(PICTURE, max_waiting=2), State.FULL),
        (replace(FREE, queue=queue(paused_since=NOW)), State.PAUSED),
        (replace(PICTURE, draining=True), State.DRAINING),
        (replace(PICTURE, ollama=OllamaView(up=False, since=NOW - 9)), State.OLLAMA_DOWN),
        (replace(FREE, ollama=OllamaView()), State.STARTING),
    ],
)
def test_state_is_one_word(picture: Picture, state: State) -> None:
    """Each situation has its word."""
    assert state_of(picture) is state


@pytest.mark.parametrize(
    ("view", "draining", "word"),
    [
        (UP, False, None),
        (UP, True, State.DRAINING),
        (OllamaView(), False, State.STARTING),
        (OllamaView(since=1.0), False, State.OLLAMA_DOWN),
    ],
)
def test_readiness_names_the_obstacle(view: OllamaView, draining: bool, word: State | None) -> None:  # noqa: FBT001
    """P37: ready means that a call would be admitted now."""
    assert readiness(view, draining=draining) is word


def test_times_follow_the_monotonic_clock() -> None:
    """A monotonic instant becomes the wall time that many seconds ago, or to come."""
    assert PICTURE.at(NOW - 12.3) == (WALL - timedelta(seconds=12.3)).replace(microsecond=0)
    assert PICTURE.after(1.2) == (WALL + timedelta(seconds=1.7)).replace(microsecond=0)
    assert PICTURE.after(None) is None
