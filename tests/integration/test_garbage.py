"""What a call leaves behind: nothing, so that its memory is free at once and not when the collector runs."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

from gpushare.core.flows import Ticket
from gpushare.engine.live import LiveCall
from tests.conformance.tools import know_models
from tests.harness import Gate, chat
from tests.integration.leaving import STATES


@pytest.fixture(autouse=True)
def nothing_to_collect(gate: Gate) -> Iterator[None]:
    """Checks that no call, and no place in a queue, waits for the collector while the gateway runs on."""
    assert not gate.parts.gateway.live
    gc.collect()
    gc.freeze()  # what was there before is not looked at again
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        assert not [each for each in gc.garbage if isinstance(each, LiveCall | Ticket)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/api/show"])
async def test_an_answered_call(gate: Gate, path: str, stream: bool) -> None:  # noqa: FBT001 - a parameter
    """A call that went well, of any kind."""
    status, _, _ = await gate.post(path, chat(stream=stream, max_tokens=5))
    assert status == 200
    await gate.rest()


async def test_calls_that_are_refused(gate: Gate) -> None:
    """Refusals before the queue, and those that whoever waited is told later."""
    await know_models(gate)
    assert (await gate.post("/api/chat", chat(model="nothing")))[0] == 404
    assert (await gate.post("/api/chat", {"model": "m", "messages": 1}))[0] == 400
    gate.parts.slots.pause()
    patience = {"X-Gpushare-Max-Wait": "1"}
    asked = [asyncio.create_task(gate.post("/api/chat", chat(), headers=patience)) for _ in range(9)]
    assert sorted([(await each)[0] for each in asked]) == [429] * 1 + [503] * 8
    gate.parts.slots.resume()
    await gate.rest()


@pytest.mark.parametrize("fault", ["reset", "reset@2", "close@2", "error"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failing_ollama(gate: Gate, fault: str, stream: bool) -> None:  # noqa: FBT001 - as above
    """An answer that breaks before it begins, in the middle, or is an error."""
    await gate.post("/api/chat", chat(f"#sim:tokens=5,fault={fault}", stream=stream))
    await gate.rest()


@pytest.mark.parametrize("state", STATES)
async def test_a_client_that_leaves(gate: Gate, state: str) -> None:
    """A call that nobody waits for any more, wherever it stood."""
    async with STATES[state].reach(gate) as stand:
        stand.wire.close()
        await gate.until(lambda: len(gate.parts.gateway.live) == (state == "queued"))
    await gate.rest()
