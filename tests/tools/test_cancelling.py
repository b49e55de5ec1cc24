"""A call that its owner cancels on the page is over for the agent that sent it."""

from pathlib import Path

import pytest

from gpushare.sim import Plan, State
from gpushare.sim.script import Fault, FaultKind
from tests.harness import Gate
from tests.tools.conftest import GREETING
from tests.tools.programs import PROGRAMS, Program, started

# Claude Code and Copilot send a call again whose answer broke off, whatever they are told.
ONCE = [pytest.param(each, id=each.slug) for each in PROGRAMS if each.slug in ("codex", "continue")]


@pytest.mark.needs("node", "npm")
@pytest.mark.parametrize("program", ONCE)
async def test_a_cancelled_call_is_not_sent_again(program: Program, gate: Gate, tmp_path: Path) -> None:
    """Its user reads why the answer ends; sent again, it would take the GPU that it was to leave."""
    gate.sim.next(Plan(pieces=GREETING, fault=Fault(FaultKind.STALL, at=1)), path=program.path)
    async with started(program, tmp_path / "home", url=gate.url, key=gate.keys["alice"]) as running:
        entry = await gate.sim.arrived(0, path=program.path)
        await entry.reached(State.STALLED)
        (call,) = gate.parts.gateway.live
        status, _, _ = await gate.request("DELETE", f"/gpushare/v1/queue/{call}")
        assert status < 300
        ended, said = await running.said()
    assert (ended, "This request was cancelled" in said) == (1, True), said
    assert len([entry for entry in gate.sim.log if entry.path == program.path]) == 1
