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
    """A call in the queue, in the order of service; ``reason`` says why it starts later than told first."""

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


class Model(Struct, frozen=True, kw_only=True):
    """A model in memory; ``on_gpu`` is the part of it in GPU memory, from 0 to 1."""

    name: str
    vram_bytes: int
    on_gpu: float | None
    context: int | None
    unloads: str | None


class PersonShare(Struct, frozen=True, kw_only=True):
    """One person's last 24 hours; ``share`` is the part of all slot-seconds."""

    who: str
    you: bool
    requests: int
    slot_s: float
    share: float | None


class LastDay(Struct, frozen=True, kw_only=True):
    """The last 24 hours; ``swaps_context`` is not measured yet."""

    requests: int
    wait_p50_s: float | None
    wait_p95_s: float | None
    swaps: int
    people: tuple[PersonShare, ...]
    swaps_context: int | None = None


class Ollama(Struct, frozen=True, kw_only=True):
    """Ollama behind the queue; ``up`` is null until it was first asked."""

    up: bool | None
    version: str | None
    since: datetime | None


class Document(Struct, frozen=True, kw_only=True):
    """The status document for one viewer; GPU readings are null until something reads them."""

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
    gpus: tuple[()] | None = None
    day: LastDay | UnsetType = UNSET
