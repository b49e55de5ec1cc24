"""What one viewer may see of the queue, the models and the last day.

Called by: the status page and ``GET /gpushare/v1/status``, which show the same document.

Rules: what a viewer may not see is left out here, before anything is rendered; ``Audience`` alone decides it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import UNSET, structs

from gpushare.core import wording
from gpushare.core.document import (
    Document,
    LastDay,
    Model,
    Notice,
    Ollama,
    PersonShare,
    Running,
    State,
    Waiting,
)
from gpushare.core.gpu import GpuView
from gpushare.core.gpu_status import gpus, neighbours, trouble
from gpushare.core.keys import KeyRing
from gpushare.core.model import Principal, ResidentModel
from gpushare.core.stats import Day
from gpushare.core.views import QueueView, Reason, RunningView, WaitingView

SOMEBODY = "somebody"
SPEED_AFTER_S = 1.0  # a speed over less time than this is noise

People = Literal["names", "initials", "hidden"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaView:
    """What was last heard from Ollama.

    ``since`` is the monotonic second at which ``up`` last changed, None until Ollama was first asked.
    """

    up: bool = False
    version: str = ""
    models: tuple[str, ...] = ()
    loaded: tuple[ResidentModel, ...] = ()
    since: float | None = None

    def changed(self, **fields: Any) -> "OllamaView":  # noqa: ANN401 - the fields are this class's own
        """Returns a copy with some fields replaced."""
        return replace(self, **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a running call is: records sent so far (one for each token) and when the first one came."""

    tool: str
    streaming: bool
    records: int = 0
    first_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Everything known at one instant, for nobody's eyes: ``document`` makes of it what a viewer may see.

    ``now`` is monotonic seconds, the clock of ``queue`` and ``ollama``; ``wall`` is the same instant in UTC.
    ``names`` maps owners to shown names.  ``starts_in_s`` is when a new call of the viewer would start.
    ``gpus`` is None where nothing reads them.
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
    draining: bool = False
    config_rejected: bool = False
    starts_in_s: float | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    progress: Mapping[str, Progress] = field(default_factory=dict)

    def at(self, instant: float) -> datetime:
        """Returns the wall time of a monotonic instant, in whole seconds."""
        return (self.wall + timedelta(seconds=instant - self.now)).replace(microsecond=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """What one viewer may see.

    ``who`` is None for a viewer without a key.  ``people`` is how persons see one another; admins see names.
    """

    who: Principal | None
    people: People = "names"

    @property
    def signed_in(self) -> bool:
        """Whether the viewer has a key."""
        return self.who is not None

    @property
    def is_admin(self) -> bool:
        """Whether the viewer sees everything."""
        return self.who is not None and self.who.is_admin

    def is_own(self, owner: str) -> bool:
        """Whether a call of this owner is the viewer's own."""
        return self.who is not None and self.who.owner == owner

    def sees_details(self, owner: str) -> bool:
        """Whether the viewer may see tool and token counts of this owner's calls."""
        return self.is_admin or self.is_own(owner)

    def shown(self, name: str, *, own: bool) -> str:
        """Returns how the viewer sees a person's name."""
        if self.who is None:
            return SOMEBODY
        if own or self.is_admin or self.people == "names":
            return name
        if self.people == "initials":
            return "".join(f"{part[0].upper()}." for part in name.split()) or SOMEBODY
        return SOMEBODY

    def whose(self, name: str, *, own: bool) -> str:
        """Returns whose something is, as the viewer may know."""
        return "your" if own else f"{self.shown(name, own=False)}'s"


def owner_names(ring: KeyRing) -> dict[str, str]:
    """Returns the name by which each owner is shown: that of the owner's first key."""
    return {record.owner: record.name for record in reversed(ring.records)}


def document(picture: Picture, audience: Audience) -> Document:
    """Returns what ``audience`` may see of ``picture``."""
    return Document(
        now=picture.at(picture.now),
        host=picture.host,
        version=picture.version,
        state=state_of(picture),
        notices=tuple(_notices(picture, audience)),
        new_request_starts_in_s=_starts_in_s(picture),
        ollama=_ollama(picture),
        running=tuple(_running(picture, row, audience) for row in picture.queue.running),
        waiting=tuple(_waiting(picture, row, audience) for row in picture.queue.waiting),
        models=tuple(_model(row) for row in picture.ollama.loaded),
        gpus=None if picture.gpus is None else gpus(picture.gpus),
        gpu_note=None if picture.gpus is None else picture.gpus.note,
        day=_day(picture.day, audience) if audience.signed_in else UNSET,
    )


def readiness(ollama: OllamaView, *, draining: bool) -> State | None:
    """Returns why a call would not be admitted now, None when it would be."""
    if draining:
        return State.DRAINING
    if ollama.since is None:
        return State.STARTING
    return None if ollama.up else State.OLLAMA_DOWN


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


def _starts_in_s(picture: Picture) -> float | None:
    """Returns when a new call would start: at once where nobody is, unknown where none is taken."""
    match state_of(picture):
        case State.FREE:
            return 0.0
        case State.BUSY | State.SWAP:
            return _rounded(picture.starts_in_s)
        case _:
            return None


def _notices(picture: Picture, audience: Audience) -> list[Notice]:
    """Returns at most three notices, the gravest first; only admins are told what only they can put right."""
    found: list[Notice] = []
    if picture.ollama.since is not None and not picture.ollama.up:
        found.append(_OLLAMA_DOWN)
    if picture.draining:
        found.append(_DRAINING)
    if picture.queue.paused_since is not None:
        found.append(_PAUSED)
    if picture.config_rejected and audience.is_admin:
        found.append(_CONFIG_REJECTED)
    found += trouble(picture.gpus) if picture.gpus else ()
    if any(row.vram_bytes < row.size_bytes for row in picture.ollama.loaded):
        found.append(_MODEL_ON_CPU)
    found += neighbours(picture.gpus) if picture.gpus else ()
    if picture.ollama.version.endswith(SIMULATED):
        found.append(_DEMO)
    return found[:3]


SIMULATED = "-simulated"
"""How the version of the simulated Ollama ends, by which it is told from a real one."""

_DEMO = Notice(
    code="demo",
    level="info",
    text="Demo: invented people, no GPU. Ollama and the GPU's numbers are simulated here.",
)
_OLLAMA_DOWN = Notice(
    code="ollama-down",
    level="bad",
    text="Ollama does not answer. Requests are turned away until it is back.",
)
_DRAINING = Notice(
    code="draining",
    level="bad",
    text="This server is closing down. Running requests finish, new ones are turned away.",
)
_PAUSED = Notice(
    code="paused",
    level="warn",
    text="An admin has paused the queue. Running requests finish, everything else waits.",
)
_CONFIG_REJECTED = Notice(
    code="config-rejected",
    level="warn",
    text="The settings or keys on disk have mistakes, so the earlier ones are in use. What is wrong: "
    "gpushare config check",
)
_MODEL_ON_CPU = Notice(
    code="model-on-cpu",
    level="warn",
    text="A model does not fit into GPU memory and runs partly on the processor. Answers take much longer.",
)


def _ollama(picture: Picture) -> Ollama:
    view = picture.ollama
    if view.since is None:
        return Ollama(up=None, version=None, since=None)
    return Ollama(up=view.up, version=view.version or None, since=picture.at(view.since))


def _running(picture: Picture, row: RunningView, audience: Audience) -> Running:
    own = audience.is_own(row.owner)
    shown = Running(
        id=row.id,
        who=audience.shown(picture.names.get(row.owner, row.owner), own=own),
        you=own,
        model=row.model,
        started=picture.at(picture.now - row.started_s),
        swap=row.swap,
    )
    progress = picture.progress.get(row.id)
    if not audience.sees_details(row.owner) or progress is None:
        return shown
    tokens = progress.records if progress.streaming else None
    speed = _speed(progress, picture.now)
    return structs.replace(shown, tokens=tokens, tokens_per_s=speed, tool=progress.tool)


def _speed(progress: Progress, now: float) -> float | None:
    """Returns tokens a second since the first one, None while that says nothing."""
    if not progress.streaming or progress.first_at is None or now - progress.first_at < SPEED_AFTER_S:
        return None
    return round(progress.records / (now - progress.first_at), 1)


def _waiting(picture: Picture, row: WaitingView, audience: Audience) -> Waiting:
    own = audience.is_own(row.owner)
    shown = Waiting(
        id=row.id,
        position=row.position,
        who=audience.shown(picture.names.get(row.owner, row.owner), own=own),
        you=own,
        model=row.model,
        since=picture.at(row.since),
        starts_in_s=_rounded(row.eta_s),
        swap=row.swap,
        reason=_reason(picture, row.reason, audience) if row.reason else None,
    )
    progress = picture.progress.get(row.id)
    if not audience.sees_details(row.owner) or progress is None:
        return shown
    return structs.replace(shown, tool=progress.tool)


def _reason(picture: Picture, reason: Reason, audience: Audience) -> str:
    own = audience.is_own(reason.owner)
    return wording.reason(reason, audience.whose(picture.names.get(reason.owner, reason.owner), own=own))


def _model(row: ResidentModel) -> Model:
    return Model(
        name=row.name,
        vram_bytes=row.vram_bytes,
        on_gpu=round(row.vram_bytes / row.size_bytes, 3) if row.size_bytes else None,
        context=row.context,
        unloads=row.expires,
    )


def _day(day: Day, audience: Audience) -> LastDay:
    total_s = sum(row.slot_s for row in day.persons)
    people = []
    for row in day.persons:
        own = audience.who is not None and audience.who.name == row.person
        share = round(row.slot_s / total_s, 3) if total_s else None
        people.append(
            PersonShare(
                who=audience.shown(row.person, own=own),
                you=own,
                requests=row.requests,
                slot_s=round(row.slot_s, 1),
                share=share,
            )
        )
    return LastDay(
        requests=day.requests,
        wait_p50_s=_rounded(day.wait_p50_s),
        wait_p95_s=_rounded(day.wait_p95_s),
        swaps=day.swaps,
        people=tuple(people),
    )


def _rounded(seconds: float | None) -> float | None:
    """Returns tenths of a second: more would pretend to know."""
    return None if seconds is None else round(seconds, 1)
