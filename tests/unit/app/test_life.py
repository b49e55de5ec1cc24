"""What parts want done: in which order, how often, and what happens when one of them fails."""

import asyncio

import pytest
from structlog.testing import capture_logs

from gpushare.app import life as module
from gpushare.app.life import Life, keep_up
from gpushare.core.config import Config, Queue


def test_closing_down_happens_once_and_in_order() -> None:
    """Viewers are told in the order of the entries, and a second asking tells nobody again."""
    said: list[str] = []
    life = Life()
    life.on_drain.extend([lambda: said.append("first"), lambda: said.append("second")])
    life.close_down()
    life.close_down()
    assert said == ["first", "second"]


async def test_the_newest_ends_first() -> None:
    """What was made last may use what was made before it, so it ends before it."""
    ended: list[str] = []
    life = Life()

    async def end(name: str) -> None:
        ended.append(name)

    life.on_stop.extend([lambda: end("made first"), lambda: end("made last")])
    await life.stop()
    await life.stop()
    assert ended == ["made last", "made first"]


def test_a_reload_reaches_everybody() -> None:
    """Each entry gets the new configuration."""
    got: list[Config] = []
    life = Life()
    life.on_reload.extend([got.append, got.append])
    new = Config(queue=Queue(slots=3))
    life.reload(Config(), new)
    assert got == [new, new]


def test_a_reload_that_fails_is_undone() -> None:
    """Who took the new configuration already gets the old one back; nobody else is told anything."""
    got: list[tuple[str, int]] = []
    life = Life()

    def fail(new: Config) -> None:
        raise ValueError(new.queue.slots)

    life.on_reload.extend(
        [
            lambda new: got.append(("before", new.queue.slots)),
            fail,
            lambda new: got.append(("after", new.queue.slots)),
        ]
    )
    with pytest.raises(ValueError, match="3"):
        life.reload(Config(), Config(queue=Queue(slots=3)))
    assert got == [("before", 3), ("before", 1)]


async def test_a_task_that_fails_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours ends neither the task nor those beside it; a cancellation does."""
    monkeypatch.setattr(module, "AGAIN_S", 0)
    begun: list[int] = []
    going_on = asyncio.Event()

    async def run() -> None:
        begun.append(len(begun))
        if len(begun) < 3:
            raise ValueError("a fault of ours")
        going_on.set()
        await asyncio.Event().wait()

    with capture_logs() as lines:
        task = asyncio.create_task(keep_up(run))
        await going_on.wait()
    assert [line["event"] for line in lines] == ["task.failed"] * 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
