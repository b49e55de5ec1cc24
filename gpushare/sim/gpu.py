"""The pretend GPU: which models are resident, who waits for a load, and who holds a slot.

It keeps Ollama's two queues.  A request whose model is resident with the same load options goes straight to
the model's slots, first come first served and unbounded.  Any other waits for the loader, which does one load
at a time and evicts until the model fits; that queue is bounded.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from gpushare.sim.journal import Entry, Events, State
from gpushare.sim.script import Script, SimModel

_LOAD_OPTIONS = ("num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread")
_BUSY = "server busy, please try again.  maximum pending requests exceeded"


class GpuError(Exception):
    """The request cannot run: Ollama's status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(eq=False, slots=True)
class Runner:
    """A resident model."""

    model: SimModel
    options: tuple[object, ...]
    slots: asyncio.Semaphore
    context: int
    keep_alive_s: float
    expires_at: float = 0.0
    users: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    timer: asyncio.TimerHandle | None = None


class Gpu:
    """Owns: the resident models."""

    def __init__(self, script: Script, events: Events) -> None:
        self._script = script
        self._events = events
        self._loader = asyncio.Lock()
        self._pending = 0
        self._lingering: set[asyncio.TimerHandle] = set()
        self.resident: dict[str, Runner] = {}
        self.computing = 0
        self.most_computing = 0
        self.loads: list[str] = []

    @contextlib.asynccontextmanager
    async def runner(
        self, model: SimModel, options: Mapping[str, object], *, keep_alive_s: float | None, entry: Entry
    ) -> AsyncIterator[Runner]:
        """Holds the model in memory for the length of the block, loading it first if need be.

        Raises:
            GpuError: too many pending, or the model does not fit at all.
        """
        wanted = tuple(options.get(name) for name in _LOAD_OPTIONS)
        runner = self.resident.get(model.name)
        if runner is None or runner.options != wanted:
            runner = await self._schedule(model, wanted, entry)
        if keep_alive_s is not None:
            runner.keep_alive_s = keep_alive_s  # sticky and shared, as in Ollama
        self._take(runner)
        try:
            yield runner
        finally:
            self._leave(runner)

    @contextlib.asynccontextmanager
    async def slot(self, runner: Runner, *, entry: Entry) -> AsyncIterator[None]:
        """Holds one of the model's slots; a lingering plan keeps it after the client has left."""
        entry.enter(State.WAITING)
        await runner.slots.acquire()
        self.computing += 1
        self.most_computing = max(self.most_computing, self.computing)
        entry.enter(State.PROMPT)
        try:
            yield
        except BaseException:
            self._release_later(runner, entry.plan.linger_ms / 1000)
            raise
        else:
            self._release(runner)

    def unload(self, name: str) -> None:
        """Drops a model from memory."""
        runner = self.resident.pop(name, None)
        if runner and runner.timer:
            runner.timer.cancel()
        self._events.changed()

    def close(self) -> None:
        """Stops all timers."""
        for handle in self._lingering:
            handle.cancel()
        for name in list(self.resident):
            self.unload(name)

    async def _schedule(self, model: SimModel, options: tuple[object, ...], entry: Entry) -> Runner:
        if self._pending >= self._script.max_queue:
            raise GpuError(503, _BUSY)
        if model.size > self._script.memory:
            need, have = _gib(model.size), _gib(self._script.memory)
            raise GpuError(500, f"model requires more system memory ({need}) than is available ({have})")
        self._pending += 1
        entry.enter(State.PENDING)
        try:
            async with self._loader:
                return await self._load(model, options, entry)
        finally:
            self._pending -= 1

    async def _load(self, model: SimModel, options: tuple[object, ...], entry: Entry) -> Runner:
        resident = self.resident.get(model.name)
        if resident and resident.options == options:
            return resident
        while victim := self._victim(model):
            while victim.users:
                await victim.idle.wait()
            self.unload(victim.model.name)
        entry.enter(State.LOADING)
        await asyncio.sleep(model.load_s)
        slots = 1 if model.embedding else self._script.slots
        asked = options[0]
        context = int(asked) if isinstance(asked, int | float) else model.context
        runner = Runner(model, options, asyncio.Semaphore(slots), context, self._script.keep_alive_s)
        self.resident[model.name] = runner
        self.loads.append(model.name)
        self._events.changed()
        return runner

    def _victim(self, model: SimModel) -> Runner | None:
        """Returns the runner that must go next, or None when the model fits."""
        if model.name in self.resident:
            return self.resident[model.name]
        used = sum(runner.model.size for runner in self.resident.values())
        if used + model.size <= self._script.memory:
            return None
        return min(self.resident.values(), key=lambda one: (one.users > 0, one.keep_alive_s))

    def _take(self, runner: Runner) -> None:
        runner.users += 1
        runner.idle.clear()
        runner.expires_at = asyncio.get_running_loop().time() + runner.keep_alive_s
        if runner.timer:
            runner.timer.cancel()
            runner.timer = None

    def _leave(self, runner: Runner) -> None:
        runner.users -= 1
        if runner.users or self.resident.get(runner.model.name) is not runner:
            return
        runner.idle.set()
        loop = asyncio.get_running_loop()
        runner.expires_at = loop.time() + runner.keep_alive_s
        if runner.keep_alive_s <= 0:
            self.unload(runner.model.name)
        else:
            runner.timer = loop.call_at(runner.expires_at, self.unload, runner.model.name)

    def _release(self, runner: Runner) -> None:
        self.computing -= 1
        runner.slots.release()
        self._events.changed()

    def _release_later(self, runner: Runner, seconds: float) -> None:
        if seconds <= 0:
            self._release(runner)
            return
        handle = asyncio.get_running_loop().call_later(seconds, self._release, runner)
        self._lingering = {one for one in self._lingering if not one.cancelled()} | {handle}


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
