"""``engine.relay``: what the client gets, when the slot is free, and what is recorded, for every ending."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpushare.core.errors import Fault, GpushareError, OllamaDown, Restarting
from gpushare.core.framing import LINE_MAX
from gpushare.core.model import (
    Call,
    Dialect,
    Endpoint,
    Framing,
    Kind,
    Lane,
    Outcome,
    UpstreamRequest,
    Usage,
)
from gpushare.engine.ports import Consumer
from gpushare.engine.relay import HOLD_MAX_BYTES, Deadlines, Relay, RelayEnd

PATIENCE_S = 1e6  # on a clock that jumps
REQUEST = UpstreamRequest(method="POST", target="/api/chat", body=b"{}", content_type="application/json")
JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}
TOKEN = b'{"message":{"content":"Hi"},"done":false}\n'
END = b'{"done":true,"prompt_eval_count":26,"eval_count":7,"load_duration":2000000000}\n'
USAGE = Usage(input_tokens=26, output_tokens=7, load_s=2.0)
DOCUMENT = END.strip()
LIMITS = Deadlines(first_byte_s=100, idle_s=40, total_s=1000, write_stall_s=30, finish_s=10)


class ListSink:
    """A sink that keeps what it gets; its client reads unless told not to."""

    def __init__(self) -> None:
        self.started = False
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.body = b""
        self.pieces = 0
        self.last: str | None = None
        self.waits = 0
        self.empty = asyncio.Event()
        self.pause: Callable[[], None] | None = None
        self.resume: Callable[[], None] | None = None

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Keeps the head."""
        assert not self.started
        self.started, self.status, self.headers = True, status, dict(headers)

    def write(self, data: bytes) -> None:
        """Keeps body bytes."""
        assert self.started
        assert self.last is None
        self.body += data
        self.pieces += 1

    def finish(self) -> None:
        """Notes a proper end."""
        self.last = self.last or "finished"

    def abort(self) -> None:
        """Notes a cut."""
        self.last = self.last or "aborted"

    def backlog(self) -> int:
        """Returns what the client is said to have left."""
        return self.waits

    def set_flow(self, pause: Callable[[], None] | None, resume: Callable[[], None] | None) -> None:
        """Keeps the callbacks."""
        self.pause, self.resume = pause, resume

    async def drained(self) -> None:
        """Waits until the test says that the client read everything."""
        await self.empty.wait()


@dataclass
class FakeExchange:
    """An exchange that notes what was done to it."""

    reading: bool = True
    open: bool = True

    def pause(self) -> None:
        """Notes it."""
        self.reading = False

    def resume(self) -> None:
        """Notes it."""
        self.reading = True

    def abort(self) -> None:
        """Notes it."""
        self.open = False


@dataclass
class FakeUpstream:
    """An upstream whose dials fail as listed, and then succeed or hang."""

    faults: list[Fault] = field(default_factory=list)
    hangs: bool = False
    dials: int = 0
    exchange: FakeExchange = field(default_factory=FakeExchange)
    dialled: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self, request: UpstreamRequest, consumer: Consumer) -> FakeExchange:
        """Dials."""
        assert request is REQUEST
        self.dials += 1
        self.dialled.set()
        if self.faults:
            raise self.faults.pop(0)
        if self.hangs:
            await asyncio.Event().wait()
        self.opened.set()
        return self.exchange


