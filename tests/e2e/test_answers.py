"""What every library reads when all goes well: answers, streams, tools, vectors, models."""

import asyncio
import json

from gpushare.sim import Plan
from tests.e2e.conftest import Connect, every_library
from tests.e2e.library import EMBEDDER, WEATHER, Library
from tests.e2e.program_libraries import OpenAIJs
from tests.e2e.python_libraries import Anthropic, LangChain, OpenAI
from tests.harness import Gate

# Ollama writes some of these with escapes, which a relay must not undo: some readers cut lines at U+2028.
PIECES = ("Grüße, ", "first\u2028second ", "<b>&amp;</b> ", '"\\"\n', "🦙")
LISTED = ["m:latest", "n:latest", "embed:latest"]


@every_library()
async def test_an_answer_is_read_whole(kind: type[Library], gate: Gate, connect: Connect) -> None:
    """Without streaming, every character of the answer arrives."""
    gate.sim.next(Plan(pieces=PIECES), path=kind.path)
    assert await asyncio.to_thread(connect(kind).say, "hello") == "".join(PIECES)


@every_library()
async def test_a_stream_is_read_piece_by_piece(kind: type[Library], gate: Gate, connect: Connect) -> None:
    """Streaming, the library yields Ollama's pieces one for one, and the call is logged as one success."""
    gate.sim.next(Plan(pieces=PIECES), path=kind.path)
    assert await asyncio.to_thread(lambda: tuple(connect(kind).stream("hello"))) == PIECES
    await gate.until(lambda: any(entry["event"] == "request.done" for entry in gate.logs))
    (done,) = [entry for entry in gate.logs if entry["event"] == "request.done"]
    assert (done["person"], done["route"], done["outcome"]) == ("alice", kind.path, "ok")


@every_library()
async def test_the_model_calls_a_tool(kind: type[Library], gate: Gate, connect: Connect) -> None:
    """Ollama gets the tools as they were given, and the library reads the call the model makes."""
    asked = {"city": "Åre", "days": [1, 2]}
    gate.sim.next(Plan(tool="weather", tool_args=asked), path=kind.path)
    assert await asyncio.to_thread(connect(kind).call_tool, "Weather?") == ("weather", asked)
    (tool,) = json.loads((await gate.sim.arrived(0, path=kind.path)).body)["tools"]
    assert WEATHER["parameters"] in (tool.get("input_schema"), tool.get("function", {}).get("parameters"))


@every_library(Anthropic)
async def test_texts_become_vectors(kind: type[Library], gate: Gate, connect: Connect) -> None:
    """Each text has its own vector of the model's size; the same text has the same one."""
    vectors = await asyncio.to_thread(connect(kind).embed, ["one", "two", "one"])
    assert [len(vector) for vector in vectors] == [gate.sim.script.dimensions] * 3
    assert vectors[0] == vectors[2] != vectors[1]


@every_library(Anthropic, LangChain)
async def test_models_are_listed_without_a_key(kind: type[Library], connect: Connect) -> None:
    """Many programs fill their list of models before they ask for a key."""
    assert await asyncio.to_thread(connect(kind, key="").models) == LISTED


@every_library(Anthropic, LangChain)
async def test_a_model_is_shown(kind: type[Library], connect: Connect) -> None:
    """What Ollama tells of one model arrives."""
    shown = EMBEDDER if kind in (OpenAI, OpenAIJs) else "nomic-bert"
    assert await asyncio.to_thread(connect(kind).show, EMBEDDER) == shown
