"""The value types that travel between layers.

Rules: everything here is immutable and free of behaviour beyond small derived properties, so a value may
be handed to any layer, kept, logged or compared.  Times are seconds; names end in their unit.  They are
msgspec structs, because a call makes half a dozen of them and a frozen dataclass costs five times as much.
"""

from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class Role(StrEnum):
    """What a key may do besides its own calls."""

    PERSON = "person"
    ADMIN = "admin"


class Service(StrEnum):
    """The scheduling class of a key: who goes first when both wait."""

    INTERACTIVE = "interactive"
    BACKGROUND = "background"


class Dialect(StrEnum):
    """The wire format a route belongs to; every error on it uses that format."""

    OLLAMA = "ollama"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GPUSHARE = "gpushare"


class Kind(StrEnum):
    """How a route is treated; see ``core.dialects.ENDPOINTS``."""

    LIVE = "live"  # answered by us, no key
    PASSED = "passed"  # forwarded at once, never queued
    QUEUED = "queued"  # waits for a slot
    ADMIN = "admin"  # forwarded at once for admins, 403 for everybody else
    REFUSED = "refused"  # 403 for everybody until the configuration opens it


class Lane(StrEnum):
    """Which set of slots a queued call needs."""

    GENERATE = "generate"
    EMBED = "embed"


class Framing(StrEnum):
    """How an answer is cut into records; chosen by route and the body's ``stream``, never by content type."""

    SINGLE = "single"  # one JSON document, passed as read
    NDJSON = "ndjson"  # one JSON object a line
    SSE = "sse"  # events that end in a blank line


_SINGLE = Framing.SINGLE  # looked up once: up to Python 3.11 it takes the class of an enum long


class Intent(StrEnum):
    """What a queued call really asks for (Ollama loads and unloads through the generation routes)."""

    GENERATE = "generate"
    LOAD = "load"
    UNLOAD = "unload"


class Phase(StrEnum):
    """Where a call was when it ended."""

    REQUEST = "request"
    QUEUE = "queue"
    CONNECT = "connect"
    FIRST = "first"
    DATA = "data"


class Outcome(StrEnum):
    """Why a call ended: one word from this closed list, in the log, the metrics and the ledger."""

    OK = "ok"
    CLIENT_GONE_BODY = "client_gone_body"
    CLIENT_GONE_QUEUED = "client_gone_queued"
    CLIENT_GONE_RUNNING = "client_gone_running"
    CLIENT_SLOW = "client_slow"
    REJECTED_QUEUE_FULL = "rejected_queue_full"
    REJECTED_KEY_LIMIT = "rejected_key_limit"
    REJECTED_OVERLOAD = "rejected_overload"
    QUEUE_TIMEOUT = "queue_timeout"
    BREAKER_OPEN = "breaker_open"
    UPSTREAM_REFUSED = "upstream_refused"
    UPSTREAM_RESET = "upstream_reset"
    UPSTREAM_TRUNCATED = "upstream_truncated"
    UPSTREAM_PROTOCOL = "upstream_protocol"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_BUSY = "upstream_busy"
    TIMEOUT_FIRST_BYTE = "timeout_first_byte"
    TIMEOUT_IDLE = "timeout_idle"
    TIMEOUT_TOTAL = "timeout_total"
    DRAINED = "drained"
    REVOKED = "revoked"
    CANCELLED = "cancelled"  # by its owner or an admin, from a page or a terminal
    LOST_CRASH = "lost_crash"
    INTERNAL_ERROR = "internal_error"
    INVALID = "invalid"  # the request itself was wrong: answered 4xx before the queue


class Principal(Struct, frozen=True, kw_only=True):
    """The authenticated caller.

    ``owner`` is the unit of fairness: several keys of one owner share one weight, one set of limits and one
    place in the ring.  ``models`` empty means every model; a pattern may end in ``*``.  Limits of 0 mean
    "as configured for everybody".
    """

    key_id: str
    name: str
    owner: str
    role: Role = Role.PERSON
    service: Service = Service.INTERACTIVE
    weight: float = 1.0
    models: tuple[str, ...] = ()
    max_waiting: int = 0
    max_running: int = 0

    @property
    def is_admin(self) -> bool:
        """Whether admin routes are open to this key."""
        return self.role is Role.ADMIN


