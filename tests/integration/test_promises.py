"""The promises of the running gateway when Ollama fails, when clients misbehave and when limits are met."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpushare.core.breaker import Door
from gpushare.sim import Entry, Fault, FaultKind, Plan, Script, SimModel, State
from gpushare.sim.script import END
from tests.conformance.tools import (
    DIALECTS,
    before_error,
    body_of,
    busy,
    calls,
    dial,
    error_of,
    exchange,
    head,
    know_models,
    last_done,
    post,
    unchunk,
)
from tests.harness import CANARY, Gate, chat, gateway
from tests.unit.web.wire import statuses

Answer = tuple[int, dict[str, str], bytes]


# --- a failing Ollama -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A fault of Ollama's and what must come of it.

    ``status`` is the client's where nothing was sent yet; None where a stream had begun.  ``single`` is the
    status of a single answer with the same fault.  ``unchanged``: the client gets exactly Ollama's bytes.
    """

    plan: Plan
    outcomes: tuple[str, ...]
    status: int | None = None
    single: int = 502
    unchanged: bool = False
    settings: str = ""


def fault(kind: FaultKind, at: int | None = None) -> Plan:
    """Returns a short answer with one fault."""
    return Plan(tokens=4, fault=Fault(kind, at))


QUICK = '[ollama]\nconnect_timeout = "200ms"\nfirst_byte_timeout = "600ms"\nidle_timeout = "600ms"'
TOTAL = f'{QUICK}\ntotal_timeout = "700ms"'
FAILURES = {
    "closes before": Failure(plan=fault(FaultKind.CLOSE), outcomes=("upstream_reset",), status=502),
    "resets before": Failure(plan=fault(FaultKind.RESET), outcomes=("upstream_reset",), status=502),
    "no http": Failure(plan=fault(FaultKind.BADSTATUS), outcomes=("upstream_protocol",), status=502),
    "endless head": Failure(plan=fault(FaultKind.BIGHEAD), outcomes=("upstream_protocol",), status=502),
    "compressed": Failure(plan=fault(FaultKind.GZIP), outcomes=("upstream_protocol",), status=502),
    "a page": Failure(plan=fault(FaultKind.HTML), outcomes=("upstream_protocol",), status=502),
    "refuses": Failure(
        plan=Plan(status=404), outcomes=("upstream_error",), status=404, single=404, unchanged=True
    ),
    "fails": Failure(
        plan=Plan(status=500), outcomes=("upstream_error",), status=500, single=500, unchanged=True
    ),
    "silent": Failure(
        plan=fault(FaultKind.STALL), outcomes=("timeout_first_byte",), status=504, single=504, settings=QUICK
    ),
    "deaf": Failure(
        plan=fault(FaultKind.DEAF), outcomes=("timeout_first_byte",), status=504, single=504, settings=QUICK
    ),
    "closes": Failure(plan=fault(FaultKind.CLOSE, 2), outcomes=("upstream_truncated", "upstream_reset")),
    "resets": Failure(plan=fault(FaultKind.RESET, 2), outcomes=("upstream_reset", "upstream_truncated")),
    "bad chunk": Failure(plan=fault(FaultKind.BADCHUNK, 2), outcomes=("upstream_protocol",)),
    "stalls": Failure(plan=fault(FaultKind.STALL, 2), outcomes=("timeout_idle",), single=504, settings=QUICK),
    "goes on and on": Failure(
        plan=Plan(tokens=2000, delay_ms=20), outcomes=("timeout_total",), single=504, settings=TOTAL
    ),
    "error record": Failure(
        plan=fault(FaultKind.ERROR, 2),
        outcomes=("upstream_error", "upstream_truncated"),  # on /v1 Ollama loses the error and just ends
        single=500,
        unchanged=True,
    ),
    "no end mark": Failure(plan=fault(FaultKind.EOF, 2), outcomes=("upstream_truncated",), unchanged=True),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("path", DIALECTS)
async def test_a_failing_ollama(tmp_path: Path, name: str, path: str) -> None:
    """P1, P12, P13, P36: each failure is seen by the client, sent once, told once, and frees its slot."""
    failure = FAILURES[name]
    async with gateway(tmp_path, settings=failure.settings) as gate:
        await know_models(gate)
        gate.sim.next(failure.plan, path=path)
        answer = await gate.post(path, body_of(path, stream=True))
        entry = await ended_once(gate, path, answer[1]["X-Request-Id"], failure.outcomes)
        check_failure(path, failure, (answer[0], dict(answer[1]), answer[2]), bytes(entry.answer))
        gate.sim.next(Plan(tokens=1), path=path)
        assert (await gate.post(path, body_of(path, stream=True)))[0] == 200
    assert len(calls(gate)) == 2


async def ended_once(gate: Gate, path: str, request: str, outcomes: tuple[str, ...]) -> Entry:
    """Checks what one failed call left behind; returns what Ollama saw of it."""
    await gate.until(lambda: not gate.parts.gateway.live)
    view = gate.parts.slots.snapshot()
    assert (view.held, view.granted_total, view.released_total) == (0, 1, 1)
    (line,) = [line for line in gate.logs if line["event"] == "request.done"]
    assert line["request"] == request
    assert line["outcome"] in outcomes
    assert {(route, found.value): count for (route, found), count in gate.parts.stats.requests.items()} == {
        (path, line["outcome"]): 1
    }
    (entry,) = calls(gate)
    entry.resume()
    await gate.until(lambda: entry.ended)
    return entry


def check_failure(path: str, failure: Failure, answer: Answer, sent: bytes) -> None:
    """Checks that the client can tell that the answer failed, in its dialect."""
    status, headers, body = answer
    if failure.status is None:
        assert status == 200
        check_broken_stream(path, body, sent, unchanged=failure.unchanged)
        return
    assert status == failure.status
    if failure.unchanged:
        assert body == sent
        return
    error_of(path, body)
    assert (headers.get("x-should-retry") == "false") == (status in (401, 502, 504))
    assert ("Retry-After" in headers) == (status == 503)


def check_broken_stream(path: str, body: bytes, sent: bytes, *, unchanged: bool) -> None:
    """Checks that a stream holds whole records of Ollama's and then one error, or Ollama's bytes alone."""
    if unchanged:
        assert body == sent
        return
    passed = before_error(path, body)
    assert passed
    assert sent.startswith(passed)
    assert b"[DONE]" not in body
    assert b"message_stop" not in body


@pytest.mark.parametrize("name", [name for name in FAILURES if name != "no end mark"])
async def test_a_failing_ollama_and_a_single_answer(tmp_path: Path, name: str) -> None:
    """P13: a single answer is whole, or Ollama's own error, or an error status; never a part with a 200."""
    failure, path = FAILURES[name], "/v1/chat/completions"
    settings = failure.settings and TOTAL  # the other limits are for streams
    async with gateway(tmp_path, settings=settings) as gate:
        await know_models(gate)
        gate.sim.next(failure.plan, path=path)
        status, headers, body = await gate.post(path, body_of(path))
        await gate.until(lambda: not gate.parts.gateway.live)
        assert status == failure.single
        assert last_done(gate)["outcome"] not in ("ok", "client_gone_running")
        assert last_done(gate)["request"] == headers["X-Request-Id"]
        error_of(path, body)
        (entry,) = calls(gate)
        entry.resume()


@pytest.mark.parametrize("path", DIALECTS)
async def test_a_port_without_ollama(gate: Gate, path: str) -> None:
    """P1, P12, P13: a refused dial is tried once more, then 502; the slot is free for the next call."""
    await know_models(gate)
    gate.sim.refuse()
    status, headers, body = await gate.post(path, body_of(path, stream=True))
    assert status == 502
    assert "does not answer" in error_of(path, body)
    assert "x-should-retry" not in headers, "nothing was sent, so a client may try again"
    await gate.until(lambda: not gate.parts.gateway.live)
    assert last_done(gate)["outcome"] == "upstream_refused"
    assert last_done(gate)["slot_s"] == 0
    view = gate.parts.slots.snapshot()
    assert (view.held, view.granted_total, view.released_total) == (0, 1, 1)
    await gate.sim.accept()
    assert (await gate.post(path, body_of(path)))[0] == 200


async def test_a_dial_is_tried_again_within_the_call(gate: Gate) -> None:
    """P12: an Ollama that is back in time for the second dial serves the call; it gets it once."""
    await know_models(gate)
    gate.sim.refuse()
    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(gate.post("/api/chat", chat()))
        await gate.until(lambda: gate.parts.slots.snapshot().held)
        await gate.sim.accept()
    assert call.result()[0] == 200
    assert len(calls(gate)) == 1


async def test_a_dial_that_hangs(tmp_path: Path) -> None:
    """P1: a grant that never starts, because the host drops packets, comes back at the dial's deadline.

    The call that had to wait for it goes on waiting until the breaker sends it away.
    """
    settings = f'{QUICK}\n[queue]\nbreaker_queue_grace = "100ms"\n'
    async with gateway(tmp_path, settings=settings) as gate:
        await know_models(gate)
        gate.sim.hang()
        async with asyncio.TaskGroup() as tasks:
            both = [tasks.create_task(gate.post("/api/chat", chat(), who=who)) for who in ("alice", "bob")]
        assert {call.result()[0] for call in both} == {502, 503}
        view = gate.parts.slots.snapshot()
        assert view.held == 0
        assert view.granted_total == view.released_total
        await gate.sim.accept()
        await gate.until(lambda: gate.parts.monitor.view.breaker is not Door.OPEN)
        assert (await gate.post("/api/chat", chat()))[0] == 200


async def test_a_load_that_is_given_up_keeps_nobody_out(gate: Gate) -> None:
    """P1, P14: a grant whose model never gets loaded frees slot and barrier, for other models too."""
    await know_models(gate)
    gate.sim.store.put("n", SimModel(name="n", load_s=60.0))
    async with dial(gate.port) as wire:
        await wire.send(post(gate, "/api/chat", chat(model="n")))
        await (await gate.sim.arrived(0, path="/api/chat")).reached(State.LOADING)
        async with asyncio.TaskGroup() as tasks:
            other = tasks.create_task(
                gate.post("/api/embed", body_of("/api/embed", model="embed"), who="bob")
            )
            await gate.waiting(1)
            wire.close()
    assert other.result()[0] == 200
    assert not gate.parts.slots.swap_pending


@pytest.mark.parametrize("path", DIALECTS)
async def test_a_slow_gpu_fails_nothing(tmp_path: Path, path: str) -> None:
    """P39: at a quarter of the speed an answer takes longer than a silence may, and is whole."""
    async with gateway(tmp_path, settings=QUICK) as gate:
        await know_models(gate)
        for delay_ms in (10.0, 40.0):
            gate.sim.next(Plan(tokens=30, delay_ms=delay_ms), path=path)
            status, _, body = await gate.post(path, body_of(path, stream=True))
            assert status == 200
            assert body == bytes(calls(gate)[-1].answer)
            assert last_done(gate)["outcome"] == "ok"
        assert last_done(gate)["ran_s"] > 1


# --- slots ------------------------------------------------------------------------------------------------


async def test_never_more_calls_than_slots(tmp_path: Path) -> None:
    """P2: with three slots, 30 calls of three people and all dialects never run more than three at once."""
    async with gateway(tmp_path, script=Script(slots=30), settings="[queue]\nslots = 3") as gate:
        await know_models(gate)
        async with asyncio.TaskGroup() as tasks:
            for number in range(24):
                path, who = DIALECTS[number % 3], ("alice", "bob", "carol")[number // 8]
                tasks.create_task(gate.post(path, body_of(path, "#sim:tokens=3,delay_ms=3"), who=who))
        assert gate.sim.gpu.most_computing == 3
        assert gate.parts.slots.snapshot().granted_total == 24


async def held(gate: Gate, count: int) -> None:
    """Waits until so many slots are in use."""
    await gate.until(lambda: gate.parts.slots.snapshot().held == count)


async def test_fewer_slots_interrupt_nobody(tmp_path: Path) -> None:
    """P2: when slots are taken away, running calls go on, and nothing is granted above the new number."""
    async with gateway(tmp_path, script=Script(slots=9), settings="[queue]\nslots = 3") as gate:
        await know_models(gate)
        async with asyncio.TaskGroup() as tasks:
            for who in ("alice", "bob", "carol"):
                for _ in range(2):
                    tasks.create_task(gate.post("/api/chat", chat("#sim:tokens=2,fault=stall@1"), who=who))
            first = [await gate.sim.arrived(number, path="/api/chat") for number in range(3)]
            await gate.waiting(3)
            gate.parts.slots.resize("ollama", 1)
            for number, entry in enumerate(first):
                await entry.reached(State.STALLED)
                assert gate.parts.slots.snapshot().granted_total == 3
                entry.resume()
                await held(gate, max(1, 2 - number))
            for number in range(3, 6):
                entry = await gate.sim.arrived(number, path="/api/chat")
                await entry.reached(State.STALLED)
                assert gate.parts.slots.snapshot().held == 1
                entry.resume()
        assert all(entry.state is State.DONE for entry in calls(gate))


@pytest.mark.parametrize("path", DIALECTS)
async def test_the_end_mark_frees_the_slot(gate: Gate, path: str) -> None:
    """P5: Ollama's last record gives the slot to the next call, though the message never ends."""
    gate.sim.next(fault(FaultKind.STALL, END), path=path)
    status, _, body = await gate.post(path, body_of(path, stream=True))
    (entry,) = calls(gate)
    assert status == 200
    assert body == bytes(entry.answer)
    assert (await gate.post(path, body_of(path)))[0] == 200
    assert entry.cancelled
    outcomes = [line["outcome"] for line in gate.logs if line["event"] == "request.done"]
    assert outcomes == ["ok", "ok"]


async def test_a_reader_that_has_stopped_keeps_nobody_waiting(gate: Gate) -> None:
    """P5: a call whose client has not read its answer holds no slot once Ollama is done."""
    await know_models(gate)
    async with dial(gate.port, receive_bytes=4096) as wire:
        await wire.send(post(gate, "/api/chat", chat("#sim:tokens=2000,gather=50")))
        await gate.sim.arrived(0, path="/api/chat")
        assert (await gate.post("/api/chat", chat(), who="bob"))[0] == 200
        assert len(gate.parts.gateway.live) == 1
        answer = await wire.until(b"0\r\n\r\n")
    (first, _) = calls(gate)
    assert unchunk(answer.partition(b"\r\n\r\n")[2]) == bytes(first.answer)


@pytest.mark.item(69)
async def test_a_reader_that_never_reads_is_given_up(tmp_path: Path) -> None:
    """P1, P8: a stream larger than what is kept for a client ends when nobody reads it."""
    async with gateway(tmp_path, settings='[server]\nwrite_stall = "300ms"') as gate:
        await know_models(gate)
        async with dial(gate.port, receive_bytes=4096) as wire:
            await wire.send(post(gate, "/api/chat", chat("#sim:tokens=20000,gather=100")))
            await gate.sim.arrived(0, path="/api/chat")
            await gate.until(lambda: not gate.parts.gateway.live)
            answer = await wire.rest()
        assert not answer.endswith(b"0\r\n\r\n"), "the client could take the part for the whole"
        assert last_done(gate)["outcome"] == "client_slow"


# --- bad input --------------------------------------------------------------------------------------------

RAW = {
    "both lengths": (b"Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
    "two lengths": (b"Content-Length: 5\r\nContent-Length: 6", 400),
    "signed length": (b"Content-Length: +5", 400),
    "other coding": (b"Transfer-Encoding: gzip, chunked", 400),
    "folded": (b"X: a\r\n b", 400),
    "no colon": (b"this is no header", 400),
    "space in name": (b"X Y: z", 400),
    "null": (b"X: a\0b", 400),
    "long": (b"X: " + b"x" * 9000, 400),
    "many": (b"\r\n".join(b"X-%d: y" % number for number in range(200)), 400),
}


@pytest.mark.parametrize("name", RAW)
async def test_what_is_not_http_is_400(gate: Gate, name: str) -> None:
    """P17, P31: what the parser refuses is answered and closed; nothing of it is quoted or forwarded."""
    await know_models(gate)
    fields, status = RAW[name]
    key = f"Authorization: Bearer {gate.keys['alice']}\r\nX-Canary: {CANARY}\r\n".encode()
    request = b"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\n" + key + fields + b"\r\n\r\nhello"
    answer = await exchange(gate, request)
    assert statuses(answer) == [status]
    assert CANARY.encode() not in answer
    assert gate.keys["alice"].encode() not in answer
    assert calls(gate) == []


@pytest.mark.parametrize(
    "line", ["GET http://other/api/chat HTTP/1.1", "GET * HTTP/1.1", "GET /api HTTP/3.0"]
)
async def test_an_odd_request_line_is_400(gate: Gate, line: str) -> None:
    """P17: a target in another form, or another version, is refused and the connection closed."""
    answer = await exchange(gate, f"{line}\r\nHost: 127.0.0.1\r\n\r\n".encode())
    assert statuses(answer) == [400]


async def test_other_protocols_get_no_traceback(gate: Gate) -> None:
    """P17: a TLS hello, an SSH banner and an HTTP/2 preface end with the connection, quietly."""
    for hello in (b"\x16\x03\x01\x02\x00\x01\x00", b"SSH-2.0-x\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
        assert statuses(await exchange(gate, hello + b"\r\n\r\n")) in ([400], [])
    assert not [line for line in gate.logs if line["log_level"] in ("warning", "error")]


@pytest.mark.item(10)
async def test_each_pipelined_request_needs_its_own_key(gate: Gate) -> None:
    """P17: three requests in one segment get three answers, in order, each judged by itself."""
    with_key = post(gate, "/v1/completions", body_of("/v1/completions"))
    without = head("GET", "/api/status")
    last = post(gate, "/v1/completions", body_of("/v1/completions"), "Connection: close")
    assert statuses(await exchange(gate, with_key + without + last)) == [200, 401, 200]
    assert len(calls(gate)) == 2


# --- limits are counted -----------------------------------------------------------------------------------


async def metric(gate: Gate, line: str) -> float:
    """Returns one value of the metrics page; 0 where it is not there."""
    _, _, page = await gate.request("GET", "/metrics", who=None)
    rows = (row.rpartition(" ") for row in page.decode().splitlines())
    return next((float(value) for name, _, value in rows if name == line), 0.0)


@pytest.mark.item(67)
async def test_every_limit_counts_its_hits(tmp_path: Path) -> None:
    """P8: whoever meets a limit is seen in the metrics, under that limit's name."""
    settings = """
        [server]
        max_body = "2kB"
        body_memory = "4kB"
        body_timeout = "100ms"
        header_timeout = "2s"
        max_connections = 8
        max_connections_per_address = 8
        [queue]
        max_waiting = 2
        max_waiting_per_person = 1
        max_wait = "5m"
    """
    async with gateway(tmp_path, settings=settings, people={"two": {"max_waiting": 2}}) as gate:
        await know_models(gate)
        await gate.post("/api/chat", chat("x" * 3000))
        wrong = {"Authorization": "Bearer gs_nobody"}
        for _ in range(21):
            await gate.request("GET", "/api/status", who=None, headers=wrong)
        async with dial(gate.port) as late:
            await late.send(post(gate, "/api/chat", chat())[:-1])
            await late.until(b"\r\n\r\n")
        async with dial(gate.port) as half:
            await half.send(b"GET / HT")
            assert statuses(await half.rest()) == [408]
        await exchange(gate, b"nothing like it\r\n\r\n")
        async with busy(gate), dial(gate.port) as first:
            await first.send(post(gate, "/api/chat", chat("x" * 1500)))
            await gate.waiting(1)
            await gate.post("/api/chat", chat("x" * 500))
            await gate.post("/api/chat", chat())
            async with dial(gate.port) as second:
                await second.send(post(gate, "/api/chat", chat(), who="two"))
                await gate.waiting(2)
                await gate.post("/api/chat", chat(), who="two")
                first.send_what_fits(b"x" * 200_000)
                await gate.waiting(1)
        async with dial(gate.port) as one, dial(gate.port) as two:
            await one.send(b"GET")
            await two.send(b"GET")
            assert statuses(await exchange(gate, b"")) == [503]  # a quarter may be without a key
        asking = head("GET", "/api/status", f"Authorization: Bearer {gate.keys['bob']}")
        async with AsyncExitStack() as stack:
            for _ in range(8):
                wire = await stack.enter_async_context(dial(gate.port))
                await wire.send(asking)
                await wire.until(b"}")
            assert statuses(await exchange(gate, b"")) == [503]
        limits = ("header_timeout", "malformed", "flood", "anonymous", "total")
        for limit in limits:
            assert await metric(gate, f'gpushare_connection_limits_total{{limit="{limit}"}}') >= 1, limit
        refused = (
            "body_too_large",
            "too_many_bad_keys",
            "request_timeout",
            "overloaded",
            "person_limit",
            "queue_full",
        )
        for code in refused:
            assert await metric(gate, f'gpushare_errors_total{{code="{code}"}}') == 1, code


# --- secrets, and one line for each call ------------------------------------------------------------------


async def test_nothing_of_a_call_is_in_what_others_can_read(gate: Gate) -> None:
    """P31: prompts, answers, pictures, tools and Ollama's errors are in no log and on no page."""
    tool = {"type": "function", "function": {"name": CANARY, "parameters": {"x": CANARY}}}
    message = {"role": "user", "content": CANARY, "images": [CANARY]}
    body = {"model": "m", "messages": [message], "tools": [tool], "system": CANARY, CANARY: CANARY}
    plans = (
        Plan(pieces=(CANARY,)),
        Plan(tool=CANARY, tool_args={CANARY: CANARY}),
        Plan(status=400, message=CANARY),
        Plan(status=500, message=CANARY),
        Plan(message=CANARY, fault=Fault(FaultKind.ERROR, 1)),
        Plan(pieces=(CANARY,), fault=Fault(FaultKind.GARBAGE, 1)),
        Plan(pieces=(CANARY,), fault=Fault(FaultKind.RESET, 1)),
    )
    for path in DIALECTS:
        for plan in plans:
            gate.sim.next(plan, path=path)
            await gate.post(path, {**body, "max_tokens": 9, "stream": True}, headers={"X-Note": CANARY})
    for path in ("/status", "/gpushare/v1/status", "/metrics", "/readyz"):
        for who in (None, "alice", "root"):
            assert CANARY.encode() not in (await gate.request("GET", path, who=who))[2]
    assert CANARY not in repr(gate.logs)
    assert len([line for line in gate.logs if line["event"] == "request.done"]) == len(plans) * len(DIALECTS)


async def test_what_others_can_read_while_calls_run(gate: Gate) -> None:
    """P31: a running and a waiting call show who and which model, and nothing of what was asked."""
    async with busy(gate), dial(gate.port) as wire:
        await wire.send(
            post(gate, "/api/chat", chat(CANARY), f"User-Agent: {CANARY}", f"X-Request-Id: {CANARY}")
        )
        await gate.waiting(1)
        _, _, document = await gate.request("GET", "/gpushare/v1/status", who="bob")
        assert "alice" in document.decode()
        for path in ("/status", "/gpushare/v1/status", "/metrics"):
            for who in (None, "bob", "root"):
                assert CANARY.encode() not in (await gate.request("GET", path, who=who))[2]


async def test_one_line_and_one_count_for_each_call(gate: Gate) -> None:
    """P36: calls of every outcome are each in the log once, counted once, and named in their answers."""
    answers = []
    for plan in (Plan(tokens=1), fault(FaultKind.RESET), fault(FaultKind.RESET, 1), Plan(status=404)):
        gate.sim.next(plan, path="/api/chat")
        answers.append(await gate.post("/api/chat", chat()))
    answers.append(await gate.post("/api/chat", chat(model="nobody")))
    async with busy(gate, who="bob"), dial(gate.port) as wire:
        await wire.send(post(gate, "/api/chat", chat()))
        await gate.waiting(1)
        wire.close()
        await gate.waiting(0)
    await gate.until(lambda: not gate.parts.gateway.live)
    done = [line for line in gate.logs if line["event"] == "request.done"]
    named = [headers["X-Request-Id"] for _, headers, _ in answers]
    assert [line["request"] for line in done][: len(named)] == named
    assert [line["status"] for line in done][: len(named)] == [200, 502, 200, 404, 404]
    counted = Counter(line["outcome"] for line in done)
    assert counted["client_gone_queued"] == 1
    for outcome, count in counted.items():
        name = f'gpushare_requests_total{{outcome="{outcome}",route="/api/chat"}}'
        assert await metric(gate, name) == count, outcome
    assert gate.parts.stats.requests.total() == len(done) == len(answers) + 2
