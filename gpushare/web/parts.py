"""What handlers are handed, and the typed keys to reach it.

``app.build`` builds one ``Parts`` and puts it under ``PARTS``; per request, the middleware puts the id, the
checked target and the key it carries, if any, under their own keys.  Nothing is global, so nothing has to be
reset between tests.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web

from gpushare.core.config import Config
from gpushare.core.dialects import Target
from gpushare.core.doctor.facts import Disk
from gpushare.core.keys import KeyRing
from gpushare.core.limits import WRONG_LOGINS_PER_WINDOW, BodyBudget, WrongKeys
from gpushare.core.model import Principal
from gpushare.core.stats import Stats
from gpushare.core.told import Newcomers, Told
from gpushare.engine.examiner import Examiner
from gpushare.engine.gateway import Gateway
from gpushare.engine.gpu import GpuWatch
from gpushare.engine.health import Health
from gpushare.engine.lag import LoopLag
from gpushare.engine.monitor import Monitor
from gpushare.engine.ports import Exposition, KeyStore, LedgerReader, ModelMemory
from gpushare.engine.slots import LocalSlots
from gpushare.web.connections import Connections
from gpushare.web.sessions import Sessions

CLOCK_SET_S = 0.5  # a wall clock that is off by more was set


@dataclass(slots=True, kw_only=True)
class Parts:
    """Every object a handler may need.  ``config`` and ``ring`` are immutable and replaced whole."""

    config: Config
    ring: KeyRing
    host: str  # the machine's name, as shown to people
    own_names: frozenset[str]  # names this machine answers to without a key
    gateway: Gateway
    slots: LocalSlots
    monitor: Monitor
    gpus: GpuWatch | None  # None where the configuration wants no numbers
    health: Health
    lag: LoopLag
    memory: ModelMemory
    stats: Stats
    ledger: LedgerReader
    metrics: Exposition
    body_budget: BodyBudget
    connections: Connections | None = None  # set when the server starts
    key_store: KeyStore | None = None  # set when the server starts
    examiner: Examiner | None = None  # set when the server starts
    wrong_keys: WrongKeys = field(default_factory=WrongKeys)
    wrong_logins: WrongKeys = field(default_factory=lambda: WrongKeys(WRONG_LOGINS_PER_WINDOW))
    sessions: Sessions = field(default_factory=Sessions)
    keys_turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # from reading keys until they are in use
    config_rejected: bool = False  # what is on disk has mistakes, so the settings and keys from before hold
    disk: Disk | None = None  # where what outlives the process is kept
    told: Told = field(default_factory=Told)  # the times of waiting calls
    newcomers: Newcomers = field(default_factory=Newcomers)
    clock: Callable[[], float] = time.monotonic
    _offset_s: float = field(default_factory=lambda: time.time() - time.monotonic())
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def draining(self) -> bool:
        """Whether calls are refused, for now or for good."""
        return self.slots.draining

    @property
    def closing(self) -> bool:
        """Whether the server is closing down."""
        return self.slots.closing

    async def edit_keys(self, change: Callable[[KeyRing], KeyRing]) -> None:
        """Changes the keys; see ``KeyStore``."""
        if self.key_store is None:
            raise RuntimeError("the server has not started")
        await self.key_store.edit(change)

    def monotonic(self) -> float:
        """Returns monotonic seconds."""
        return self.clock()

    def wall(self, monotonic_s: float) -> float:
        """Returns a monotonic instant in seconds since 1970.

        One reading of the wall clock serves until that clock is set, so that what happened keeps its time to
        the second, however often it is asked for.
        """
        offset_s = time.time() - time.monotonic()
        if abs(offset_s - self._offset_s) > CLOCK_SET_S:
            self._offset_s = offset_s
        return monotonic_s + self._offset_s

    def jitter(self) -> float:
        """Returns a number in [0, 1) that spreads ``Retry-After``."""
        return random.random()  # noqa: S311 - no secret depends on it


PARTS = web.AppKey("parts", Parts)
REQUEST_ID = web.RequestKey("request_id", str)
TARGET = web.RequestKey("target", Target)
PRINCIPAL = web.RequestKey("principal", Principal)
