"""The pipeline of a call, from its classification to its final record.

Owns: the table of live calls.  Called by: ``web.inference``.

Rules:
- Every call ends in exactly one outcome and is told to the observer exactly once, in the outermost
  ``finally``, by synchronous code.
- The gateway knows neither sockets nor HTTP; errors leave it as types, the web layer renders them.
- It never learns whether a ``Sink`` is a socket, a buffer or a job.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog
from msgspec import structs

from gpushare.core.config import Config
from gpushare.core.errors import (
    Cancelled,
    CloudModel,
    GpushareError,
    Internal,
    ModelUnknown,
    OllamaBusy,
    OllamaDown,
    UnloadDenied,
    WebSearchClosed,
)
from gpushare.core.ledger import Admission
from gpushare.core.lists import filter_list
from gpushare.core.model import Call, Intent, Kind, Outcome, Phase, Principal, UpstreamRequest
from gpushare.core.names import is_cloud, may_use
from gpushare.core.pace import Paces
from gpushare.engine.health import Health
from gpushare.engine.held import HeldSlot
from gpushare.engine.live import LiveCall
from gpushare.engine.monitor import Monitor
from gpushare.engine.ports import Ledger, Observer, OllamaApi, Sink, Upstream
from gpushare.engine.relay import Deadlines, Relay, RelayEnd
from gpushare.engine.slots import LocalSlots

LIST_TIMEOUT_S = 2.5  # some tools give a list 5 s; Ollama's /api/ps can hang on its own locks
FACTS_TIMEOUT_S = 30.0  # /api/show reads a model file from disk
TURNED_AWAY = (Outcome.REJECTED_QUEUE_FULL, Outcome.REJECTED_KEY_LIMIT)
"""Ends of calls that never had a place in the queue."""
BUSY_S = 1.0  # how long nothing is granted after Ollama refused a call because of somebody else's
LISTS = ("/api/tags", "/api/ps", "/v1/models")

_log = structlog.get_logger()


class Gateway:
    """Takes classified calls through admission, queue, relay and settlement.

    Args:
        slots: the queue and its slots.
        upstream: how calls reach Ollama.
        ollama: Ollama's small answers, for filtered lists and uploads.
        monitor: which models exist.
        ledger: told of every call that is let in.
        health: whether Ollama may be asked now; told how calls ended.
        observe: told of every call that ended.
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
        health: Health,
        observe: Observer,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.config = config
        self.slots = slots
        self._upstream = upstream
        self._ollama = ollama
        self._monitor = monitor
        self._ledger = ledger
        self._health = health
        self._paces = Paces()
        self._observe = observe
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
            _log.error("request.failed", request=request_id, error=type(error).__name__, exc_info=True)
            live.outcome, live.status = Outcome.INTERNAL_ERROR, Internal.status
            raise Internal(request_id) from error
        finally:
            self._settle(live)

    async def upload(
        self, call: Call, who: Principal, chunks: AsyncIterator[bytes], *, request_id: str, tool: str
    ) -> tuple[int, str, bytes]:
        """Streams a model file to Ollama without a limit; returns status, content type and body.

        Raises:
            GpushareError: Ollama could not be reached or broke off, the upload was cut from here, or what
                ``chunks`` raised.
        """
        live = self._begin(call, who, request_id=request_id, tool=tool)
        live.phase, live.upload = Phase.CONNECT, asyncio.current_task()
        try:
            answer = await self._ollama.upload(call.endpoint.method, call.target, chunks)
            live.outcome, live.status = Outcome.OK, answer[0]
        except asyncio.CancelledError:
            if live.cancelled is None or (live.upload is not None and live.upload.uncancel()):
                self._note_departure(live)
                raise
            live.outcome, live.status = live.cancelled.outcome, live.cancelled.status
            raise live.cancelled from None
        except GpushareError as error:
            live.outcome, live.status = error.outcome, error.status
            raise
        finally:
            self._settle(live)
        return answer

    def cut(self, chosen: Callable[[Principal], bool], error: Callable[[], GpushareError]) -> None:
        """Ends the running calls of the chosen callers, uploads too, with an error inside the stream."""
        for live in list(self.live.values()):
            if chosen(live.who):
                live.cut(error())

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

    def running(self) -> int:
        """Returns how many calls are under way and do not wait for a slot."""
        return sum(live.phase is not Phase.QUEUE for live in self.live.values())

    # --- the steps -------------------------------------------------------------------------------------

    def _begin(self, call: Call, who: Principal, *, request_id: str, tool: str) -> LiveCall:
        kind = call.endpoint.kind
        live = LiveCall(
            call=call,
            who=who,
            request_id=request_id,
            tool=tool,
            began=self._clock(),
            tried=call.model if kind is Kind.QUEUED else "",
            admitted=kind is Kind.ADMIN,  # what changes the model store is always logged
        )
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
        self._health.admit(live.tried)
        live.let_on = True
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
            while True:
                await lease.turn()
                live.phase, live.lease = Phase.CONNECT, lease
                self._heed(live)
                end = await self._relay(live, sink)
                if not self._comes_again(live, lease, end):
                    return end
                self._health.ended(live.tried, end.outcome, end.status, loading=lease.loading)
                live.phase, live.outcome, live.relay, live.lease = Phase.QUEUE, None, None, None
                self._health.let_wait()
                lease.again()

    def _comes_again(self, live: LiveCall, lease: HeldSlot, end: RelayEnd) -> bool:
        """Whether a call goes back to the head of its queue: Ollama did nothing for it, and it may yet.

        One that had waited is not refused for a dial that fails: it waits until Ollama is back, or the
        breaker sends it away.  One that Ollama was too busy for is sent once more.
        """
        if isinstance(end.error, OllamaBusy):
            self.slots.hold_back(lease.backend, BUSY_S)
            again = not live.sent_away
            live.sent_away = True
            return again
        return isinstance(end.error, OllamaDown) and lease.waited

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
            deadlines=self._sooner(live, self._deadlines(call)),
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

    def _headers(self, live: LiveCall) -> dict[str, str]:
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
        first_byte_s = idle_s = total_s = 0.0  # a download may take hours, and is silent while it checks
        kind = call.endpoint.kind
        if kind is Kind.QUEUED:
            total_s = ollama.total_timeout
            if call.streaming:
                first_byte_s, idle_s = ollama.first_byte_timeout, ollama.idle_timeout
        elif kind is Kind.PASSED:
            first_byte_s = idle_s = LIST_TIMEOUT_S if call.endpoint.method != "POST" else FACTS_TIMEOUT_S
        return Deadlines(
            first_byte_s=first_byte_s,
            idle_s=idle_s,
            total_s=total_s,
            write_stall_s=server.write_stall,
            finish_s=server.finish_timeout,
        )

    def _sooner(self, live: LiveCall, limits: Deadlines) -> Deadlines:
        """Returns the limits with an earlier one for the first byte, where its usual time is known.

        A wedged Ollama is told from a long prompt by it, without a probe that would load the GPU.
        """
        call = live.call
        if not limits.first_byte_s or live.lease is None or live.lease.swap:
            return limits
        usual_s = self._paces.limit_s(call.model, len(call.body))
        if usual_s is None or usual_s >= limits.first_byte_s:
            return limits
        return structs.replace(limits, first_byte_s=usual_s)

    # --- the end ---------------------------------------------------------------------------------------

    def _note_end(self, live: LiveCall, end: RelayEnd) -> None:
        live.outcome, live.status = end.outcome, end.status
        live.usage, live.delivered = end.usage, end.delivered
        if end.connected_at is not None:
            live.connect_s = end.connected_at - live.began
        if end.first_at is not None:
            live.first_s = end.first_at - live.began
            self._note_pace(live, end.first_at - (end.connected_at or end.first_at))
        if live.load_s:
            self.slots.learn_load(live.call.model, live.load_s)

    def _note_pace(self, live: LiveCall, seconds: float) -> None:
        """Learns how long a loaded model takes to begin; a single document only begins when it ends."""
        if live.call.streaming and live.lease is not None and not live.lease.swap:
            self._paces.note(live.call.model, len(live.call.body), seconds)

    def _note_departure(self, live: LiveCall) -> None:
        """The client left; what was already answered stays answered."""
        live.delivered = False
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
        if live.relay is not None:
            loading = live.lease is not None and live.lease.loading
            self._health.ended(live.tried, record.outcome, record.status, loading=loading)
        elif live.let_on:
            self._health.not_sent(live.tried)
        live.relay = live.upload = live.cancelled = None  # they know the call: the collector would be late
        self._observe(record)


def answer_headers(request_id: str) -> dict[str, str]:
    """Returns the headers that every answer carries, errors included; some have another ``Cache-Control``."""
    return {
        "X-Gpushare-Request": request_id,
        "X-Request-Id": request_id,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