class Bench:
    """A relay with fakes around it, and what it told its owner."""

    def __init__(
        self,
        path: str = "/api/chat",
        framing: Framing = Framing.NDJSON,
        *,
        dialect: Dialect = Dialect.OLLAMA,
        kind: Kind = Kind.QUEUED,
        method: str = "POST",
        multipart: bool = False,
        limits: Deadlines = LIMITS,
        upstream: FakeUpstream | None = None,
    ) -> None:
        endpoint = Endpoint(method=method, path=path, dialect=dialect, kind=kind, multipart=multipart)
        call = Call(
            endpoint=endpoint,
            target=path,
            body=b"{}",
            content_type="application/json",
            model="m",
            framing=framing,
            lane=Lane.GENERATE,
        )
        self.sink = ListSink()
        self.upstream = upstream or FakeUpstream()
        self.told: list[str] = []
        self.began = asyncio.get_running_loop().time()
        self.relay = Relay(
            call=call,
            sink=self.sink,
            request_id="r1",
            headers={"X-Request-Id": "r1"},
            deadlines=limits,
            progress=self,
        )

    def age(self) -> float:
        """Returns the seconds since the beginning."""
        return asyncio.get_running_loop().time() - self.began

    def sent(self) -> None:
        self.told.append("sent")

    def first_byte(self) -> None:
        self.told.append("first")

    def answered(self, outcome: Outcome) -> None:
        assert not (self.upstream.opened.is_set() and self.upstream.exchange.open)
        self.told.append(outcome)

    async def begin(self) -> asyncio.Task[RelayEnd]:
        """Starts the relay and returns once the request is out."""
        task = asyncio.create_task(self.relay.run(self.upstream, REQUEST))
        await self.upstream.opened.wait()
        await asyncio.sleep(0)
        return task

    async def answer(
        self,
        *pieces: bytes,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        end: str | Fault = "framed",
    ) -> RelayEnd:
        """Plays a whole answer, as far as the relay keeps the exchange open; returns how the call ended."""
        task = await self.begin()
        exchange, relay = self.upstream.exchange, self.relay
        relay.head(status, NDJSON if headers is None else headers)
        for piece in pieces:
            if exchange.open:
                relay.body(piece)
        if exchange.open and isinstance(end, Fault):
            relay.failed(end)
        elif exchange.open:
            relay.end(framed=end == "framed")
        return await asyncio.wait_for(task, PATIENCE_S)


def fault(outcome: Outcome, *, sent: bool = True) -> Fault:
    """Returns a fault."""
    return Fault(outcome, "broke", sent=sent)


def error_line(sink: ListSink) -> object:
    """Returns the last line of an NDJSON answer."""
    return json.loads(sink.body.splitlines()[-1])


# --- complete answers ------------------------------------------------------------------------------------


async def test_a_stream_passes_byte_for_byte() -> None:
    """Records pass as they are, the answer is complete at its end mark and its counts are known."""
    bench = Bench()
    end = await bench.answer(TOKEN, TOKEN, END)
    assert (bench.sink.body, bench.sink.last, bench.sink.status) == (TOKEN + TOKEN + END, "finished", 200)
    assert bench.sink.headers["Content-Type"] == "application/x-ndjson"
    assert bench.sink.headers["X-Request-Id"] == "r1"
    assert bench.told == ["sent", "first", Outcome.OK]
    assert (end.outcome, end.usage, end.records, end.delivered) == (Outcome.OK, USAGE, 3, True)
    assert end.bytes_out == len(bench.sink.body)
    assert end.error is None


async def test_a_read_is_one_write() -> None:
    """Sixteen records of one read are one write."""
    bench = Bench()
    await bench.answer(TOKEN * 16 + END)
    assert bench.sink.pieces == 1


async def test_the_slot_is_free_at_the_end_mark_although_the_message_never_ends() -> None:
    """Ollama's last record decides; the connection is closed and the client's answer ends."""
    bench = Bench()
    task = await bench.begin()
    bench.relay.head(200, NDJSON)
    bench.relay.body(TOKEN + END)
    assert bench.told[-1] == Outcome.OK
    assert not bench.upstream.exchange.open
    assert bench.sink.last == "finished"
    assert (await task).outcome is Outcome.OK


