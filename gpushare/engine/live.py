"""One call while it lives: how far it has come, and what its record is made from.

Called by: ``engine.gateway``, which owns it; the status page reads it.
"""

import asyncio

from msgspec import Struct

from gpushare.core.errors import GpushareError
from gpushare.core.model import Call, Outcome, Phase, Principal, Record, Usage
from gpushare.engine.held import HeldSlot
from gpushare.engine.relay import Relay


class LiveCall(Struct, eq=False, kw_only=True):
    """One call while it lives: what the status page shows of it and what its record is made from.

    Fits ``engine.ports.Progress``: the relay tells it how far the answer has come, and it tells the slot.
    ``tried`` is the model Ollama has to run for it; empty where it only tells facts or changes the store.
    """

    call: Call
    who: Principal
    request_id: str
    tool: str
    began: float
    tried: str = ""
    phase: Phase = Phase.REQUEST
    outcome: Outcome | None = None
    status: int = 0
    admitted: bool = False
    lease: HeldSlot | None = None
    relay: Relay | None = None
    queued_at: float | None = None
    connect_s: float | None = None
    first_s: float | None = None
    usage: Usage = Usage()
    delivered: bool = True
    upload: asyncio.Task[object] | None = None  # what streams a file to Ollama, in place of a relay
    cancelled: GpushareError | None = None  # somebody ended it, and it had no relay to cut
    sent_away: bool = False  # Ollama was too busy for it once
    let_on: bool = False  # by the breakers, which wait to hear how it ended

    def cut(self, error: GpushareError) -> None:
        """Ends the call, if it is on its way to Ollama, with this error."""
        if self.relay is not None:
            self.relay.cut(error)
        elif self.upload is not None and self.cancelled is None:
            self.cancelled = error
            self.upload.cancel()

    def sent(self) -> None:
        """The request is on its way."""
        self.phase = Phase.FIRST
        if self.lease is not None:
            self.lease.sent()

    def first_byte(self) -> None:
        """The first byte of the answer arrived."""
        self.phase = Phase.DATA
        if self.lease is not None:
            self.lease.first_byte()

    def answered(self, outcome: Outcome) -> None:
        """The answer is decided: the slot is free from now on."""
        self.outcome = outcome
        if self.lease is not None:
            self.lease.settle(outcome)

    def record(self, now: float, wall: float) -> Record:
        """Returns the final facts of the call."""
        who, usage, relay = self.who, self.usage, self.relay
        grant = self.lease.held() if self.lease is not None else None
        return Record(
            request_id=self.request_id,
            key_id=who.key_id,
            owner=who.owner,
            person=who.name,
            tool=self.tool,
            api=self.call.endpoint.dialect,
            route=self.call.endpoint.path,
            model=self.call.model,
            service=who.service,
            phase=self.phase,
            outcome=self.outcome or Outcome.INTERNAL_ERROR,
            status=self.status,
            ended_at=wall,
            waited_s=self._waited_s(now),
            connect_s=self.connect_s,
            first_s=self.first_s,
            total_s=now - self.began,
            slot_s=grant.charged if grant is not None else 0.0,
            load_s=self.load_s,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            records=relay.records if relay is not None else 0,
            bytes_out=relay.bytes_out if relay is not None else 0,
            swap=grant.swap if grant is not None else False,
            delivered=self.delivered,
            suspect=usage.suspect,
            energy_j=grant.energy_j if grant is not None else None,
            admitted=self.admitted,
        )

    @property
    def load_s(self) -> float | None:
        """Seconds in which the model was loaded, as Ollama says or else as seen; None if it was there."""
        seen_s = self.lease.held().load_s if self.lease is not None else None
        return seen_s if seen_s is None or self.usage.load_s is None else self.usage.load_s

    def _waited_s(self, now: float) -> float | None:
        """Returns the seconds in the queue, also of a call that gave up there."""
        if self.lease is not None:
            return self.lease.waited_s
        return None if self.queued_at is None else now - self.queued_at
