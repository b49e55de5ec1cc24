"""Our own addresses under a tool that makes up requests by their description and checks each answer."""

import asyncio
import sys
from pathlib import Path

import pytest

from gpushare.web.pages import probe
from tests.conformance.tools import busy, dial, know_models, post
from tests.harness import CANARY, Gate, chat, gateway

EXAMPLES = 15


async def attack(gate: Gate, folder: Path, *options: str) -> str:
    """Runs schemathesis in a process of its own; returns what it said if anything failed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{gate.url}/gpushare/v1/openapi.json"),
        *("--checks", "all", "--max-examples", str(EXAMPLES), "--seed", "1", "--no-color", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
    )
    said, _ = await process.communicate()
    assert b"Coverage" in said, "it did not run"
    return "" if process.returncode == 0 else said.decode()


@pytest.mark.parametrize("who", ["alice", "root", None])
async def test_what_a_program_may_ask(
    tmp_path: Path, who: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P17: whoever asks, and whatever for, it is no fault of ours, and every answer is as it is described."""
    monkeypatch.setattr(probe, "PAUSE_S", 0.0)  # it is asked hundreds of times
    async with gateway(tmp_path) as gate:
        await know_models(gate)
        key = ["-H", f"Authorization: Bearer {gate.keys[who]}"] if who else []
        async with busy(gate), dial(gate.port) as wire:
            await wire.send(post(gate, "/api/chat", chat(CANARY), who="bob"))
            await gate.waiting(1)
            assert await attack(gate, tmp_path, *key) == ""
            assert not [line for line in gate.logs if line["log_level"] == "error"]


async def test_an_address_with_another_answer_is_noticed(gate: Gate, tmp_path: Path) -> None:
    """A server that answers otherwise than it is described fails the test above."""
    gate.parts.host = 7  # type: ignore[assignment]
    assert "host" in await attack(gate, tmp_path, "--include-path", "/gpushare/v1/whoami", "-H", bearer(gate))


def bearer(gate: Gate) -> str:
    """Returns the header that carries a key."""
    return f"Authorization: Bearer {gate.keys['alice']}"
