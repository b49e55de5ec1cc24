"""Drops a model from Ollama's memory when it keeps silent, where ``ollama.unload_stuck`` asks for it.

Owns: which models are still to be dropped.  Called by: ``engine.health`` tells it; ``app`` runs it.

Rules:
- Nothing is sent to see whether a model is stuck: people's calls that got no answer are the sign.
- Each time a model is shut for its silence it is dropped once.  Ollama does so when nothing runs on it any
  more, so no answer is cut for it.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from gpushare.core.errors import GpushareError
from gpushare.engine.health import Health
from gpushare.engine.ports import ModelMemory

_log = structlog.get_logger()


class StuckModels:
    """Waits for models that keep silent.

    Attributes:
        enabled: whether they are dropped.

    Args:
        memory: where they are.
        health: says which model was shut; told which one was dropped, so that it is tried again.
        look: finds out what is in memory now, so that the next call is known to load the model.
    """

    def __init__(
        self, memory: ModelMemory, health: Health, *, look: Callable[[], Awaitable[None]], enabled: bool
    ) -> None:
        self.enabled = enabled
        self._memory = memory
        self._health = health
        self._look = look
        self._silent: set[str] = set()
        self._news = asyncio.Event()
        health.on_silent.append(self._note)

    def _note(self, model: str) -> None:
        if self.enabled:
            self._silent.add(model)
            self._news.set()

    async def run(self) -> None:
        """Drops one model after the other, until cancelled."""
        while True:
            while self._silent:
                await self._drop(self._silent.pop())
            self._news.clear()
            await self._news.wait()

    async def _drop(self, model: str) -> None:
        try:
            await self._memory.unload(model)
        except GpushareError as error:
            _log.warning("model.kept", model=model, reason=error.message)
        else:
            _log.warning("model.dropped", model=model, reason="the model keeps silent")
            await self._look()
            self._health.dropped(model)
