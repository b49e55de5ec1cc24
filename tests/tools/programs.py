"""The programs themselves, in homes where the steps of ``gpushare connect`` were followed."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gpushare.core.tools import TOOLS, Site

HERE = Path(__file__).parent
BINARIES = HERE / "node_modules" / ".bin"
MODEL = "qwen3-coder:30b"
NOWHERE = "http://127.0.0.1:9"
"""Takes what a program sends anywhere but to the gateway: news, figures of use, lists of models."""
PATIENCE_S = 100
"""Only ends a broken test, and one of a program that goes on trying in silence."""
_IN_A_FILE = re.compile(r"In `~/([^`]+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program: its word for ``gpushare connect``, a command that asks once, and the route it calls.

    ``sorry`` is what it prints where the key is wrong: our sentence, if it shows it.
    """

    slug: str
    package: str
    ask: str
    path: str
    sorry: str = "This key is not valid here."


PROGRAMS = (
    Program(
        slug="claude-code",
        package="@anthropic-ai/claude-code",
        ask="claude -p 'Say hello.'",
        path="/v1/messages",
    ),
    Program(
        slug="codex",
        package="@openai/codex",
        ask="codex exec --skip-git-repo-check 'Say hello.'",
        path="/v1/responses",
    ),
    Program(
        slug="copilot-cli",
        package="@github/copilot",
        ask="copilot -p 'Say hello.'",
        path="/v1/chat/completions",
        sorry="Check your COPILOT_PROVIDER_API_KEY",
    ),
    Program(
        slug="continue",
        package="@continuedev/cli",
        ask="cn -p 'Say hello.'",
        path="/v1/chat/completions",
    ),
)


class Running:
    """A program that was started and asks."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def said(self) -> tuple[int, str]:
        """Waits for its end; returns its exit status and all it printed."""
        async with asyncio.timeout(PATIENCE_S):
            printed, _ = await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode, printed.decode()

    def press_ctrl_c(self) -> None:
        """Interrupts it and all it has started, as a terminal does."""
        os.killpg(self._process.pid, signal.SIGINT)


@asynccontextmanager
async def started(program: Program, home: Path, *, url: str, key: str) -> AsyncIterator[Running]:
    """Follows the steps in a home of its own and starts the program there; ends it with the block."""
    work = home / "work"
    work.mkdir(parents=True)
    exports = follow_steps(program, home, Site(base_url=url, key=key, model=MODEL))
    process = await asyncio.create_subprocess_exec(
        *("env", "--default-signal=INT", "sh", "-euc", f"{exports}\nexec {program.ask}"),
        cwd=work,
        env={
            "HOME": str(home),
            "PATH": f"{BINARIES}:{os.environ['PATH']}",
            "HTTP_PROXY": NOWHERE,
            "HTTPS_PROXY": NOWHERE,
            "NO_PROXY": "127.0.0.1",
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()


def follow_steps(program: Program, home: Path, site: Site) -> str:
    """Writes the files that the steps name, and returns what they say to type into the shell."""
    exports = []
    for block in TOOLS[program.slug](site).blocks:
        file = _IN_A_FILE.match(block.say)
        if file:
            path = home / file[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.copy)
        elif block.copy.startswith("export "):
            exports.append(block.copy)
    return "\n".join(exports)
