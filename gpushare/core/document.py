"""The shape of the status document, ``gpushare.status/1``.

Called by: ``core.status``, which fills it for one viewer; the page, the JSON and the terminal read it.

Rules: times are UTC, units are in the names.  A field the viewer may not see is absent (``UNSET``), a value
nobody knows is null.  Fields are added to ``gpushare.status/1``, never renamed.
"""

from datetime import datetime
from enum import StrEnum

from msgspec import UNSET, Struct, UnsetType

SCHEMA = "gpushare.status/1"


class State(StrEnum):
    """What the whole server is doing: the word of the headline."""

    FREE = "free"
    BUSY = "busy"
    SWAP = "swap"
    FULL = "full"
    PAUSED = "paused"
    DRAINING = "draining"
    OLLAMA_DOWN = "ollama-down"
    STARTING = "starting"


class Notice(Struct, frozen=True, kw_only=True):
    """One thing a viewer should know; ``level`` is ``info``, ``warn`` or ``bad``."""

    code: str
    level: str
    text: str


class Running(Struct, frozen=True, kw_only=True):
    """A call that holds a slot."""

    id: str
    who: str
    you: bool
    model: str
    started: datetime
    swap: bool
    tokens: int | UnsetType | None = UNSET
    tokens_per_s: float | UnsetType | None = UNSET
    tool: str | UnsetType = UNSET


class Waiting(Struct, frozen=True, kw_only=True):
    """A call in the queue, in the order of service.

    ``starts`` is the told instant, which stays while it still holds; ``starts_in_s`` is the time left to it.
    ``reason`` says why it starts later than told first.
    """

    id: str
    position: int
    who: str
    you: bool
    model: str
    since: datetime
    starts_in_s: float | None
    swap: bool
    reason: str | None = None
    tool: str | UnsetType = UNSET
    starts: datetime | None = None


class Model(Struct, frozen=True, kw_only=True):
    """A model in memory; ``on_gpu`` is the part of it in GPU memory, from 0 to 1."""

    name: str
    vram_bytes: int
    on_gpu: float | None
    context: int | None
    unloads: datetime | None


class Gpu(Struct, frozen=True, kw_only=True):
    """A graphics card; ``busy`` is from 0 to 1.

    ``slowed`` says in words what slows it down.  ``others`` are programs on it that are not Ollama's.  A card
    that is ``lost`` no longer answers and has no numbers.  ``busy_history`` has a mean for each 10 s of the
    last 15 minutes, oldest first.
    """

    index: int
    name: str | None
    busy: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    celsius: int | None
    watts: float | None
    watts_limit: float | None
    slowed: tuple[str, ...] | None
    others: int | None
    others_bytes: int | None
    lost: bool
    busy_history: tuple[float | None, ...]


class PersonShare(Struct, frozen=True, kw_only=True):
    """One person's last 24 hours; ``share`` is the part of all slot-seconds."""

    who: str
    you: bool
    requests: int
    slot_s: float
    share: float | None


class LastDay(Struct, frozen=True, kw_only=True):
    """The last 24 hours.

    ``swaps_context`` counts, besides ``swaps``, how often a model in memory was seen with another context
    size than before, since the server started at most.
    ``wait_p95_by_hour_s`` is what 95 % of the calls of each hour waited at most, the current hour last.
    """

    requests: int
    wait_p50_s: float | None
    wait_p95_s: float | None
    swaps: int
    people: tuple[PersonShare, ...]
    swaps_context: int = 0
    wait_p95_by_hour_s: tuple[float | None, ...] = ()


class LastRequest(Struct, frozen=True, kw_only=True):
    """A person's latest request that ended: when, how long it waited, and how long it then took."""

    ended: datetime
    model: str
    waited_s: float
    took_s: float


class You(Struct, frozen=True, kw_only=True):
    """The viewer's own last 24 hours; ``last`` is null if nothing is known of an earlier request."""

    who: str
    requests: int
    share: float | None
    last: LastRequest | None


class Ollama(Struct, frozen=True, kw_only=True):
    """Ollama behind the queue; ``up`` is null until it was first asked.

    It is so since ``since``; with ``at_least`` that is when it was first asked, and it may be so for longer.
    """

    up: bool | None
    version: str | None
    since: datetime | None
    at_least: bool = False


class Document(Struct, frozen=True, kw_only=True):
    """The status document for one viewer.

    ``gpus`` is null where nothing reads them; ``gpu_note`` says why numbers are missing.
    """

    schema: str = SCHEMA
    now: datetime
    host: str
    version: str
    state: State
    notices: tuple[Notice, ...]
    new_request_starts_in_s: float | None
    ollama: Ollama
    running: tuple[Running, ...]
    waiting: tuple[Waiting, ...]
    models: tuple[Model, ...]
    gpus: tuple[Gpu, ...] | None = None
    gpu_note: str | None = None
    day: LastDay | UnsetType = UNSET
    new_request_starts: datetime | None = None
    you: You | UnsetType = UNSET