async def test_the_slot_is_free_before_a_slow_client_has_read() -> None:
    """A client that takes long for the tail holds nothing but its own connection."""
    bench = Bench()
    bench.sink.waits = 1000
    task = await bench.begin()
    bench.relay.head(200, NDJSON)
    bench.relay.body(END)
    assert bench.told[-1] == Outcome.OK
    await asyncio.sleep(0)
    assert not task.done()
    bench.sink.empty.set()
    assert (await task).delivered


async def test_a_client_that_never_takes_the_tail_is_cut() -> None:
    """After ``finish_s`` the connection is aborted and the call recorded as slow, with its counts."""
    bench = Bench()
    bench.sink.waits = 1000
    end = await bench.answer(END)
    assert (end.outcome, end.delivered, end.usage) == (Outcome.CLIENT_SLOW, False, USAGE)
    assert bench.told[-1] == Outcome.OK


async def test_nothing_is_sent_before_a_record_is_whole() -> None:
    """A head and half a record still leave every status open."""
    bench = Bench()
    task = await bench.begin()
    bench.relay.head(200, NDJSON)
    bench.relay.body(TOKEN[:10])
    assert not bench.sink.started
    assert bench.told == ["sent", "first"]
    bench.relay.failed(fault(Outcome.UPSTREAM_TRUNCATED))
    end = await task
    assert (end.outcome, end.status) == (Outcome.UPSTREAM_RESET, 502)


async def test_an_unfinished_last_record_passes_at_a_proper_end() -> None:
    """A message that ended properly is complete although its last line has no end."""
    bench = Bench()
    end = await bench.answer(TOKEN + END[:5], END[5:-1])
    assert bench.sink.body == TOKEN + END[:-1]
    assert (end.outcome, end.usage) == (Outcome.OK, USAGE)


async def test_nothing_passes_behind_the_end_mark() -> None:
    """Records after the last one are dropped, also from the same read."""
    bench = Bench()
    await bench.answer(END + TOKEN)
    assert bench.sink.body == END


async def test_a_small_document_is_sent_whole_with_its_length() -> None:
    """One start, one write, whatever the reads were."""
    bench = Bench(framing=Framing.SINGLE)
    end = await bench.answer(DOCUMENT[:9], DOCUMENT[9:], headers=JSON)
    assert (bench.sink.body, bench.sink.pieces) == (DOCUMENT, 1)
    assert bench.sink.headers["Content-Length"] == str(len(DOCUMENT))
    assert (end.outcome, end.usage, end.records) == (Outcome.OK, USAGE, 1)


async def test_a_whole_document_may_be_ended_by_the_close() -> None:
    """An engine that frames nothing is believed when its document is complete."""
    bench = Bench(framing=Framing.SINGLE)
    end = await bench.answer(DOCUMENT, headers=JSON, end="closed")
    assert (bench.sink.body, end.outcome, end.usage) == (DOCUMENT, Outcome.OK, USAGE)


@pytest.mark.parametrize("length", [None, "200012"])
async def test_a_large_document_passes_as_read(length: str | None) -> None:
    """Beyond the bound it is passed on, with Ollama's length if it told one."""
    pieces = [b'{"x":"', b"x" * HOLD_MAX_BYTES, b"x" * (199_996 + 8 - HOLD_MAX_BYTES), b'"}']
    bench = Bench(framing=Framing.SINGLE)
    end = await bench.answer(*pieces, headers=JSON if length is None else JSON | {"content-length": length})
    assert bench.sink.body == b"".join(pieces)
    assert bench.sink.pieces == 3
    assert bench.sink.headers.get("Content-Length") == length
    assert end.outcome is Outcome.OK


async def test_a_streams_length_is_never_repeated() -> None:
    """A stream may get an error record, so its length stays open."""
    bench = Bench()
    await bench.answer(END, headers=NDJSON | {"content-length": str(len(END))})
    assert "Content-Length" not in bench.sink.headers


