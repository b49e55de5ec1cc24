"""What was begun is done to its end, whoever has left; its faults are told to somebody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from gpushare.core.errors import OllamaDown
from gpushare.web.pages import acts
from gpushare.web.pages.acts import Acts


@asynccontextmanager
async def serving(on: Acts) -> AsyncIterator[None]:
    """An application lives for the block."""
    app = web.Application()
    app.cleanup_ctx.append(on.lifetime)
    app.freeze()
    await app.startup()
    yield
    await app.cleanup()


async def fail(error: Exception, after: asyncio.Event) -> None:
    """An act that fails."""
    await after.wait()
    raise error


async def test_who_stays_is_told() -> None:
    """What came of it, or what went wrong, which is nobody else's then."""
    on, at_once = Acts(), asyncio.Event()
    at_once.set()

    async def seven() -> int:
        return 7

    with capture_logs() as said:
        async with serving(on):
            assert await on.begin(seven(), "r_1") == 7
            for error in (OllamaDown("refused"), ZeroDivisionError()):
                with pytest.raises(type(error)):
                    await on.begin(fail(error, at_once), "r_2")
    assert said == []


@pytest.mark.parametrize(("error", "told"), [(ZeroDivisionError(), ["r_1"]), (OllamaDown("refused"), [])])
async def test_a_fault_that_nobody_is_told_of_is_logged(error: Exception, told: list[str]) -> None:
    """With the id of its request; a refusal is no fault."""
    on, released = Acts(), asyncio.Event()
    with capture_logs() as said:
        async with serving(on):
            on.begin(fail(error, released), "r_1").cancel()
            released.set()
    assert [line["request"] for line in said if line["event"] == "request.failed"] == told
    assert len(said) == len(told)


async def test_the_end_waits_for_what_was_begun() -> None:
    """And no longer than that, be it left by its sender or not."""
    on, released, done = Acts(), asyncio.Event(), list[str]()

    async def act() -> None:
        await released.wait()
        done.append("done")

    async def end(block: Any) -> None:
        await block.__aexit__(None, None, None)

    block = serving(on)
    await block.__aenter__()
    on.begin(act(), "r_1").cancel()
    ending = asyncio.create_task(end(block))
    await asyncio.sleep(0.05)
    assert not ending.done()
    released.set()
    await ending
    assert done == ["done"]


async def test_the_end_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What hangs is ended, and whoever waits for it with it."""
    monkeypatch.setattr(acts, "LAST_S", 0.01)
    on = Acts()
    async with serving(on):
        outcome = on.begin(asyncio.sleep(3600), "r_1")
    assert outcome.cancelled()
