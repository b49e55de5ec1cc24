"""What Ollama has and holds: asked regularly, kept, and handed to the queue.

Owns: the last view of Ollama.  Called by: ``engine.gateway`` (does a model exist), ``app`` (runs it), pages
(read ``view``).

Rules: a failed question keeps the last answer and only turns ``up`` off; nothing waits for a poll but a call
for a model nobody has heard of, which asks once more before it is refused.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import structlog

from gpushare.core.errors import GpushareError, OllamaSilent
from gpushare.core.names import canonical_model
from gpushare.core.picture import OllamaView
from gpushare.engine.health import Health
from gpushare.engine.ports import OllamaApi
from gpushare.engine.slots import LocalSlots

DOWN_POLL_S = 1.0  # how soon an Ollama that did not answer is asked again
SWAP_POLL_S = 0.5  # how soon a finished load is noticed when no byte tells it first
ASK_AGAIN_S = 1.0  # unknown names cause at most one extra list a second

_log = structlog.get_logger()
_Answer = TypeVar("_Answer")


class Monitor:
    """Polls one Ollama.

    ``probed`` is set once Ollama was asked for the first time, whatever came of it.  ``on_models`` are told
    the canonical names of the models in the store whenever they were read, ``on_reload`` of each model that
    was in memory and is there with another context size.

    Args:
        ollama: the Ollama to ask.
        slots: told which models are resident, for its ``backends``.
        health: told whether Ollama answers; it may want it asked sooner.
        backends: names of the scheduler's backends behind this Ollama (its slots and its embedding lane).
        heard: counts how often bytes of a call's answer have come from Ollama.
        interval_s: seconds between two polls.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        ollama: OllamaApi,
        *,
        slots: LocalSlots,
        health: Health,
        backends: Iterable[str],
        heard: Callable[[], int],
        interval_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._ollama = ollama
        self._slots = slots
        self._health = health
        self._backends = tuple(backends)
        self._heard = heard
        self.interval_s = interval_s
        self._clock = clock
        self.on_models: list[Callable[[Iterable[str]], None]] = []
        self.on_reload: list[Callable[[], None]] = []
        self._names: frozenset[str] | None = None
        self._asked_at = float("-inf")
        self.view = OllamaView()
        self.probed = asyncio.Event()
        health.on_change.append(self._note_health)

    async def run(self) -> None:
        """Polls until cancelled; while a model is loading, what is in memory is asked more often."""
        due = self._clock()
        while True:
            try:
                if self._clock() >= min(due, self._health.probe_at):
                    await self.poll()
                    pause_s = self.interval_s if self.view.up else min(DOWN_POLL_S, self.interval_s)
                    due = self._clock() + pause_s
                elif self._slots.swap_pending:
                    await self.poll_resident()
            except Exception:  # noqa: BLE001 - one bad answer must not end the polling
                _log.exception("monitor.failed")
            self.probed.set()
            await asyncio.sleep(min(SWAP_POLL_S, self.interval_s))

    def _note_health(self) -> None:
        health = self._health
        self.view = self.view.changed(
            breaker=health.breaker.door,
            failing=health.shut_models(),
            dropped=health.dropped_models(),
            drops=health.drops,
        )

    async def poll(self) -> None:
        """Asks once for everything and publishes the new view; the first question is the breaker's probe."""
        version, busy = await self._probe()
        answered = version is not None
        up = answered or busy
        if up != self.view.up or self.view.since is None:
            _log.info("ollama.up" if up else "ollama.down")
            first = self.view.since is None
            self.view = self.view.changed(up=up, since=self._clock(), at_least=first)
        self.view = self.view.changed(version=version or self.view.version)
        self._health.probed(up=answered, busy=busy)
        self._note_health()
        if answered:
            await self._ask_names()
            await self.poll_resident()

    async def _probe(self) -> tuple[str | None, bool]:
        """Returns Ollama's version, None without an answer, and whether it was only too busy for one.

        It is if calls heard from it meanwhile: a load or a full processor can hold up all other answers.
        """
        heard = self._heard()
        try:
            return await self._ollama.version(), False
        except OllamaSilent:
            return None, self._heard() != heard
        except GpushareError:
            return None, False

    async def poll_resident(self) -> None:
        """Asks which models are in memory and tells the queue."""
        rows = await self._ask(self._ollama.resident)
        if rows is None:
            return
        self._slots.set_resident(self._backends, frozenset(canonical_model(row.name) for row in rows))
        before = {row.name: row.context for row in self.view.loaded}
        for row in rows:
            if row.context and before.get(row.name) not in (None, row.context):
                for tell in self.on_reload:
                    tell()
        self.view = self.view.changed(loaded=rows)

    async def knows(self, model: str) -> bool:
        """Whether the model is in Ollama's store, as far as can be known; True while no list was ever read.

        Matching ignores case, as Ollama's does.  An unknown name asks Ollama once more, because somebody may
        have just pulled it.
        """
        if self._names is None or model in self._names:
            return True
        if self._clock() - self._asked_at >= ASK_AGAIN_S:
            await self._ask_names()
        return model in self._names

    async def _ask_names(self) -> None:
        self._asked_at = self._clock()
        names = await self._ask(self._ollama.installed)
        if names is not None:
            self._names = frozenset(canonical_model(name) for name in names)
            for tell in self.on_models:
                tell(self._names)
            self.view = self.view.changed(models=tuple(sorted(names)))

    async def _ask(self, question: Callable[[], Awaitable[_Answer]]) -> _Answer | None:
        """Returns the answer, or None when there is none; that is no error here."""
        try:
            return await question()
        except GpushareError:
            return None
