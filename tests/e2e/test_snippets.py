"""The steps that people copy work as they stand: what is shown is run against a gateway."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpushare.core.tools import TOOLS, Site, Step
from gpushare.sim import Script, SimModel
from tests.e2e.program_libraries import NODE
from tests.harness import Gate, gateway

MODEL = "qwen3-coder:30b"
PYTHON = ["ollama-python", "openai-python", "anthropic", "langchain"]
JAVASCRIPT = ["ollama-js", "openai-js"]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Gate]:
    """A gateway whose Ollama has the model of the steps."""
    script = Script(models=(SimModel(name=MODEL),))
    async with gateway(tmp_path, script=script) as running:
        yield running


@pytest.mark.parametrize("slug", PYTHON)
async def test_python_steps_run_as_shown(server: Gate, slug: str, tmp_path: Path) -> None:
    """A shell runs the variables, then Python the program; one call is answered."""
    await run(server, slug, tmp_path, run_file="python -W error program.py", name="program.py")


@pytest.mark.needs("node", "npm")
@pytest.mark.usefixtures("npm_packages")
@pytest.mark.parametrize("slug", JAVASCRIPT)
async def test_javascript_steps_run_as_shown(server: Gate, slug: str, tmp_path: Path) -> None:
    """The same for Node, with the libraries at hand."""
    (tmp_path / "node_modules").symlink_to(NODE / "node_modules")
    await run(server, slug, tmp_path, run_file="node program.mjs", name="program.mjs")


@pytest.mark.needs("curl")
async def test_the_curl_step_runs_as_shown(server: Gate, tmp_path: Path) -> None:
    """The shell's own quoting holds."""
    await run(server, "curl", tmp_path)


async def run(server: Gate, slug: str, folder: Path, *, run_file: str = "", name: str = "") -> None:
    """Runs all blocks of a tool's steps in one shell, those that are programs from a file."""
    site = Site(base_url=server.url, key=server.keys["alice"], model=MODEL)
    blocks: tuple[Step, ...] = TOOLS[slug](site).blocks
    lines = ["set -eu"]
    for block in blocks:
        if block.kind == "sh":
            lines.append(block.copy)
        else:
            (folder / name).write_text(block.copy)
            lines.append(run_file)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = await asyncio.create_subprocess_exec(
        "sh",
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "LANGSMITH_TRACING": "false"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await shell.communicate("\n".join(lines).encode())
    assert shell.returncode == 0, said.decode()
    assert said.strip(), "no greeting was printed"
    done = [line for line in server.logs if line["event"] == "request.done"]
    assert [(line["person"], line["outcome"], line["model"]) for line in done] == [("alice", "ok", MODEL)]