@pytest.mark.parametrize("kind", [Kind.ADMIN, Kind.PASSED])
async def test_an_empty_answer_is_right_where_nothing_is_generated(kind: Kind) -> None:
    """A change of the model store answers with a status alone."""
    bench = Bench("/api/copy", Framing.SINGLE, kind=kind)
    end = await bench.answer(headers={})
    assert (end.outcome, bench.sink.status, bench.sink.last) == (Outcome.OK, 200, "finished")


async def test_an_answer_to_head_keeps_the_length() -> None:
    """The header describes what a GET would get."""
    bench = Bench("/api/tags", Framing.SINGLE, kind=Kind.PASSED, method="HEAD")
    end = await bench.answer(headers=JSON | {"content-length": "77"})
    assert (end.outcome, bench.sink.headers["Content-Length"], bench.sink.body) == (Outcome.OK, "77", b"")


async def test_a_transcription_in_plain_text_is_complete() -> None:
    """That route alone may answer in something that is no JSON."""
    bench = Bench("/v1/audio/transcriptions", Framing.SINGLE, dialect=Dialect.OPENAI, multipart=True)
    end = await bench.answer(b"hello", headers={"content-type": "text/plain; charset=utf-8"})
    assert (end.outcome, bench.sink.body) == (Outcome.OK, b"hello")


# --- answers that break ----------------------------------------------------------------------------------

STREAMS = {  # how a stream of each dialect begins, and what an error record in it looks like
    Dialect.OLLAMA: ("/api/chat", TOKEN, b'{"error":"'),
    Dialect.OPENAI: ("/v1/chat/completions", b"data: {}\n\n", b'data: {"error":{'),
    Dialect.ANTHROPIC: ("/v1/messages", b"data: {}\n\n", b'event: error\ndata: {"type":"error"'),
}
BREAKS = [
    (fault(Outcome.UPSTREAM_RESET), Outcome.UPSTREAM_RESET),
    (fault(Outcome.UPSTREAM_TRUNCATED), Outcome.UPSTREAM_TRUNCATED),
    (fault(Outcome.UPSTREAM_PROTOCOL), Outcome.UPSTREAM_PROTOCOL),
    ("closed", Outcome.UPSTREAM_TRUNCATED),
    (fault(Outcome.INTERNAL_ERROR), Outcome.INTERNAL_ERROR),
]


@pytest.mark.parametrize(("end", "outcome"), BREAKS)
@pytest.mark.parametrize("dialect", [Dialect.OLLAMA, Dialect.OPENAI, Dialect.ANTHROPIC])
async def test_a_stream_that_breaks_ends_with_an_error_record(
    end: str | Fault, outcome: Outcome, dialect: Dialect
) -> None:
    """Whole records pass, the unfinished one is dropped, one error record in the dialect ends the answer."""
    path, begin, error = STREAMS[dialect]
    framing = Framing.NDJSON if dialect is Dialect.OLLAMA else Framing.SSE
    bench = Bench(path, framing, dialect=dialect)
    result = await bench.answer(begin + b"data: unfin", end=end)
    assert bench.sink.body.startswith(begin + error)
    assert b"[DONE]" not in bench.sink.body
    assert b"unfin" not in bench.sink.body
    assert bench.sink.last == "finished"
    assert (result.outcome, result.error, bench.told[-1]) == (outcome, None, outcome)


@pytest.mark.parametrize(("end", "outcome"), BREAKS)
async def test_a_document_that_breaks_early_is_an_error_status(end: str | Fault, outcome: Outcome) -> None:
    """As long as nothing is out, the client gets a status instead of half a document."""
    bench = Bench(framing=Framing.SINGLE)
    result = await bench.answer(DOCUMENT[:9], headers=JSON, end=end)
    assert not bench.sink.started
    assert result.error is not None
    assert result.status == result.error.status >= 500
    assert result.outcome in (outcome, Outcome.UPSTREAM_RESET)


