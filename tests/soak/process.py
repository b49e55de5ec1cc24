"""The two processes of the soak, and what is measured of the gateway while nothing happens."""

import asyncio
import re
import signal
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpushare.edge.store import NAME as LEDGER
from tests.conformance.tools import LEDGER_KEPT, ROOT, Server, environment, served
from tests.ports import free_port
from tests.soak.books import Journal, Life

COUNT = """
import asyncio, gc, json, os, signal, sys
def tell(*_):
    gc.collect()
    counted = {"tasks": len(asyncio.all_tasks()), "blocks": sys.getallocatedblocks()}
    os.write(2, json.dumps({"event": "counted", "level": "info", **counted}).encode() + b"\\n")
signal.signal(signal.SIGUSR2, tell)
"""
"""Runs in the gateway before the server: nobody outside can see its tasks."""
PATIENCE_S = 30.0
"""Longest wait for rest; only a fault makes it so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What a gateway has while nobody asks anything.

    ``age_s`` is how long its process has lived, ``opened`` what its descriptors are, ``blocks`` how many
    pieces of memory Python's objects take.
    """

    age_s: float
    memory_bytes: int
    peak_bytes: int
    descriptors: int
    opened: Counter[str]
    threads: int
    tasks: int
    blocks: int
    granted: int
    released: int
    held: int

    def __str__(self) -> str:
        return (
            f"{self.age_s:.0f} s old, {self.memory_bytes / 2**20:.1f} MiB, {self.descriptors} descriptors, "
            f"{self.threads} threads, {self.tasks} tasks, {self.blocks} blocks, "
            f"slots {self.granted} granted, {self.released} released, {self.held} held"
        )


class Ollama:
    """The simulated one, killed and started again on its port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.kills = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Returns once it listens.  Idempotent."""
        if self._process is not None:
            return
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.soak.ollama", str(self.port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=environment(),
        )
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == b"listening\n"

    async def kill(self) -> None:
        """Ends it at once, with all it does.  Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            self.kills += 1
            process.kill()
            await process.communicate()


@dataclass(slots=True)
class Gateway:
    """``gpushare serve``, again and again on one port and one state directory."""

    folder: Path
    ollama: Ollama
    port: int = field(default_factory=free_port)
    lives: list[Life] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    keys: dict[str, str] = field(default_factory=dict)
    server: Server | None = None
    began: float = 0.0
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> Server:
        """The process that serves now."""
        assert self.server is not None
        return self.server

    @property
    def life(self) -> Life:
        """What is noted of it."""
        return self.lives[-1]

    async def start(self, settings: str, people: dict[str, dict[str, Any]] | None = None) -> None:
        """Starts the next process; the first one's people get keys."""
        server = await self._stack.enter_async_context(
            served(
                self.folder,
                self.ollama.url,
                people=people or {},
                settings=settings,
                port=self.port,
                env={"MALLOC_ARENA_MAX": "2"},  # as in its unit
                before=COUNT,
            )
        )
        server.log = journal = Journal(server.log)
        self.keys.update(server.keys)
        self.lives.append(Life(journal=journal))
        self.server, self.began = server, time.monotonic()

    async def kill(self) -> None:
        """Ends it as the kernel does that has no memory left."""
        self.life.killed_at = time.time()
        self.running.process.kill()
        await self._ended("kill -9")

    async def terminate(self) -> None:
        """Ends it as a service manager does."""
        self.running.terminate()
        await self._ended("SIGTERM")

    async def _ended(self, how: str) -> None:
        process = self.running.process
        status = await process.wait()
        assert how == "kill -9" or status == 0, f"exit status {status} after {how}"
        assert process.stderr is not None
        while not process.stderr.at_eof():
            await asyncio.sleep(0.01)
        await self._stack.aclose()
        self.ends[how] += 1

    async def close(self) -> None:
        """Ends whatever still runs; it is not looked at, for its calls are in the journal."""
        if self.server is not None and self.server.process.returncode is None:
            self.server.process.kill()
            await self.server.process.wait()
        await self._stack.aclose()

    async def metrics(self) -> dict[str, float]:
        """Returns its metrics; those with labels are added up."""
        return await self.running.metrics()

    async def rest(self) -> Rest:
        """Waits until nothing is left of what clients did, then measures.

        Raises:
            AssertionError: something is left after half a minute; it names what.
        """
        until = time.monotonic() + PATIENCE_S
        while left := self._left(await self.metrics()):
            assert time.monotonic() < until, f"no rest: {left}"
            await asyncio.sleep(0.2)
        memory = self.running.memory_bytes()
        counted = [await self._count() for _ in range(5)]  # a look at Ollama may be in any of them
        opened = min((opened for _, opened in counted), key=Counter.total)
        found = await self.metrics()
        return Rest(
            age_s=time.monotonic() - self.began,
            memory_bytes=memory,
            peak_bytes=self.running.memory_bytes("VmHWM"),
            descriptors=opened.total(),
            opened=opened,
            threads=self._threads(),
            tasks=min(line["tasks"] for line, _ in counted),
            blocks=min(line["blocks"] for line, _ in counted),
            granted=int(found["gpushare_slots_granted_total"]),
            released=int(found["gpushare_slots_released_total"]),
            held=int(found["gpushare_slots_held"]),
        )

    def _left(self, found: dict[str, float]) -> dict[str, float]:
        """Returns what is not at rest: of the metrics, and calls that are counted and not logged."""
        names = ("slots_held", "waiting_requests", "running_requests", "body_bytes", "ledger_waiting_rows")
        left = {name: found[f"gpushare_{name}"] for name in names}
        left["connections"] = found["gpushare_connections"] - 1  # that of this very question
        left["not logged"] = found.get("gpushare_requests_total", 0) - len(self.life.journal.done)
        return {name: value for name, value in left.items() if value}

    async def _count(self) -> tuple[dict[str, Any], Counter[str]]:
        server = self.running
        before = sum(line["event"] == "counted" for line in server.log)
        server.process.send_signal(signal.SIGUSR2)
        line = await server.said("counted", before + 1)
        await asyncio.sleep(0.1)
        return line, self._opened()

    def _opened(self) -> Counter[str]:
        """Returns what its descriptors are, but for those of the ledger that may stay open."""
        return self.running.opened() - Counter({LEDGER: LEDGER_KEPT})

    def _threads(self) -> int:
        text = Path(f"/proc/{self.running.process.pid}/status").read_text()
        found = re.search(r"Threads:\s+(\d+)", text)
        assert found is not None
        return int(found[1])