class Endpoint(Struct, frozen=True, kw_only=True):
    """One row of the route table.

    ``upstream`` is the constant path sent to Ollama; None marks a row whose one path parameter is checked by
    an anchored pattern and appended.  ``streams`` is the value of ``stream`` when the body does not say.
    """

    method: str
    path: str
    dialect: Dialect
    kind: Kind
    lane: Lane = Lane.GENERATE
    streams: bool | None = None  # None: the answer is always a single document
    framing: Framing = Framing.SINGLE  # the framing used when it does stream
    multipart: bool = False
    upload: bool = False  # the body is a file, streamed without a limit
    anonymous: bool = False  # answers without a key while ``auth.anonymous_models`` is on


class Call(Struct, frozen=True, kw_only=True):
    """A classified request: all that the scheduler, the gateway and the relay need to know of it."""

    endpoint: Endpoint
    target: str  # the upstream's path (and query), built from the table
    body: bytes
    content_type: str
    model: str  # canonical name; empty where the route names none
    asked: str = ""  # the model as the client wrote it: for texts, never for decisions
    framing: Framing
    lane: Lane
    intent: Intent = Intent.GENERATE
    web_search: bool = False  # offers the model Ollama's own web search, which acts on the operator's account

    @property
    def dialect(self) -> Dialect:
        """The wire format of the call and of every error on it."""
        return self.endpoint.dialect

    @property
    def streaming(self) -> bool:
        """Whether the answer is a stream of records."""
        return self.framing is not _SINGLE


class Usage(Struct, frozen=True, kw_only=True):
    """What the tail of an answer said about its cost; None where it said nothing.

    Token counts come from Ollama.  ``load_s`` teaches load times and is never charged.  ``suspect`` marks
    counts that were absurd and were clamped.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    load_s: float | None = None
    suspect: bool = False


class Record(Struct, frozen=True, kw_only=True):
    """The final facts of one call: one log line, one row of the ledger and one metric increment come from it.

    The timers are absent (None) when their phase was not reached.  ``slot_s`` is the charged cost in
    slot-seconds; ``load_s`` the model-load seconds that were charged to nobody.  ``ended_at`` is wall-clock
    seconds since 1970 and only places the call in a day; no decision reads it.  ``energy_j`` is the measured
    energy of the call, None where nobody measured it.
    """

    request_id: str
    key_id: str
    owner: str = ""
    person: str
    tool: str
    api: Dialect
    route: str
    model: str
    service: Service
    phase: Phase
    outcome: Outcome
    status: int
    ended_at: float = 0.0
    waited_s: float | None = None
    connect_s: float | None = None
    first_s: float | None = None
    total_s: float = 0.0
    slot_s: float = 0.0
    load_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    records: int = 0
    bytes_out: int = 0
    swap: bool = False
    delivered: bool = True
    suspect: bool = False  # Ollama's token counts were absurd and were clamped
    energy_j: float | None = None
    admitted: bool = True  # False for refusals before the queue and for lists, which are logged at debug

    @property
    def queued(self) -> bool:
        """Whether the call had a place in the queue; of one that a crash ended, that is all that is known."""
        return self.waited_s is not None or (self.outcome is Outcome.LOST_CRASH and self.phase is Phase.QUEUE)


class UpstreamRequest(Struct, frozen=True, kw_only=True):
    """One request to Ollama.  ``body`` is sent as it is; the headers are the edge's own constants."""

    method: str
    target: str
    body: bytes
    content_type: str


class ResidentModel(Struct, frozen=True, kw_only=True):
    """One row of Ollama's list of loaded models; ``context`` in tokens, ``expires`` None if unknown."""

    name: str
    size_bytes: int
    vram_bytes: int
    context: int | None
    expires: datetime | None
