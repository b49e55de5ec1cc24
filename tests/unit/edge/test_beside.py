"""Work beside the loop: what comes of it, and that nobody waits for it who has left."""

import asyncio
import threading

import pytest

from gpushare.edge.beside import NAME, beside


def threads() -> list[threading.Thread]:
    """Returns those that work beside the loop."""
    return [thread for thread in threading.enumerate() if thread.name == NAME]


async def test_what_is_found_is_returned() -> None:
    """The loop turns meanwhile."""
    release = threading.Event()
    working = asyncio.create_task(beside(lambda: (release.wait(), 7)[1]))
    await asyncio.sleep(0)
    assert len(threads()) == 1
    release.set()
    assert await working == 7


@pytest.mark.parametrize("error", [ValueError, SystemExit])
async def test_what_is_raised_comes_out(error: type[BaseException]) -> None:
    """Whatever it is: a thread's end is nobody's."""

    def fail() -> None:
        raise error

    with pytest.raises(error):
        await beside(fail)


def test_an_end_waits_for_nobody() -> None:
    """Neither whoever is cancelled, nor the loop, nor the process."""
    release = threading.Event()

    async def leave() -> None:
        async with asyncio.timeout(0.01):
            await beside(release.wait)

    with pytest.raises(TimeoutError):
        asyncio.run(leave())
    (thread,) = threads()
    assert thread.daemon
    release.set()
    thread.join()


async def test_only_so_many_work_at_once() -> None:
    """One that was left to itself counts until it ends: a disk that hangs gathers no threads."""
    release, places = threading.Event(), asyncio.Semaphore(2)
    left = [asyncio.create_task(beside(release.wait, within=places)) for _ in range(3)]
    await asyncio.sleep(0)
    assert len(threads()) == 2
    for task in left:
        task.cancel()
    await asyncio.wait(left)
    third = asyncio.create_task(beside(lambda: 3, within=places))
    await asyncio.sleep(0)
    assert len(threads()) == 2
    release.set()
    assert await third == 3


async def test_a_thread_that_cannot_start_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the machine has threads again, all goes on."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    places = asyncio.Semaphore(1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            await beside(lambda: 1, within=places)
    assert await beside(lambda: 2, within=places) == 2
