"""The pipeline of a call, from its classification to its final record.

Owns: the table of live calls.  Called by: ``web.inference``.

Rules:
- Every call ends in exactly one outcome and is told to the observers exactly once, in the outermost
  ``finally``, by synchronous code.
- The gateway knows neither sockets nor HTTP; errors leave it as types, the web layer renders them.
- It never learns whether a ``Sink`` is a socket, a buffer or a job.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from msgspec import Struct

from gpushare.core.config import Config
from gpushare.core.errors import (
    Cancelled,
    CloudModel,
    GpushareError,
    Internal,
    ModelUnknown,
    UnloadDenied,
    WebSearchClosed,
)
from gpushare.core.ledger import Admission
from gpushare.core.lists import filter_list
from gpushare.core.model import Call, Intent, Kind, Outcome, Phase, Principal, Record, UpstreamRequest, Usage
from gpushare.core.names import is_cloud, may_use
from gpushare.engine.monitor import Monitor
from gpushare.engine.ports import Ledger, Observer, OllamaApi, Sink, Upstream
from gpushare.engine.relay import Deadlines, Relay, RelayEnd
from gpushare.engine.slots import HeldSlot, LocalSlots

LIST_TIMEOUT_S = 2.5  # some tools give a list 5 s; Ollama's /api/ps can hang on its own locks
FACTS_TIMEOUT_S = 30.0  # /api/show reads a model file from disk
TURNED_AWAY = (Outcome.REJECTED_QUEUE_FULL, Outcome.REJECTED_KEY_LIMIT)
"""Ends of calls that never had a place in the queue."""
LISTS = ("/api/tags", "/api/ps", "/v1/models")


class LiveCall(Struct, eq=False, kw_only=True):
    """One call while it lives: what the status page shows of it and what its record is made from.

    Fits ``engine.ports.Progress``: the relay tells it how far the answer has come, and it tells the slot.
    """

    call: Call
    who: Principal
    request_id: str
    tool: str
    began: float
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
    cancelled: GpushareError | None = None  # somebody ended it before it had a relay to cut

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
        lease, relay = self.lease, self.relay
        return Record(
            request_id=self.request_id,
            key_id=self.who.key_id,
            owner=self.who.owner,
            person=self.who.name,
            tool=self.tool,
            api=self.call.dialect,
            route=self.call.endpoint.path,
            model=self.call.model,
            service=self.who.service,
            phase=self.phase,
            outcome=self.outcome or Outcome.INTERNAL_ERROR,
            status=self.status,
            ended_at=wall,
            waited_s=self._waited_s(now),
            connect_s=self.connect_s,
            first_s=self.first_s,
            total_s=now - self.began,
            slot_s=lease.slot_s if lease else 0.0,
            load_s=self.usage.load_s,
            input_tokens=self.usage.input_tokens,
            output_tokens=self.usage.output_tokens,
            records=relay.records if relay else 0,
            bytes_out=relay.bytes_out if relay else 0,
            swap=lease.swap if lease else False,
            delivered=self.delivered,
            suspect=self.usage.suspect,
            admitted=self.admitted,
        )

    def _waited_s(self, now: float) -> float | None:
        """Returns the seconds in the queue, also of a call that gave up there."""
        if self.lease is not None:
            return self.lease.waited_s
        return None if self.queued_at is None else now - self.queued_at


class Gateway:
    """Takes classified calls through admission, queue, relay and settlement.

    Args:
        slots: the queue and its slots.
        upstream: how calls reach Ollama.
        ollama: Ollama's small answers, for filtered lists and uploads.
        monitor: which models exist.
        ledger: told of every call that is let in.
        observers: told of every call that ended, in this order.
        clock: monotonic seconds.
        wall: seconds since 1970, for records only.
    """

    def __init__(
        self,
        config: Config,
        *,
        slots: LocalSlots,
        upstream: Upstream,
        ollama: OllamaApi,
        monitor: Monitor,
        ledger: Ledger,
        observers: Sequence[Observer],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.config = config
        self.slots = slots
        self._upstream = upstream
        self._ollama = ollama
        self._monitor = monitor
        self._ledger = ledger
        self._observers = tuple(observers)
        self._clock = clock
        self._wall = wall
        self.live: dict[str, LiveCall] = {}

    async def handle(
        self, call: Call, who: Principal, sink: Sink, *, request_id: str, tool: str, max_wait_s: float
    ) -> None:
        """Carries one call to its end; the answer goes to ``sink``.

        Raises:
            GpushareError: nothing has been sent and the caller is to be told this.
        """
        live = self._begin(call, who, request_id=request_id, tool=tool)
        try:
            end = await self._serve(live, sink, max_wait_s)
            self._note_end(live, end)
            if end.error is not None:
                raise end.error
        except asyncio.CancelledError:
            self._note_departure(live)
            raise
        except GpushareError as error:
            live.outcome, live.status = error.outcome, error.status
            if error.outcome in TURNED_AWAY:
                live.admitted, live.queued_at = False, None
            raise
        except Exception as error:
            live.outcome, live.status = Outcome.INTERNAL_ERROR, Internal.status
            raise Internal(request_id) from error
        finally:
            self._settle(live)

    async def upload(
        self, call: Call, who: Principal, chunks: AsyncIterator[bytes], *, request_id: str, tool: str
    ) -> tuple[int, str, bytes]:
        """Streams a model file to Ollama without a limit; returns status, content type and body.

        Raises:
            GpushareError: Ollama could not be reached or broke off.
        """
        live = self._begin(call, who, request_id=request_id, tool=tool)
        live.phase = Phase.CONNECT
        try:
            answer = await self._ollama.upload(call.endpoint.method, call.target, chunks)
            live.outcome, live.status = Outcome.OK, answer[0]
        except asyncio.CancelledError:
            self._note_departure(live)
            raise
        except GpushareError as error:
            live.outcome, live.status = error.outcome, error.status
            raise
        finally:
            self._settle(live)
        return answer

    def cut(self, chosen: Callable[[Principal], bool], error: Callable[[], GpushareError]) -> None:
        """Ends the running calls of the chosen callers with an error inside the stream."""
        for live in list(self.live.values()):
            if live.relay is not None and chosen(live.who):
                live.relay.cut(error())

    def cancel(self, request_id: str, who: Principal) -> bool:
        """Ends a call that waits or runs; people may end their own, admins anybody's.

        Returns:
            False when ``who`` may end no call of this id, because there is none or it is somebody else's.
        """
        live = self.live.get(request_id)
        if live is None or live.outcome is not None or live.call.endpoint.kind is not Kind.QUEUED:
            return False
        own = live.who.owner == who.owner
        if not own and not who.is_admin:
            return False
        live.cancelled = Cancelled(by_admin=not own)
        if live.relay is not None:
            live.relay.cut(live.cancelled)
        else:
            self.slots.withdraw(request_id, live.cancelled)
        return True

    # --- the steps -------------------------------------------------------------------------------------

    def _begin(self, call: Call, who: Principal, *, request_id: str, tool: str) -> LiveCall:
        live = LiveCall(call=call, who=who, request_id=request_id, tool=tool, began=self._clock())
        live.admitted = call.endpoint.kind is Kind.ADMIN  # what changes the model store is always logged
        self.live[request_id] = live
        if live.admitted:
            self._note_admission(live)
        return live

    def _note_admission(self, live: LiveCall) -> None:
        self._ledger.admitted(
            Admission(
                request_id=live.request_id,
                who=live.who,
                tool=live.tool,
                endpoint=live.call.endpoint,
                model=live.call.model,
                at=self._wall(),
            )
        )

    async def _serve(self, live: LiveCall, sink: Sink, max_wait_s: float) -> RelayEnd:
        call, who = live.call, live.who
        if call.endpoint.kind is not Kind.QUEUED:
            self._check_visible(call, who)
            if who.models and call.endpoint.path in LISTS:
                return await self._filtered_list(live, sink)
            return await self._relay(live, sink)
        await self._check_model(call, who)
        self._heed(live)
        live.phase, live.admitted = Phase.QUEUE, True
        live.queued_at = self._clock()
        with self.slots.lease(call, who, ticket_id=live.request_id, max_wait_s=max_wait_s) as lease:
            self._note_admission(live)
            await lease.turn()
            live.phase, live.lease = Phase.CONNECT, lease
            self._heed(live)
            return await self._relay(live, sink)

    def _heed(self, live: LiveCall) -> None:
        """Goes no further with a call that was cancelled between two steps."""
        if live.cancelled is not None:
            raise live.cancelled

    async def _check_model(self, call: Call, who: Principal) -> None:
        """Refuses what must not wait for a slot: cloud models, hidden and unknown ones, unloading."""
        if is_cloud(call.model) and not self.config.ollama.cloud:
            raise CloudModel(call.asked)
        if call.web_search and not self.config.ollama.cloud:
            raise WebSearchClosed
        self._check_visible(call, who)
        if call.intent is Intent.UNLOAD and not who.is_admin:
            raise UnloadDenied(call.asked)
        if not await self._monitor.knows(call.model):
            raise ModelUnknown(call.asked)

    def _check_visible(self, call: Call, who: Principal) -> None:
        if call.model and who.models and not may_use(who.models, call.model):
            raise ModelUnknown(call.asked)

    def _relay(self, live: LiveCall, sink: Sink) -> Awaitable[RelayEnd]:
        call = live.call
        relay = live.relay = Relay(
            call=call,
            sink=sink,
            request_id=live.request_id,
            headers=self._headers(live),
            deadlines=self._deadlines(call),
            progress=live,
        )
        request = UpstreamRequest(
            method=call.endpoint.method, target=call.target, body=call.body, content_type=call.content_type
        )
        return relay.run(self._upstream, request)

    async def _filtered_list(self, live: LiveCall, sink: Sink) -> RelayEnd:
        """Answers a list for a key that may not see every model."""
        status, content_type, body = await self._ollama.get(live.call.target, timeout_s=LIST_TIMEOUT_S)
        shown = filter_list(body, live.who.models) if status == 200 else body
        sink.start(status, {"Content-Type": content_type, **self._headers(live)})
        sink.write(shown)
        sink.finish()
        return RelayEnd(outcome=Outcome.OK, status=status)

    def _headers(self, live: LiveCall) -> Mapping[str, str]:
        headers = answer_headers(live.request_id)
        if live.lease is not None:
            headers["X-Gpushare-Waited"] = f"{live.lease.waited_s:.1f}"
        return headers

    def _deadlines(self, call: Call) -> Deadlines:
        """Returns the limits of a call; an answer that is one document has only the total one.

        Its first byte is its last, so neither a first-byte nor an idle limit could tell a long answer from a
        dead one.
        """
        ollama, server = self.config.ollama, self.config.server
        stall = {"write_stall_s": server.write_stall, "finish_s": server.finish_timeout}
        kind = call.endpoint.kind
        if kind is Kind.PASSED:
            limit = LIST_TIMEOUT_S if call.endpoint.method != "POST" else FACTS_TIMEOUT_S
            return Deadlines(first_byte_s=limit, idle_s=limit, total_s=0.0, **stall)
        if kind is not Kind.QUEUED:  # a download may take hours and is silent while it checks what it has
            return Deadlines(first_byte_s=0.0, idle_s=0.0, total_s=0.0, **stall)
        if not call.streaming:
            return Deadlines(first_byte_s=0.0, idle_s=0.0, total_s=ollama.total_timeout, **stall)
        return Deadlines(
            first_byte_s=ollama.first_byte_timeout,
            idle_s=ollama.idle_timeout,
            total_s=ollama.total_timeout,
            **stall,
        )

    # --- the end ---------------------------------------------------------------------------------------

    def _note_end(self, live: LiveCall, end: RelayEnd) -> None:
        live.outcome, live.status = end.outcome, end.status
        live.usage, live.delivered = end.usage, end.delivered
        if end.connected_at is not None:
            live.connect_s = end.connected_at - live.began
        if end.first_at is not None:
            live.first_s = end.first_at - live.began
        if live.lease is not None and live.lease.swap and end.usage.load_s:
            self.slots.learn_load(live.call.model, end.usage.load_s)

    def _note_departure(self, live: LiveCall) -> None:
        """The client left; what was already answered stays answered."""
        if live.relay is not None and live.outcome is not None:
            self._note_end(live, live.relay.summary())
        elif live.phase is Phase.REQUEST:
            live.outcome = Outcome.CLIENT_GONE_BODY
        elif live.phase is Phase.QUEUE:
            live.outcome = Outcome.CLIENT_GONE_QUEUED
        else:
            live.outcome = Outcome.CLIENT_GONE_RUNNING

    def _settle(self, live: LiveCall) -> None:
        """Tells everybody who counts, exactly once; synchronous, so no cancellation can split it."""
        del self.live[live.request_id]
        record = live.record(self._clock(), self._wall())
        live.relay = live.cancelled = (
            None  # both know the live call; the collector would find them much later
        )
        for observe in self._observers:
            observe(record)


def answer_headers(request_id: str) -> dict[str, str]:
    """Returns the headers that every answer carries, errors included."""
    return {"X-Gpushare-Request": request_id, "X-Request-Id": request_id}
