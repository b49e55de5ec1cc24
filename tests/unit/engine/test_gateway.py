"""The pipeline of a call: every call ends in one outcome, told once, whatever happened to it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from gpushare.core.breaker import MODEL_FAILURES, MODEL_FIRST_HOLD_S
from gpushare.core.config import Config
from gpushare.core.dialects import find_endpoint
from gpushare.core.errors import (
    Cancelled,
    CloudModel,
    Fault,
    GpushareError,
    Internal,
    KeyRevoked,
    ModelFailing,
    ModelUnknown,
    OllamaBroken,
    OllamaDown,
    PersonLimit,
    Restarting,
    UnloadDenied,
)
from gpushare.core.model import (
    Call,
    Framing,
    Intent,
    Lane,
    Outcome,
    Phase,
    Principal,
    Record,
    ResidentModel,
    Role,
    UpstreamRequest,
)
from gpushare.core.scheduler import Scheduler
from gpushare.engine.gateway import Gateway
from gpushare.engine.health import Health
from gpushare.engine.monitor import Monitor
from gpushare.engine.ports import Consumer
from gpushare.engine.slots import LocalSlots, QueueLimits
from tests.unit.records import FakeLedger

DONE = b'{"model":"m","done":true,"done_reason":"stop","prompt_eval_count":7,"eval_count":3}\n'


class FakeExchange:
    """A connection that only notes its end."""

    def __init__(self) -> None:
        self.aborted = False

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self) -> None:
        self.aborted = True


class FakeUpstream:
    """An Ollama whose answer ``play`` gives to the relay."""

    def __init__(self) -> None:
        self.requests: list[UpstreamRequest] = []
        self.exchange = FakeExchange()
        self.opened = asyncio.Event()
        self.consumer: Consumer | None = None
        self.play: Callable[[Consumer], None] = answer

    async def open(self, request: UpstreamRequest, consumer: Consumer) -> FakeExchange:
        self.requests.append(request)
        self.consumer = consumer
        self.opened.set()
        asyncio.get_running_loop().call_soon(self.play, consumer)
        return self.exchange


def answer(consumer: Consumer) -> None:
    """A stream of one record and its end."""
    consumer.head(200, {"content-type": "application/x-ndjson"})
    consumer.body(b'{"model":"m","response":"a","done":false}\n' + DONE)
    consumer.end(framed=True)


def begin(consumer: Consumer) -> None:
    """A stream of one record that does not end."""
    consumer.head(200, {"content-type": "application/x-ndjson"})
    consumer.body(b'{"response":"a","done":false}\n')


def silence(consumer: Consumer) -> None:
    """Nothing at all."""


class FakeSink:
    """Collects an answer."""

    def __init__(self) -> None:
        self.started = False
        self.headers: dict[str, str] = {}
        self.body = b""
        self.finished = self.aborted = False

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        self.started, self.headers = True, dict(headers)

    def write(self, data: bytes) -> None:
        self.body += data

    def finish(self) -> None:
        self.finished = True

    def abort(self) -> None:
        self.aborted = True

    def backlog(self) -> int:
        return 0

    def set_flow(self, pause: Callable[[], None] | None, resume: Callable[[], None] | None) -> None: ...

    async def drained(self) -> None: ...


class FakeOllama:
    """Ollama's small answers."""

    async def version(self) -> str:
        return "0.33.0"

    async def installed(self) -> frozenset[str]:
        return frozenset({"m:latest"})

    async def resident(self) -> tuple[ResidentModel, ...]:
        return (ResidentModel(name="m:latest", size_bytes=1, vram_bytes=1, context=None, expires=None),)

    async def get(self, target: str, *, timeout_s: float) -> tuple[int, str, bytes]:
        return 200, "application/json", b'{"models":[{"name":"m:latest"},{"name":"secret:70b"}]}'

    async def upload(self, method: str, target: str, chunks: AsyncIterator[bytes]) -> tuple[int, str, bytes]:
        total = b"".join([chunk async for chunk in chunks])
        if not total:
            raise OllamaBroken("closed the connection")
        return 201, "", total