async def test_a_large_document_that_breaks_is_cut() -> None:
    """The client can tell that the document is not whole."""
    bench = Bench(framing=Framing.SINGLE)
    result = await bench.answer(
        b"x" * (HOLD_MAX_BYTES + 1), headers=JSON, end=fault(Outcome.UPSTREAM_TRUNCATED)
    )
    assert bench.sink.last == "aborted"
    assert (result.outcome, result.delivered) == (Outcome.UPSTREAM_TRUNCATED, False)


async def test_a_stream_that_ends_without_its_mark_is_not_ok() -> None:
    """Ollama ended the message itself: the bytes pass unchanged, the record tells."""
    bench = Bench()
    end = await bench.answer(TOKEN, TOKEN)
    assert (bench.sink.body, bench.sink.last) == (TOKEN + TOKEN, "finished")
    assert end.outcome is Outcome.UPSTREAM_TRUNCATED


@pytest.mark.parametrize("framing", list(Framing))
async def test_an_empty_generation_is_an_error(framing: Framing) -> None:
    """A 200 and nothing else is no answer."""
    end = await Bench(framing=framing).answer()
    assert (end.outcome, end.status) == (Outcome.UPSTREAM_RESET, 502)
    assert end.error is not None
    assert not end.error.retry


@pytest.mark.parametrize("end", ["framed", "closed", fault(Outcome.UPSTREAM_RESET)])
async def test_ollamas_own_error_line_passes_once(end: str | Fault) -> None:
    """Nothing is added to it, however the connection ends."""
    bench = Bench()
    line = b'{"error":"boom"}\n'
    result = await bench.answer(TOKEN, line, end=end)
    assert (bench.sink.body, bench.sink.last) == (TOKEN + line, "finished")
    assert result.outcome is Outcome.UPSTREAM_ERROR


@pytest.mark.parametrize(
    ("body", "outcome"),
    [(b'{"error":"x"}', Outcome.UPSTREAM_ERROR), (b'{"mess', Outcome.UPSTREAM_TRUNCATED)],
)
async def test_a_document_that_is_no_answer_passes_and_is_not_ok(body: bytes, outcome: Outcome) -> None:
    """Bytes of a proper message are unchanged; only the record tells."""
    bench = Bench(framing=Framing.SINGLE)
    end = await bench.answer(body, headers=JSON)
    assert (bench.sink.body, end.outcome) == (body, outcome)


async def test_a_record_without_end_is_given_up() -> None:
    """The stream ends with an error once the bound is passed."""
    bench = Bench()
    end = await bench.answer(TOKEN, b"x" * (LINE_MAX + 1))
    assert end.outcome is Outcome.UPSTREAM_PROTOCOL
    assert bench.sink.body.startswith(TOKEN)
    assert isinstance(error_line(bench.sink), dict)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"content-type": "text/html"}),
        (200, JSON | {"content-encoding": "gzip"}),
        (302, JSON | {"location": "http://169.254.169.254/"}),
        (204, {}),
        (206, JSON),
        (101, {}),
    ],
)
async def test_what_is_no_answer_becomes_502(status: int, headers: Mapping[str, str]) -> None:
    """Nothing of it reaches the client and the connection is closed."""
    bench = Bench()
    end = await bench.answer(b"<html>", status=status, headers=headers)
    assert (end.outcome, end.status) == (Outcome.UPSTREAM_PROTOCOL, 502)
    assert not bench.sink.started
    assert bench.told == ["sent", Outcome.UPSTREAM_PROTOCOL]


