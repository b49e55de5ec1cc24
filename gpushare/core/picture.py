"""Everything known of the server at one instant, and the one word for it.

Called by: ``core.status``, which makes of it what a viewer may see; ``engine.monitor`` keeps an
``OllamaView``.  Rules: a picture is for nobody's eyes as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from gpushare.core.breaker import Door
from gpushare.core.doctor.facts import Disk
from gpushare.core.document import State
from gpushare.core.gpu import GpuView
from gpushare.core.model import ResidentModel
from gpushare.core.stats import Day, LastCall
from gpushare.core.views import QueueView


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaView:
    """What was last heard from Ollama.

    ``since`` is the monotonic second at which ``up`` last changed, None until Ollama was first asked; with
    ``at_least`` it never did: since it was first asked, and perhaps longer.
    ``failing`` are models that calls are turned away for; ``dropped`` left memory within the hour because
    they kept silent, and have not answered since; ``drops`` counts how often that was.
    """

    up: bool = False
    version: str = ""
    models: tuple[str, ...] = ()
    loaded: tuple[ResidentModel, ...] = ()
    since: float | None = None
    at_least: bool = False
    breaker: Door = Door.CLOSED
    failing: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    drops: int = 0

    def changed(self, **fields: Any) -> "OllamaView":  # noqa: ANN401 - the fields are this class's own
        """Returns a copy with some fields replaced."""
        return replace(self, **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a running call was at an instant: records sent (one a token), and when the first came."""

    at: float
    tool: str
    streaming: bool
    records: int = 0
    first_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Everything known at one instant.

    ``now`` is monotonic seconds, the clock of ``queue`` and ``ollama``; ``wall`` is the same instant in UTC.
    ``names`` maps owners to shown names; ``last`` holds each owner's latest call that ended.
    ``gpus`` is None where nothing reads them, ``disk`` while nobody has looked.  ``late_s`` is how late the
    event loop has been in the last seconds.
    """

    now: float
    wall: datetime
    host: str
    version: str
    queue: QueueView
    ollama: OllamaView
    day: Day
    max_waiting: int
    gpus: GpuView | None = None
    disk: Disk | None = None
    late_s: float = 0.0
    draining: bool = False
    config_rejected: bool = False
    names: Mapping[str, str] = field(default_factory=dict)
    progress: Mapping[str, Progress] = field(default_factory=dict)
    last: Mapping[str, LastCall] = field(default_factory=dict)

    def at(self, instant: float) -> datetime:
        """Returns the wall time of a monotonic instant, in whole seconds."""
        return (self.wall + timedelta(seconds=instant - self.now)).replace(microsecond=0)

    def after(self, seconds: float | None) -> datetime | None:
        """Returns the wall time so many seconds from now, to the nearest second."""
        return None if seconds is None else self.at(self.now + seconds + 0.5)


def readiness(ollama: OllamaView, *, draining: bool) -> State | None:
    """Returns why a call would not be admitted now, None when it would be."""
    if draining:
        return State.DRAINING
    if ollama.since is None:
        return State.STARTING
    return None if ollama.up and ollama.breaker is not Door.OPEN else State.OLLAMA_DOWN


def state_of(picture: Picture) -> State:
    """Returns the one word for the server, the gravest first."""
    queue = picture.queue
    unready = readiness(picture.ollama, draining=picture.draining)
    if unready is not None:
        return unready
    if queue.paused_since is not None:
        return State.PAUSED
    if len(queue.waiting) >= picture.max_waiting:
        return State.FULL
    if any(row.swap for row in queue.running):
        return State.SWAP
    return State.BUSY if queue.running or queue.waiting else State.FREE
