"""Whoever leaves frees the GPU: each library's own way to leave reaches Ollama."""

import asyncio

import pytest

from gpushare.sim import State
from tests.e2e.async_libraries import CALLS, Call
from tests.e2e.conftest import Connect, every_library
from tests.e2e.library import Child, Library
from tests.e2e.program_libraries import Curl, OllamaJs, OpenAIJs
from tests.harness import Gate, chat

every_async_library = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@every_library()
async def test_a_closed_stream(kind: type[Library], gate: Gate, connect: Connect) -> None:
    """The first piece is read while Ollama is still at work; closing ends that work, and the slot is free."""
    library = connect(kind)

    def leave_early() -> str:
        pieces = library.stream("#sim:fault=stall@2")
        try:
            return next(pieces)
        finally:
            pieces.close()

    assert await asyncio.to_thread(leave_early) == "This "
    entry = await gate.sim.arrived(0, path=kind.path)
    await entry.reached(State.CANCELLED)
    assert await asyncio.to_thread(library.say, "#sim:tokens=1") == "This "


@every_async_library
async def test_a_cancelled_task(call: Call, gate: Gate) -> None:
    """A task cancelled before the first byte ends Ollama's work."""
    task = asyncio.create_task(call(gate.url, gate.keys["alice"], "#sim:fault=stall"))
    entry = await gate.sim.events.until(lambda: next((one for one in gate.sim.log if one.model), None))
    assert entry
    await entry.reached(State.STALLED)
    task.cancel()
    await entry.reached(State.CANCELLED)
    await asyncio.wait([task])
    assert task.cancelled()


@every_async_library
async def test_a_task_cancelled_while_it_waits(call: Call, gate: Gate) -> None:
    """Who leaves the queue is never sent to Ollama."""
    running = asyncio.create_task(gate.post("/api/chat", chat("#sim:fault=stall"), who="bob"))
    entry = await gate.sim.arrived(0, path="/api/chat")
    task = asyncio.create_task(call(gate.url, gate.keys["alice"], "hello"))
    await gate.waiting(1)
    task.cancel()
    await gate.waiting(0)
    entry.resume()
    status, _, _ = await running
    assert status == 200
    assert [one for one in gate.sim.log if one.model] == [entry]
    await asyncio.wait([task])
    assert task.cancelled()


@pytest.mark.needs("node", "npm")
async def test_an_abort_signal(gate: Gate, connect: Connect, npm_packages: None) -> None:
    """``AbortController`` ends a call that has not had a byte yet, and the library says so."""
    library = connect(OpenAIJs)
    assert isinstance(library, OpenAIJs)
    child = library.start("say", text="#sim:fault=stall", model="m")
    entry = await gate.sim.arrived(0, path=library.path)
    await entry.reached(State.STALLED)
    child.ask_to_stop()
    await entry.reached(State.CANCELLED)
    lines = await asyncio.to_thread(lambda: list(child.lines()))
    assert not child.end()
    assert "Request was aborted." in lines[0]


@pytest.mark.needs("node", "npm", "curl")
@pytest.mark.parametrize("kind", [OllamaJs, Curl])
async def test_an_ended_program(
    kind: type[Library], gate: Gate, connect: Connect, npm_packages: None
) -> None:
    """A program that is ended before the first byte, as by Ctrl-C, ends Ollama's work."""
    library = connect(kind)
    if isinstance(library, OllamaJs):
        child = library.start("say", text="#sim:fault=stall", model="m")
    else:
        assert isinstance(library, Curl)
        child = Child(*library.words(library.path, chat("#sim:fault=stall", stream=False)))
    entry = await gate.sim.arrived(0, path=library.path)
    await entry.reached(State.STALLED)
    child.process.terminate()
    await entry.reached(State.CANCELLED)
    child.end()


async def test_many_libraries_at_once(gate: Gate) -> None:
    """Three people with four libraries share one slot; every answer is whole and one's own."""
    async with asyncio.TaskGroup() as tasks:
        calls = {
            (person, name): tasks.create_task(call(gate.url, gate.keys[person], f"#sim:tokens={tokens}"))
            for tokens, person in enumerate(("alice", "bob", "carol"), start=1)
            for name, call in CALLS.items()
        }
    answers = {"alice": "This", "bob": "This is", "carol": "This is the"}
    assert {key: call.result().strip() for key, call in calls.items()} == {
        (person, name): answers[person] for person, name in calls
    }