class Desk:
    """A gateway with fakes all round."""

    def __init__(self, config: Config | None = None) -> None:
        self.now = 10.0
        self.upstream = FakeUpstream()
        self.records: list[Record] = []
        self.ledger = FakeLedger()
        self.scheduler = Scheduler()
        self.scheduler.add_backend("b", slots=1)
        self.scheduler.add_backend("e", slots=1, lane=Lane.EMBED)
        limits = QueueLimits(max_waiting=8, max_waiting_per_person=1)
        self.slots = LocalSlots(self.scheduler, limits=limits, clock=self.clock, jitter=lambda: 0.0)
        ollama = FakeOllama()
        self.health = Health(
            self.slots, backends=("b", "e"), grace_s=5.0, clock=self.clock, jitter=lambda: 0.5
        )
        self.monitor = Monitor(
            ollama,
            slots=self.slots,
            health=self.health,
            backends=("b", "e"),
            heard=lambda: 0,
            interval_s=5,
            clock=self.clock,
        )
        self.gateway = Gateway(
            config or Config(),
            slots=self.slots,
            upstream=self.upstream,
            ollama=ollama,
            monitor=self.monitor,
            ledger=self.ledger,
            health=self.health,
            observe=self.records.append,
            clock=self.clock,
            wall=lambda: 0.0,
        )

    def clock(self) -> float:
        return self.now

    async def handle(
        self,
        call: Call,
        who: Principal | None = None,
        *,
        request_id: str = "r_1",
        sink: FakeSink | None = None,
    ) -> FakeSink:
        """Carries one call and returns where its answer went."""
        await self.monitor.poll()
        sink = sink or FakeSink()
        await self.gateway.handle(
            call, who or person(), sink, request_id=request_id, tool="curl", max_wait_s=60.0
        )
        return sink

    async def refused(self, call: Call, who: Principal | None = None) -> GpushareError:
        """Returns the error of a call that fails."""
        with pytest.raises(GpushareError) as caught:
            await self.handle(call, who)
        return caught.value


def person(**fields: object) -> Principal:
    """A caller."""
    return Principal(**{"key_id": "aaaaaa", "name": "alice", "owner": "aaaaaa", **fields})  # type: ignore[arg-type]


def generate(path: str = "/api/generate", *, model: str = "m:latest", **fields: object) -> Call:
    """A classified call."""
    endpoint, target = find_endpoint("GET" if path in {"/api/tags", "/api/ps"} else "POST", path)
    known: dict[str, object] = {
        "endpoint": endpoint,
        "target": target,
        "body": b"{}",
        "content_type": "application/json",
        "model": model,
        "asked": model,
        "framing": endpoint.framing if endpoint.streams else Framing.SINGLE,
        "lane": endpoint.lane,
    }
    return Call(**{**known, **fields})  # type: ignore[arg-type]


async def test_a_call_ends_in_one_record_with_its_facts() -> None:
    """P36: phase, outcome, tokens and times are told once, and the answer carries the call's id."""
    desk = Desk()
    sink = await desk.handle(generate())
    assert sink.finished
    assert sink.headers["X-Gpushare-Request"] == "r_1"
    assert sink.headers["X-Gpushare-Waited"] == "0.0"
    (record,) = desk.records
    assert (record.outcome, record.phase, record.status) == (Outcome.OK, Phase.DATA, 200)
    assert (record.input_tokens, record.output_tokens) == (7, 3)
    assert desk.gateway.live == {}


async def test_what_is_sent_is_what_was_classified() -> None:
    """The upstream's target is the table's, the body is the caller's."""
    desk = Desk()
    await desk.handle(generate(body=b'{"model":"m"}'))
    (request,) = desk.upstream.requests
    assert (request.method, request.target, request.body) == ("POST", "/api/generate", b'{"model":"m"}')


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (generate(model="nope:latest"), ModelUnknown),
        (generate(model="gpt-oss:120b-cloud"), CloudModel),
        (generate(intent=Intent.UNLOAD), UnloadDenied),
    ],
)
async def test_what_must_not_wait_is_refused_before_the_queue(call: Call, error: type[GpushareError]) -> None:
    """Unknown and cloud models and an unload by a person never reach Ollama and are told once."""
    desk = Desk()
    assert isinstance(await desk.refused(call), error)
    assert desk.upstream.requests == []
    assert [record.phase for record in desk.records] == [Phase.REQUEST]