# --- Ollama's refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 500, 503])
@pytest.mark.parametrize("framing", list(Framing))
async def test_ollamas_error_passes_unchanged(status: int, framing: Framing) -> None:
    """Status, type and body are Ollama's, and it is no first byte of an answer."""
    body = b'{"error":"model \'x\' not found"}'
    bench = Bench(framing=framing)
    end = await bench.answer(body[:5], body[5:], status=status, headers=JSON)
    assert (bench.sink.status, bench.sink.body, bench.sink.last) == (status, body, "finished")
    assert bench.sink.headers["Content-Type"] == "application/json"
    assert (end.outcome, end.status, end.error) == (Outcome.UPSTREAM_ERROR, status, None)
    assert bench.told == ["sent", Outcome.UPSTREAM_ERROR]
    assert ("Retry-After" in bench.sink.headers) == (status == 503)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"404 page not found", b'{"error":"' + b"x" * HOLD_MAX_BYTES]
)
async def test_an_error_that_is_not_ollamas_becomes_502(body: bytes) -> None:
    """Empty, foreign and endless errors do not pass."""
    bench = Bench()
    end = await bench.answer(body, status=404, headers=JSON)
    assert (end.outcome, end.status) == (Outcome.UPSTREAM_ERROR, 502)
    assert not bench.sink.started


async def test_a_missing_blob_is_told_by_the_status_alone() -> None:
    """An answer to HEAD has no body to judge."""
    bench = Bench("/api/blobs/x", Framing.SINGLE, kind=Kind.ADMIN, method="HEAD")
    end = await bench.answer(status=404, headers={})
    assert (bench.sink.status, end.outcome) == (404, Outcome.UPSTREAM_ERROR)


async def test_a_busy_ollama_is_told_apart() -> None:
    """Nothing is sent, so that the call can wait again."""
    bench = Bench()
    body = b'{"error":"server busy, please try again.  maximum pending requests exceeded"}'
    end = await bench.answer(body, status=503, headers=JSON)
    assert (end.outcome, end.status, bench.sink.started) == (Outcome.UPSTREAM_BUSY, 503, False)


# --- the dial --------------------------------------------------------------------------------------------


async def test_a_failed_dial_is_tried_once_more() -> None:
    """The second dial carries the call."""
    bench = Bench(upstream=FakeUpstream(faults=[fault(Outcome.UPSTREAM_REFUSED, sent=False)]))
    end = await bench.answer(END)
    assert (end.outcome, bench.upstream.dials) == (Outcome.OK, 2)


async def test_a_second_failed_dial_is_the_end() -> None:
    """Nothing was sent, the error says so."""
    faults = [fault(Outcome.UPSTREAM_REFUSED, sent=False) for _ in range(3)]
    bench = Bench(upstream=FakeUpstream(faults=faults))
    end = await bench.relay.run(bench.upstream, REQUEST)
    assert isinstance(end.error, OllamaDown)
    assert (end.outcome, bench.upstream.dials) == (Outcome.UPSTREAM_REFUSED, 2)
    assert bench.told == [Outcome.UPSTREAM_REFUSED]


async def test_a_request_that_was_sent_is_never_sent_again() -> None:
    """Whatever went wrong after the first byte, Ollama may have done the work."""
    bench = Bench(upstream=FakeUpstream(faults=[fault(Outcome.UPSTREAM_RESET)]))
    end = await bench.relay.run(bench.upstream, REQUEST)
    assert (end.outcome, bench.upstream.dials) == (Outcome.UPSTREAM_RESET, 1)


# --- the client and the clock ----------------------------------------------------------------------------


async def test_a_client_that_leaves_closes_the_connection_at_once() -> None:
    """Slot and connection are free in the same turn of the loop, what passed so far is known."""
    bench = Bench()
    task = await bench.begin()
    bench.relay.head(200, NDJSON)
    bench.relay.body(TOKEN)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not bench.upstream.exchange.open
    assert bench.told[-1] == Outcome.CLIENT_GONE_RUNNING
    assert bench.sink.last == "aborted"
    end = bench.relay.summary()
    assert (end.outcome, end.records, end.delivered) == (Outcome.CLIENT_GONE_RUNNING, 1, False)


