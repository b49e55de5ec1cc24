"""What the engine asks of the outside, as Protocols.

The classes that fit them live in ``edge`` and ``web``; only ``app`` sees both sides.  Rules: whatever
could one day be remote is ``async``; whatever runs after a stream (``settle``, ``Observer``) is synchronous
for ever, because a cancellation can split an await but not a plain call.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

from gpushare.core.errors import Fault
from gpushare.core.gpu import GpuReport
from gpushare.core.keys import KeyRing
from gpushare.core.ledger import Action, Admission, LedgerState
from gpushare.core.model import Outcome, Principal, Record, ResidentModel, UpstreamRequest
from gpushare.core.usage import By, DayLoad, KeyUse, Refusal, Since, Usage, UsageRow


class Consumer(Protocol):
    """Receives one upstream answer, synchronously, from the socket's own callback.

    Order: ``head`` once, ``body`` any number of times, then exactly one of ``end`` and ``failed``.  After an
    ``Exchange.abort`` nothing more is called.
    """

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Takes the status and the headers that anything depends on (lower-case names)."""

    def body(self, data: bytes) -> None:
        """Takes body bytes the parser accepted, joined to one piece per read."""

    def end(self, *, framed: bool) -> None:
        """The message ended; ``framed`` is False where only the end of the connection said so."""

    def failed(self, fault: Fault) -> None:
        """The answer broke: connection lost, illegal framing."""


class Exchange(Protocol):
    """One open upstream connection; it carries one request and is closed after it."""

    def pause(self) -> None:
        """Stops reading, so that TCP holds Ollama back.  Idempotent."""

    def resume(self) -> None:
        """Reads again.  Idempotent."""

    def abort(self) -> None:
        """Closes the connection at once.  Idempotent; no consumer callback follows."""


class Upstream(Protocol):
    """How to reach one Ollama."""

    async def open(self, request: UpstreamRequest, consumer: Consumer) -> Exchange:
        """Connects and sends the request.

        Raises:
            Fault: with ``sent=False`` when the dial failed or timed out, ``sent=True`` afterwards.
        """


class Sink(Protocol):
    """Where an answer goes.  The gateway never learns whether it is a socket, a buffer or a job.

    Everything but ``drained`` is synchronous.  After the client has gone, all methods do nothing.
    """

    @property
    def started(self) -> bool:
        """Whether the status and headers are given."""

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Sets status and headers, which may wait for the first ``write``; called once, before it."""

    def write(self, data: bytes) -> None:
        """Queues body bytes and flushes what the socket takes now."""

    def finish(self) -> None:
        """Ends the message properly.  Idempotent."""

    def abort(self) -> None:
        """Cuts the connection, so that the client can tell the answer is not whole.  Idempotent."""

    def backlog(self) -> int:
        """Returns the bytes in our process that the client has not taken."""

    def set_flow(self, pause: Callable[[], None] | None, resume: Callable[[], None] | None) -> None:
        """Sets what is called when the backlog passes the high and the low water mark; None unsets."""

    async def drained(self) -> None:
        """Waits until the backlog is empty or the client has gone."""


class Progress(Protocol):
    """Told how far an answer has come; synchronous."""

    def sent(self) -> None:
        """The request is on its way."""

    def first_byte(self) -> None:
        """The first byte of an answer that is no error arrived."""

    def answered(self, outcome: Outcome) -> None:
        """The answer is decided; told exactly once."""


Observer = Callable[[Record], None]
"""Told once of every call that ended; synchronous, never raises, never waits."""


class Ledger(Protocol):
    """The book of calls, as the gateway writes it.  Synchronous: nothing here waits or raises."""

    def admitted(self, admission: Admission) -> None:
        """Notes that a call has a place in the queue, or is passed on for an admin."""

    def append(self, record: Record) -> None:
        """Adds a call that ended; an ``Observer``."""


class LedgerReader(Protocol):
    """The book of calls, as the pages read it.  What reads raises ``LedgerUnavailable``."""

    @property
    def state(self) -> LedgerState:
        """How the writing goes."""

    async def own_calls(self, owner: str, since: float) -> list[Record]:
        """Returns an owner's queued calls since an instant, newest first."""

    async def usage(self, by: By, since: Since, *, owner: str | None = None) -> Usage:
        """Returns what one owner used, or all did."""

    async def own_days(self, owner: str, count: int) -> list[UsageRow]:
        """Returns what an owner used on each of the last days, today last."""

    async def refusals(self, owner: str, since: float) -> list[Refusal]:
        """Returns which of an owner's calls were turned away, newest first."""

    async def key_uses(self, since: float) -> Mapping[str, KeyUse]:
        """Returns for each key that was ever used what it used since an instant, and its last use."""

    async def day_loads(self, count: int, *, hours: tuple[int, int] = (0, 24)) -> list[DayLoad]:
        """Returns how the last days went within these hours of the day, today last."""

    async def actions(self, limit: int) -> list[Action]:
        """Returns what admins did last, newest first."""

    def note_action(self, who: Principal, what: str, target: str = "", detail: str = "") -> None:
        """Adds what an admin did; synchronous, and never fails."""


class Exposition(Protocol):
    """The metrics page."""

    def render(self, accept: str) -> tuple[bytes, str]:
        """Returns the page and its content type, in the format an ``Accept`` header asks for."""


class KeyStore(Protocol):
    """The keys as they are kept."""

    async def edit(self, change: Callable[[KeyRing], KeyRing]) -> None:
        """Replaces the keys by what ``change`` makes of those that are kept, and acts on it at once.

        ``change`` runs in another thread.  What it raises comes out, and nothing was changed then.
        """


class OllamaApi(Protocol):
    """Ollama's small answers, and uploads.  Each method has a deadline and raises ``GpushareError``."""

    async def version(self) -> str:
        """Returns Ollama's version."""

    async def installed(self) -> frozenset[str]:
        """Returns the names of the models in the store."""

    async def resident(self) -> tuple[ResidentModel, ...]:
        """Returns the models in memory."""

    async def get(self, target: str, *, timeout_s: float) -> tuple[int, str, bytes]:
        """Returns status, content type and body of a small answer."""

    async def upload(self, method: str, target: str, chunks: AsyncIterator[bytes]) -> tuple[int, str, bytes]:
        """Streams a request body without a limit; returns status, content type and body."""


class ModelMemory(Protocol):
    """What Ollama holds in memory, as admins change it."""

    async def unload(self, model: str) -> None:
        """Asks Ollama to drop a model once nothing runs on it; as the methods of ``OllamaApi``."""


class GpuSource(Protocol):
    """Where GPU numbers come from."""

    async def run(self, tell: Callable[[GpuReport], None]) -> None:
        """Tells what is read, again and again, until cancelled.

        What cannot be read is a report too: nothing is raised for it, and nothing started here outlives the
        cancellation.
        """