def shut_model(desk: Desk) -> None:
    """Ollama fails with the model until its calls are refused."""
    for _ in range(MODEL_FAILURES):
        desk.health.ended("m:latest", Outcome.UPSTREAM_ERROR, 500, loading=True)


async def test_a_trial_that_never_reached_ollama_leaves_its_turn_to_the_next() -> None:
    """P14: or the model stayed shut for ever, since the others wait for the end of the trial."""
    desk = Desk()
    shut_model(desk)
    assert isinstance(await desk.refused(generate()), ModelFailing)
    desk.now += MODEL_FIRST_HOLD_S
    assert isinstance(await desk.refused(generate(intent=Intent.UNLOAD)), UnloadDenied)
    await desk.handle(generate())
    assert desk.records[-1].outcome is Outcome.OK


@pytest.mark.parametrize(("left", "shut"), [((), True), (("m:latest",), False)], ids=["lost", "kept"])
async def test_a_model_that_each_call_loses_is_shut(left: tuple[str, ...], *, shut: bool) -> None:
    """P14: a runner that crashes takes the model out of memory; what only one call brings about does not.

    While such calls follow each other, none is granted at a moment when the model is known to be gone.
    """
    desk = Desk()

    def crash(consumer: Consumer) -> None:
        desk.slots.set_resident(("b", "e"), frozenset(left))
        consumer.head(500, {"content-type": "application/json"})
        consumer.body(b'{"error":"llama runner process has terminated"}')
        consumer.end(framed=True)

    desk.upstream.play = crash
    for _ in range(MODEL_FAILURES):
        await desk.handle(generate())
    assert (desk.health.shut_models() == ("m:latest",)) is shut


async def test_facts_about_a_model_prove_nothing() -> None:
    """P14: Ollama tells them without loading it, so they are told while it is shut, and it stays shut."""
    desk = Desk()
    shut_model(desk)
    desk.upstream.play = lambda consumer: _document(consumer, b"{}")
    assert (await desk.handle(generate("/api/show"))).body == b"{}"
    assert isinstance(await desk.refused(generate()), ModelFailing)


async def test_a_hidden_model_looks_like_one_that_is_not_there() -> None:
    """A key that may not use a model gets the very words of an unknown one."""
    desk = Desk()
    hidden = await desk.refused(generate(), person(models=("other:*",)))
    assert hidden.message == ModelUnknown("m:latest").message


async def test_an_admin_may_unload() -> None:
    """The unload form passes for admins."""
    desk = Desk()
    await desk.handle(generate(intent=Intent.UNLOAD), person(role=Role.ADMIN))
    assert len(desk.upstream.requests) == 1


async def test_lists_do_not_wait_for_a_slot() -> None:
    """Metadata passes while the only slot is held."""
    desk = Desk()
    desk.upstream.play = silence
    busy = asyncio.ensure_future(desk.handle(generate()))
    await desk.upstream.opened.wait()
    desk.upstream.play = lambda consumer: _document(consumer, b'{"models":[]}')
    sink = await desk.handle(generate("/api/tags", model=""), request_id="r_2")
    assert sink.body == b'{"models":[]}'
    assert "X-Gpushare-Waited" not in sink.headers
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)


def _document(consumer: Consumer, body: bytes) -> None:
    consumer.head(200, {"content-type": "application/json"})
    consumer.body(body)
    consumer.end(framed=True)


async def test_a_restricted_key_sees_only_its_models() -> None:
    """A list for a key with model patterns loses the others."""
    desk = Desk()
    sink = await desk.handle(generate("/api/tags", model=""), person(models=("m:*",)))
    assert b"m:latest" in sink.body
    assert b"secret" not in sink.body


