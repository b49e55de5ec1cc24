"""What the user of every library is told when a call fails, and which libraries help themselves."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import ollama
import pytest

from tests.e2e.conftest import Connect, every_library
from tests.e2e.library import Failure, Library
from tests.e2e.program_libraries import OllamaJs
from tests.e2e.python_libraries import Ollama
from tests.harness import Gate, chat, gateway

FULL = "You already have 1 request waiting; one person may have 1 here. Try again in about "


async def failure(library: Library, call: Callable[[], object]) -> Failure:
    """Returns what a call's exception says; it must be the library's own."""
    with pytest.raises(library.errors) as caught:
        await asyncio.to_thread(call)
    return library.failure(caught.value)


@every_library()
async def test_an_unknown_model(kind: type[Library], gate: Gate, connect: Connect) -> None:
    """Ollama's own words, which programs look for, and no call to Ollama."""
    library = connect(kind)
    await gate.until(lambda: gate.parts.monitor.view.models)
    told = await failure(library, lambda: library.say("hello", model="nope"))
    assert told == Failure(404, "model 'nope' not found")
    assert not [entry for entry in gate.sim.log if entry.path == kind.path]


@every_library()
async def test_no_key(kind: type[Library], gate: Gate, connect: Connect) -> None:
    """The user is told that a key is needed and where to read how."""
    library = connect(kind, key="")
    told = await failure(library, lambda: library.say("hello"))
    assert told.status == 401
    assert told.text.startswith("This GPU is shared and needs a key.")
    assert told.text.endswith(f"{gate.url}/connect")


@every_library()
async def test_a_wrong_key(kind: type[Library], gate: Gate, connect: Connect) -> None:
    """The user is told that the key is not valid; the key is not repeated."""
    library = connect(kind, key=gate.keys["alice"][:-1] + "!")
    told = await failure(library, lambda: library.say("hello"))
    assert told.status == 401
    assert told.text.startswith("This key is not valid here.")
    assert "gs_" not in told.text


@every_library()
async def test_a_wrong_base_address(kind: type[Library], gate: Gate, connect: Connect) -> None:
    """Tools disagree on whether it ends in /v1; who got it wrong is told what to change."""
    library = connect(kind, url=f"{gate.url}/v1")
    told = await failure(library, lambda: library.say("hello"))
    assert told.status == 404
    assert "404 page not found. Take /v1 off the end of the base address." in str(told.text)


@every_library()
async def test_a_broken_answer(kind: type[Library], gate: Gate, connect: Connect) -> None:
    """Ollama dies in mid-stream: what was said is read, then the library raises our sentence."""
    library, heard = connect(kind), []

    def listen() -> None:
        for piece in library.stream("#sim:tokens=4,fault=reset@2"):
            heard.append(piece)  # noqa: PERF402 - kept when the stream raises

    told = await failure(library, listen)
    assert heard == ["This ", "is "]
    assert told.status is None
    assert "the request was ended. Send it again if you still need it." in told.text


@every_library()
async def test_a_failure_of_the_model(kind: type[Library], connect: Connect) -> None:
    """A failure in front of the answer has Ollama's status and words."""
    library = connect(kind)
    told = await failure(library, lambda: library.say("#sim:fault=error"))
    assert told.status == 500
    assert told.text.startswith("an error was encountered while running the model")


@pytest.mark.parametrize("kind", [Ollama, OllamaJs])
async def test_a_model_failing_in_mid_stream(kind: type[Library], connect: Connect) -> None:
    """Ollama's own error line is raised as it is."""
    library = connect(kind)
    told = await failure(library, lambda: list(library.stream("#sim:fault=error@2")))
    assert told == Failure(None, "an error was encountered while running the model: unexpected EOF")


async def test_downloading_a_model(gate: Gate, connect: Connect) -> None:
    """A person is told that it is for admins; an admin sees the progress."""
    alice, root = connect(Ollama), connect(Ollama, key=gate.keys["root"])
    assert isinstance(alice, Ollama)
    assert isinstance(root, Ollama)
    with pytest.raises(
        ollama.ResponseError, match=r"for admins of this server \(your key: alice\)"
    ) as caught:
        await asyncio.to_thread(alice.client.pull, "new")
    assert caught.value.status_code == 403
    steps = await asyncio.to_thread(lambda: [step.status for step in root.client.pull("new", stream=True)])
    assert steps[-1] == "success"


# --- a full queue ------------------------------------------------------------------------------------------


@pytest.fixture
async def gate(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gate]:
    """A gateway where one request of a person may wait."""
    async with gateway(tmp_path, settings="[queue]\nmax_waiting_per_person = 1") as running:
        yield running


@asynccontextmanager
async def full_queue(gate: Gate) -> AsyncIterator[Callable[[], None]]:
    """Keeps one of alice's requests running and one waiting until the yielded function is called.

    The first call of all teaches the gateway that calls are short, so that it sends nobody away for long.
    """
    await gate.post("/api/chat", chat())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gate.post("/api/chat", chat("#sim:fault=stall")))
        entry = await gate.sim.arrived(1, path="/api/chat")
        tasks.create_task(gate.post("/api/chat", chat()))
        await gate.waiting(1)
        yield entry.resume
        entry.resume()


def refused(gate: Gate) -> list[object]:
    """Returns the log's lines of refused calls."""
    return [entry for entry in gate.logs if entry.get("outcome") == "rejected_key_limit"]


@every_library()
async def test_a_full_queue(kind: type[Library], gate: Gate, connect: Connect) -> None:
    """A library that does not repeat raises the sentence with the limit and the time to come back."""
    library = connect(kind)
    async with full_queue(gate):
        told = await failure(library, lambda: library.say("hello"))
    assert told.status == 429
    assert told.text.startswith(FULL)


@every_library(Ollama, OllamaJs)
async def test_a_refused_call_is_repeated_when_told(
    kind: type[Library], gate: Gate, connect: Connect
) -> None:
    """A library that repeats waits for as long as ``Retry-After`` says and succeeds.

    None of them would wait for a second on its own account.
    """
    library = connect(kind, retries=2)
    began = time.monotonic()
    async with full_queue(gate) as end, asyncio.TaskGroup() as tasks:
        call = tasks.create_task(asyncio.to_thread(library.say, "#sim:tokens=3"))
        await gate.until(lambda: refused(gate))
        end()
    assert call.result() == "This is the "
    assert time.monotonic() - began >= 1.0
    assert len(refused(gate)) == 1