async def test_a_client_that_leaves_with_the_tail_had_its_answer() -> None:
    """The outcome stays; only the delivery failed."""
    bench = Bench()
    bench.sink.waits = 1000
    task = await bench.begin()
    bench.relay.head(200, NDJSON)
    bench.relay.body(END)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    end = bench.relay.summary()
    assert (end.outcome, end.delivered) == (Outcome.OK, False)
    assert bench.told.count(Outcome.OK) == 1


async def test_leaving_while_dialling_frees_the_slot() -> None:
    """A cancelled dial is an end like any other."""
    bench = Bench(upstream=FakeUpstream(faults=[fault(Outcome.UPSTREAM_REFUSED, sent=False)]))
    task = asyncio.create_task(bench.relay.run(bench.upstream, REQUEST))
    await bench.upstream.dialled.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.told == [Outcome.CLIENT_GONE_RUNNING]


async def test_a_slow_client_pauses_ollama_and_no_more() -> None:
    """The sink's marks reach the connection, until the answer is decided."""
    bench = Bench()
    task = await bench.begin()
    bench.relay.head(200, NDJSON)
    bench.relay.body(TOKEN)
    pause, resume = bench.sink.pause, bench.sink.resume
    assert pause is not None
    assert resume is not None
    readings = []
    for change in (pause, resume):
        change()
        readings.append(bench.upstream.exchange.reading)
    assert readings == [False, True]
    bench.relay.body(END)
    assert bench.sink.pause is None
    await task


@pytest.mark.parametrize(
    ("played", "limits", "outcome"),
    [
        ((), Deadlines(first_byte_s=9), Outcome.TIMEOUT_FIRST_BYTE),
        ((), Deadlines(total_s=9), Outcome.TIMEOUT_TOTAL),
        ((TOKEN,), Deadlines(first_byte_s=9, idle_s=9), Outcome.TIMEOUT_IDLE),
        ((TOKEN, TOKEN[:9]), Deadlines(idle_s=9), Outcome.TIMEOUT_IDLE),
        ((TOKEN,), Deadlines(total_s=9), Outcome.TIMEOUT_TOTAL),
    ],
)
async def test_every_wait_ends(played: tuple[bytes, ...], limits: Deadlines, outcome: Outcome) -> None:
    """Before a record the limit is a 504, after it an error record; the connection is closed."""
    bench = Bench(limits=limits)
    task = await bench.begin()
    if played:
        bench.relay.head(200, NDJSON)
    for piece in played:
        bench.relay.body(piece)
    end = await asyncio.wait_for(task, PATIENCE_S)
    assert end.outcome is outcome
    assert not bench.upstream.exchange.open
    if played:
        assert isinstance(error_line(bench.sink), dict)
        assert bench.sink.last == "finished"
    else:
        assert isinstance(end.error, GpushareError)
        assert end.status == 504


async def test_blank_lines_are_no_progress() -> None:
    """Only records keep an answer alive."""
    bench = Bench(limits=Deadlines(idle_s=9))
    task = await bench.begin()
    bench.relay.head(200, NDJSON)
    bench.relay.body(TOKEN)
    for _ in range(20):
        if bench.upstream.exchange.open:
            bench.relay.body(b"\n")
        await asyncio.sleep(1)
    assert task.done()
    assert (await task).outcome is Outcome.TIMEOUT_IDLE


async def test_a_stalled_client_is_cut() -> None:
    """Nothing can be told to a client that does not read; its slot is freed."""
    bench = Bench()
    task = await bench.begin()
    bench.relay.head(200, NDJSON)
    bench.relay.body(TOKEN)
    bench.sink.waits = len(TOKEN)
    bench.sink.empty.set()
    end = await asyncio.wait_for(task, PATIENCE_S)
    assert (end.outcome, end.delivered, bench.sink.last) == (Outcome.CLIENT_SLOW, False, "aborted")
    assert bench.sink.body == TOKEN