@pytest.mark.parametrize(
    ("leave_at", "outcome"),
    [(Phase.QUEUE, Outcome.CLIENT_GONE_QUEUED), (Phase.FIRST, Outcome.CLIENT_GONE_RUNNING)],
)
async def test_a_client_that_leaves_is_told_by_its_phase(leave_at: Phase, outcome: Outcome) -> None:
    """A cancelled call gives its place or slot back at once and says where it was."""
    desk = Desk()
    desk.upstream.play = silence
    first = asyncio.ensure_future(desk.handle(generate(), person(owner="x"), request_id="r_0"))
    await desk.upstream.opened.wait()
    second = asyncio.ensure_future(desk.handle(generate(), request_id="r_1"))
    while "r_1" not in desk.gateway.live or desk.gateway.live["r_1"].phase is Phase.REQUEST:
        await asyncio.sleep(0)
    assert desk.gateway.running() == 1
    leaving = second if leave_at is Phase.QUEUE else first
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert desk.records[0].outcome is outcome
    assert desk.records[0].phase is leave_at
    assert not desk.records[0].delivered
    second.cancel()
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert desk.slots.snapshot().held == 0
    assert desk.scheduler.n_wait == 0


async def test_a_client_that_leaves_in_mid_stream_is_recorded_with_what_went_out() -> None:
    """Status, first byte and records of a broken-off answer are in its record."""
    desk = Desk()
    desk.upstream.play = begin
    sink = FakeSink()
    running = asyncio.ensure_future(desk.handle(generate(), sink=sink))
    while not sink.started:
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    (record,) = desk.records
    assert (record.outcome, record.status, record.records) == (Outcome.CLIENT_GONE_RUNNING, 200, 1)
    assert record.first_s is not None
    assert not record.delivered


async def test_a_call_turned_away_at_the_door_is_not_counted_as_admitted() -> None:
    """A refusal by a limit is recorded without a place in the queue."""
    desk = Desk()
    desk.upstream.play = silence
    tasks = [asyncio.ensure_future(desk.handle(generate(), request_id=f"r_{n}")) for n in range(2)]
    while desk.scheduler.n_wait != 1:
        await asyncio.sleep(0)
    with pytest.raises(PersonLimit):
        await desk.handle(generate(), request_id="r_9")
    assert not desk.records[0].admitted
    assert desk.records[0].waited_s is None
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_dial_that_fails_frees_the_slot_and_is_a_502() -> None:
    """An Ollama that is down is told to the caller and to the record."""
    desk = Desk()

    async def refuse(request: UpstreamRequest, consumer: Consumer) -> FakeExchange:
        raise Fault(Outcome.UPSTREAM_REFUSED, "connection refused", sent=False)

    desk.upstream.open = refuse  # type: ignore[method-assign]
    error = await desk.refused(generate())
    assert isinstance(error, OllamaDown)
    assert error.status == 502
    assert desk.records[0].outcome is Outcome.UPSTREAM_REFUSED
    assert desk.slots.snapshot().held == 0


async def test_a_fault_of_ours_is_a_500_with_the_call_s_id() -> None:
    """An exception nobody expected frees the slot and is recorded as internal."""
    desk = Desk()

    async def explode(request: UpstreamRequest, consumer: Consumer) -> FakeExchange:
        raise ZeroDivisionError

    desk.upstream.open = explode  # type: ignore[method-assign]
    error = await desk.refused(generate())
    assert isinstance(error, Internal)
    assert "r_1" in error.message
    assert desk.records[0].outcome is Outcome.INTERNAL_ERROR
    assert desk.slots.snapshot().held == 0


async def test_a_running_stream_can_be_cut_with_a_reason() -> None:
    """Cutting writes the error into the stream, ends it and frees the slot."""
    desk = Desk()
    desk.upstream.play = begin
    sink = FakeSink()
    running = asyncio.ensure_future(desk.handle(generate(), sink=sink))
    while not sink.started:
        await asyncio.sleep(0)
    desk.gateway.cut(lambda who: who.name == "somebody else", Restarting)
    assert not running.done()
    desk.gateway.cut(lambda who: who.name == "alice", Restarting)
    await running
    assert b'"error"' in sink.body.splitlines()[-1]
    assert desk.upstream.exchange.aborted
    assert desk.records[0].outcome is Outcome.DRAINED
    assert desk.slots.snapshot().held == 0


async def test_who_is_let_in_is_told_before_it_waits() -> None:
    """P24: a call with a place in the queue is noted at once; one turned away at the door never is."""
    desk = Desk()
    running, waiting = await waits_behind(desk)
    with pytest.raises(PersonLimit):
        await desk.handle(generate(), request_id="r_9")
    noted = [(each.request_id, each.who.owner, each.tool, each.model) for each in desk.ledger.let_in]
    assert noted == [("r_0", "x", "curl", "m:latest"), ("r_1", "aaaaaa", "curl", "m:latest")]
    assert not waiting.done()
    for task in (running, waiting):
        task.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)


