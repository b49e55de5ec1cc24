"""Programs that people use, unmodified, with the steps that people are shown: what their user sees."""

import asyncio
from pathlib import Path

import pytest

from gpushare.sim import Plan, State
from gpushare.sim.script import Fault, FaultKind
from tests.harness import Gate, chat
from tests.tools.conftest import GREETING
from tests.tools.programs import MODEL, PROGRAMS, Program, started

pytestmark = [
    pytest.mark.needs("node", "npm"),
    pytest.mark.parametrize("program", [pytest.param(each, id=each.slug) for each in PROGRAMS]),
]
ANSWER = "".join(GREETING)


async def test_a_question_is_answered(program: Program, gate: Gate, tmp_path: Path) -> None:
    """The answer is printed, and every call it took was the person's and went well."""
    async with started(program, tmp_path / "home", url=gate.url, key=gate.keys["alice"]) as running:
        status, said = await running.said()
    assert (status, ANSWER in said) == (0, True), said
    await gate.rest()
    done = [entry for entry in gate.logs if entry["event"] == "request.done"]
    told = {(entry["person"], entry["model"], entry["route"], entry["outcome"]) for entry in done}
    assert told == {("alice", MODEL, program.path, "ok")}


async def test_a_wrong_key_is_told_soon(program: Program, gate: Gate, tmp_path: Path) -> None:
    """The program ends by itself, before the address is shut out, and its user reads why."""
    key = gate.keys["alice"][:-1] + "!"
    async with started(program, tmp_path / "home", url=gate.url, key=key) as running:
        status, said = await running.said()
    assert (status, program.sorry in said) == (1, True), said
    assert "Too many wrong keys" not in said


async def test_a_call_that_is_turned_away_comes_back(program: Program, gate: Gate, tmp_path: Path) -> None:
    """While another call of the person waits there is no room; once there is, the question is answered."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gate.post("/api/chat", chat("#sim:fault=stall", model=MODEL)))
        stalled = await gate.sim.arrived(0, path="/api/chat")
        tasks.create_task(gate.post("/api/chat", chat(model=MODEL)))
        await gate.waiting(1)
        async with started(program, tmp_path / "home", url=gate.url, key=gate.keys["alice"]) as running:
            await gate.until(lambda: gate.parts.stats.errors["person_limit"])
            stalled.resume()
            status, said = await running.said()
    assert (status, ANSWER in said) == (0, True), said


async def test_ctrl_c_frees_the_gpu(program: Program, gate: Gate, tmp_path: Path) -> None:
    """In the middle of an answer; Ollama is told, and whatever else the program asked leaves the queue."""
    gate.sim.script.plans[program.path] = Plan(pieces=GREETING, fault=Fault(FaultKind.STALL, at=1))
    async with started(program, tmp_path / "home", url=gate.url, key=gate.keys["alice"]) as running:
        entry = await gate.sim.arrived(0, path=program.path)
        await entry.reached(State.STALLED)
        running.press_ctrl_c()
        await entry.reached(State.CANCELLED)
        await running.said()