async def test_a_cut_ends_a_stream_with_its_reason() -> None:
    """A drain or a revocation is a record in the stream."""
    bench = Bench()
    task = await bench.begin()
    bench.relay.head(200, NDJSON)
    bench.relay.body(TOKEN)
    bench.relay.cut(Restarting())
    bench.relay.cut(Restarting())
    end = await task
    assert end.outcome is Outcome.DRAINED
    assert bench.told.count(Outcome.DRAINED) == 1
    assert bench.sink.body.count(b"restarting") == 1


async def test_a_cut_before_the_answer_is_a_status() -> None:
    """The web layer renders it."""
    bench = Bench()
    task = await bench.begin()
    bench.relay.cut(Restarting())
    assert (await task).status == 503


async def dialling(bench: Bench) -> asyncio.Task[RelayEnd]:
    """Starts the relay and returns while its dial hangs."""
    bench.upstream.hangs = True
    task = asyncio.create_task(bench.relay.run(bench.upstream, REQUEST))
    await bench.upstream.dialled.wait()
    return task


async def test_a_cut_ends_a_dial() -> None:
    """The call is over in the same moment; nothing counts as sent, and its task is as good as new."""
    bench = Bench()
    task = await dialling(bench)
    bench.relay.cut(Restarting())
    assert bench.told == [Outcome.DRAINED]
    end = await asyncio.wait_for(task, PATIENCE_S)
    assert end.outcome is Outcome.DRAINED
    assert task.cancelling() == 0
    assert bench.age() == 0


async def test_the_total_ends_a_dial() -> None:
    """The dial is a part of the answer's time, although nothing is sent yet."""
    bench = Bench(limits=Deadlines(total_s=2))
    end = await asyncio.wait_for(await dialling(bench), PATIENCE_S)
    assert (end.outcome, end.status) == (Outcome.TIMEOUT_TOTAL, 504)
    assert 2 <= bench.age() < 3


# --- however it is cut -----------------------------------------------------------------------------------

RECORDS = {
    Framing.NDJSON: [TOKEN, '{"response":"💶"}\n'.encode(), b'{"x":"\\u2028"}\n', b"not json\n", b"\n", END],
    Framing.SSE: [b"data: {}\n\n", b": note\n\n", b'event: x\ndata: {"a":"\\n"}\n\n', b"data: [DONE]\n\n"],
}


ENDINGS: list[str | Fault] = ["framed", "closed", fault(Outcome.UPSTREAM_RESET)]


@settings(max_examples=150)
@given(st.data())
def test_the_client_gets_the_same_however_the_bytes_are_cut(data: st.DataObject) -> None:
    """The bytes are Ollama's own in order, whole records before an error, and one outcome."""
    framing = data.draw(st.sampled_from(sorted(RECORDS)))
    stream = b"".join(data.draw(st.lists(st.sampled_from(RECORDS[framing]), min_size=1, max_size=8)))
    stream = stream[: data.draw(st.integers(1, len(stream)))]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]
    ending = data.draw(st.sampled_from(ENDINGS))

    async def play(*parts: bytes) -> tuple[bytes, str | None, Outcome, Usage, int, int]:
        """Returns what the client got and what was recorded."""
        path = "/api/chat" if framing is Framing.NDJSON else "/v1/chat/completions"
        bench = Bench(path, framing, limits=Deadlines())
        end = await bench.answer(*parts, end=ending)
        return bench.sink.body, bench.sink.last, end.outcome, end.usage, end.records, end.status

    result = asyncio.run(play(*pieces))
    assert result == asyncio.run(play(stream))
    own = result[0]
    if ending != "framed" and result[2] is not Outcome.OK and result[5] == 200:
        ends = b"\n" if framing is Framing.NDJSON else b"\n\n"
        own = own[: own.rstrip().rfind(ends) + len(ends)] if own.rstrip().rfind(ends) >= 0 else b""
        assert own == b"" or own.endswith(ends)
    assert stream.startswith(own)