async def test_lists_and_refusals_are_not_let_in() -> None:
    """What never waits has no note; what an admin changes has one."""
    desk = Desk()
    await desk.refused(generate(model="nope:latest"))
    await desk.handle(generate("/api/tags", model=""))
    assert desk.ledger.let_in == []
    await desk.handle(generate("/api/pull", model="other:latest"), person(role=Role.ADMIN))
    assert [each.endpoint.path for each in desk.ledger.let_in] == ["/api/pull"]


async def test_an_upload_streams_and_is_recorded() -> None:
    """A model file passes in pieces and leaves one record."""
    desk = Desk()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"cd"

    call = generate(f"/api/blobs/sha256:{'0' * 64}", model="")
    answered = await desk.gateway.upload(
        call, person(role=Role.ADMIN), chunks(), request_id="r_1", tool="curl"
    )
    assert answered == (201, "", b"abcd")
    assert [(record.outcome, record.admitted) for record in desk.records] == [(Outcome.OK, True)]


def uploading(desk: Desk, chunks: AsyncIterator[bytes]) -> asyncio.Future[tuple[int, str, bytes]]:
    """Begins an upload of an admin's."""
    call = generate(f"/api/blobs/sha256:{'0' * 64}", model="")
    who = person(role=Role.ADMIN)
    return asyncio.ensure_future(desk.gateway.upload(call, who, chunks, request_id="r_1", tool="curl"))


async def never_ending() -> AsyncIterator[bytes]:
    """Sends a piece of a file and no more."""
    yield b"ab"
    await asyncio.Event().wait()


async def test_an_upload_that_is_cut_ends_with_the_reason() -> None:
    """Once, however often it is cut: revocation looks twice a second."""
    desk = Desk()
    upload = uploading(desk, never_ending())
    await asyncio.sleep(0)
    desk.gateway.cut(lambda who: not who.is_admin, KeyRevoked)
    desk.gateway.cut(lambda who: who.is_admin, Restarting)
    desk.gateway.cut(lambda who: who.is_admin, KeyRevoked)
    with pytest.raises(Restarting):
        await upload
    assert [(record.outcome, record.status) for record in desk.records] == [(Outcome.DRAINED, 503)]


async def test_an_upload_that_is_cut_when_its_client_left_is_the_client_s() -> None:
    """Nobody is there to be told why."""
    desk = Desk()
    upload = uploading(desk, never_ending())
    await asyncio.sleep(0)
    upload.cancel()
    desk.gateway.cut(lambda _: True, Restarting)
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert [record.outcome for record in desk.records] == [Outcome.CLIENT_GONE_RUNNING]


async def test_an_upload_that_ollama_breaks_off_is_ollama_s_fault_to_the_last() -> None:
    """P22: that the server closes down has nothing to do with it."""
    desk = Desk()
    desk.slots.close()

    async def nothing() -> AsyncIterator[bytes]:
        for piece in list[bytes]():
            yield piece

    with pytest.raises(OllamaBroken):
        await uploading(desk, nothing())
    assert [record.outcome for record in desk.records] == [Outcome.UPSTREAM_RESET]


async def waits_behind(
    desk: Desk, **fields: object
) -> tuple[asyncio.Future[FakeSink], asyncio.Future[FakeSink]]:
    """Returns a call of somebody else's that runs, and one of alice's (``r_1``) that waits behind it."""
    desk.upstream.play = begin
    first = asyncio.ensure_future(desk.handle(generate(), person(owner="x"), request_id="r_0"))
    await desk.upstream.opened.wait()
    second = asyncio.ensure_future(desk.handle(generate(), person(**fields), request_id="r_1"))
    while desk.scheduler.n_wait != 1:
        await asyncio.sleep(0)
    return first, second


async def test_a_waiting_call_can_be_cancelled() -> None:
    """It leaves the queue at once with an error that no client repeats, and Ollama never hears of it."""
    desk = Desk()
    first, second = await waits_behind(desk)
    assert desk.gateway.cancel("r_1", person())
    assert desk.scheduler.n_wait == 0
    with pytest.raises(Cancelled) as caught:
        await second
    assert (caught.value.status, caught.value.retry) == (410, False)
    assert len(desk.upstream.requests) == 1
    (record,) = desk.records
    assert (record.outcome, record.phase, record.status) == (Outcome.CANCELLED, Phase.QUEUE, 410)
    assert desk.gateway.cancel("r_0", person(owner="x"))
    await first


async def test_a_running_call_can_be_cancelled() -> None:
    """Its stream ends with the error, Ollama's connection is closed and the slot goes to the next."""
    desk = Desk()
    first, second = await waits_behind(desk)
    assert desk.gateway.cancel("r_0", person(owner="x"))
    assert desk.upstream.exchange.aborted
    sink = await first
    assert b"cancelled" in sink.body.splitlines()[-1]
    assert desk.records[0].outcome is Outcome.CANCELLED
    assert not desk.gateway.cancel("r_0", person(owner="x")), "it has ended already"
    assert desk.gateway.cancel("r_1", person(owner="y", role=Role.ADMIN)), "an admin may end anybody's"
    with pytest.raises(Cancelled, match="An admin"):
        await second


async def test_nobody_else_s_call_can_be_cancelled() -> None:
    """Another owner's call is as unknown as one that is not there; another key of the owner will do."""
    desk = Desk()
    first, second = await waits_behind(desk)
    assert not desk.gateway.cancel("r_1", person(owner="bbbbbb"))
    assert not desk.gateway.cancel("r_9", person())
    assert desk.scheduler.n_wait == 1
    assert desk.gateway.cancel("r_1", person(key_id="cccccc"))
    first.cancel()
    assert isinstance((await asyncio.gather(first, second, return_exceptions=True))[1], Cancelled)


async def test_a_call_that_has_a_slot_but_has_not_woken_up_can_be_cancelled() -> None:
    """The grant goes back unused and Ollama never hears of the call."""
    desk = Desk()
    first, second = await waits_behind(desk)
    desk.gateway.cancel("r_0", person(owner="x"))
    assert desk.slots.snapshot().held == 1, "the slot has gone to r_1, whose task has not run yet"
    assert desk.gateway.live["r_1"].lease is None
    assert desk.gateway.cancel("r_1", person())
    with pytest.raises(Cancelled):
        await second
    await first
    assert len(desk.upstream.requests) == 1
    assert desk.slots.snapshot().held == 0
    assert [record.outcome for record in desk.records] == [Outcome.CANCELLED] * 2


async def test_a_call_can_be_cancelled_before_it_is_in_the_queue() -> None:
    """A call whose model is still being looked up never gets a place."""
    desk = Desk()
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(model: str) -> bool:
        entered.set()
        await go_on.wait()
        return True

    desk.monitor.knows = slowly  # type: ignore[method-assign]
    call = asyncio.ensure_future(desk.handle(generate()))
    await entered.wait()
    assert desk.gateway.cancel("r_1", person())
    go_on.set()
    with pytest.raises(Cancelled):
        await call
    assert desk.upstream.requests == []
    assert [(record.outcome, record.phase) for record in desk.records] == [(Outcome.CANCELLED, Phase.REQUEST)]


async def test_a_model_that_is_usually_quick_is_given_up_sooner() -> None:
    """Once five answers of a loaded model have begun, the first byte has a deadline of its own."""
    desk = Desk()
    desk.scheduler.set_resident("b", ["m:latest"], 0.0)
    limits = []
    for number in range(6):
        live = desk.gateway._begin(generate(), person(), request_id=f"x{number}", tool="")  # noqa: SLF001
        with desk.slots.lease(live.call, live.who, ticket_id=live.request_id, max_wait_s=1) as lease:
            await lease.turn()
            live.lease = lease
            usual = desk.gateway._deadlines(live.call)  # noqa: SLF001
            limits.append(desk.gateway._sooner(live, usual).first_byte_s)  # noqa: SLF001
        del desk.gateway.live[live.request_id]
        await desk.handle(generate(), request_id=f"r{number}")
    assert limits[:5] == [330.0] * 5
    assert 60.0 <= limits[5] < 61.0
