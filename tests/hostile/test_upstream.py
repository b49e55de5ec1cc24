"""Items 85 to 92: an Ollama that answers what no Ollama should."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpushare.core.breaker import Breaker
from gpushare.core.dialects.usage import COUNT_MAX
from tests.conformance.tools import DIALECTS, INFERENCE, ask, body_of, error_of, know_models, last_done
from tests.harness import CANARY, Gate, gateway
from tests.hostile.tools import OWN
from tests.upstream import (
    CHUNKED,
    HEAD,
    LAST_CHUNK,
    PIECE,
    SSE,
    WHOLE,
    RawOllama,
    chunk,
    document,
    raw_ollama,
)

Answer = tuple[int, Mapping[str, str], bytes]


@dataclass(frozen=True, slots=True)
class Stage:
    """A gateway and the bare server behind it."""

    gate: Gate
    ollama: RawOllama

    async def told(self, path: str, *answer: bytes, **fields: object) -> Answer:
        """Asks, has Ollama send these pieces and close, and returns what the client got."""
        number = len(self.ollama.calls)
        self.gate.parts.health.breaker = Breaker()  # it would rightly stop asking such an Ollama
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(ask(self.gate, path, **fields))  # type: ignore[arg-type]
            connection = await self.ollama.call(number)
            await connection.answer(*answer)
            await connection.gone()
        return asked.result()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A gateway in front of an Ollama whose bytes the test decides."""
    async with raw_ollama() as ollama, gateway(tmp_path, engine=ollama.url) as gate:
        await gate.until(lambda: gate.parts.monitor.view.models)
        yield Stage(gate, ollama)


def refused(stage: Stage, path: str, answer: Answer, status: int = 502) -> None:
    """Checks an error in the dialect that says nothing of what Ollama sent."""
    assert answer[0] == status
    assert error_of(path, answer[2])
    assert CANARY.encode() not in answer[2]
    assert CANARY not in repr(answer[1])
    assert last_done(stage.gate)["outcome"] == "upstream_protocol"


@pytest.mark.item(85)
@pytest.mark.parametrize("path", DIALECTS)
@pytest.mark.parametrize(
    "status", [b"301 Moved", b"302 Found", b"303 See Other", b"307 Temporary", b"308 Permanent"]
)
async def test_a_redirect_of_a_call(stage: Stage, path: str, status: bytes, trap: socket.socket) -> None:
    """It is not followed, and nobody is sent where it points."""
    location = b"Location: http://127.0.0.1:%d/" % trap.getsockname()[1]
    for stream in (True, False):
        answer = await stage.told(path, document(WHOLE, location, status=status), stream=stream)
        refused(stage, path, answer)
        assert "Location" not in answer[1]
    with pytest.raises(BlockingIOError):
        trap.accept()


@pytest.mark.item(85)
@pytest.mark.parametrize(
    ("method", "path", "who"),
    [("GET", "/v1/models", "limited"), ("POST", "/api/blobs/sha256:" + "0" * 64, "root")],
)
async def test_a_redirect_of_what_the_gateway_fetches(
    tmp_path: Path, trap: socket.socket, method: str, path: str, who: str
) -> None:
    """Lists that are shortened here, and uploads, do not follow either."""
    location = b"Location: http://127.0.0.1:%d/api/tags" % trap.getsockname()[1]
    people = {"limited": {"models": ("m",)}}
    async with raw_ollama() as ollama, gateway(tmp_path, engine=ollama.url, people=people) as gate:
        await gate.until(lambda: gate.parts.monitor.view.models)
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(gate.request(method, path, who=who))
            connection = await ollama.call()
            await connection.answer(document(b"{}", location, status=b"307 Temporary Redirect"))
        status, headers, body = asked.result()
        assert status == 502
        assert "Location" not in headers
        assert error_of(path, body)
    with pytest.raises(BlockingIOError):
        trap.accept()


FOREIGN = {
    "Set-Cookie": "a=b",
    "Server": "evil/1.0",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Credentials": "true",
    "Location": "http://evil.example/",
    "Link": "<http://evil.example/>; rel=preload",
    "Refresh": "0; url=http://evil.example/",
    "Content-Security-Policy": "none",
    "Clear-Site-Data": '"*"',
    "Strict-Transport-Security": "max-age=1",
    "Alt-Svc": 'h3=":443"',
    "Content-Disposition": "attachment",
    "Keep-Alive": "timeout=99",
    "Proxy-Authenticate": "Basic",
    "WWW-Authenticate": "Basic",
    "Trailer": "X-Evil",
    "X-Gpushare-Request": "evil",
    "X-Request-Id": "evil",
    "Retry-After": "9999",
    "Date": "Thu, 01 Jan 1970 00:00:00 GMT",
    "X-Evil": CANARY,
}


@pytest.mark.item(86)
@pytest.mark.parametrize("path", DIALECTS)
@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request", b"503 Service Unavailable"])
async def test_headers_of_ollamas(stage: Stage, path: str, status: bytes) -> None:
    """Only the ones that are named in the documentation pass."""
    fields = [f"{name}: {value}".encode() for name, value in FOREIGN.items()]
    body = WHOLE if status.startswith(b"200") else b'{"error":"no"}'
    code, headers, answer = await stage.told(path, document(body, *fields, status=status))
    assert (code, answer) == (int(status[:3]), body)
    taken = {name: headers[name] for name in FOREIGN if name in headers}
    assert taken.pop("Server") == "gpushare"
    assert taken.pop("Retry-After", "1") != "9999"
    assert set(taken) == {"X-Gpushare-Request", "X-Request-Id", "Date"}
    assert "evil" not in repr(headers)
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.item(87)
@pytest.mark.parametrize("path", DIALECTS)
@pytest.mark.parametrize(
    "status",
    [b"101 Switching Protocols", b"204 No Content", b"205 Reset", b"206 Partial Content", b"304 Not Modified",
     b"299 What", b"600 More", b"999 Most"],
)  # fmt: skip
async def test_another_status(stage: Stage, path: str, status: bytes) -> None:
    """An answer has 200, or it is an error of Ollama's own."""
    answer = await stage.told(path, document(WHOLE, b"Upgrade: x", b"Connection: Upgrade", status=status))
    refused(stage, path, answer)


@pytest.mark.item(88)
@pytest.mark.parametrize("path", DIALECTS)
@pytest.mark.parametrize("coding", [b"gzip", b"br", b"zstd", b"identity, gzip", b"GZIP"])
async def test_a_compressed_answer(stage: Stage, path: str, coding: bytes) -> None:
    """Nobody asked for it, so nobody reads it."""
    for stream in (True, False):
        answer = await stage.told(path, document(WHOLE, b"Content-Encoding: " + coding), stream=stream)
        refused(stage, path, answer)


@pytest.mark.item(89)
@pytest.mark.parametrize("path", INFERENCE)
@pytest.mark.parametrize(
    "kind",
    [b"text/html", b"text/html; charset=utf-8", b"image/svg+xml", b"application/xhtml+xml", b"", b"a\x01b"],
)
async def test_a_page(stage: Stage, path: str, kind: bytes) -> None:
    """What is not the API's own type is no answer, whatever the status says."""
    page = b"<html><script>alert(1)</script>" + CANARY.encode()
    for status in (b"200 OK", b"404 Not Found", b"500 Internal Server Error"):
        number = len(stage.ollama.calls)
        answer = await stage.told(path, document(page, status=status, kind=kind))
        assert len(stage.ollama.calls) == number + 1
        assert answer[0] == 502
        assert error_of(path, answer[2])
        assert CANARY.encode() not in answer[2]


@pytest.mark.item(89)
async def test_plain_text(stage: Stage) -> None:
    """Text is an answer on the one route whose answers may be text."""
    for path in INFERENCE:
        answer = await stage.told(path, document(b"hello", kind=b"text/plain"))
        assert answer[0] == (200 if path == "/v1/audio/transcriptions" else 502)


LISTS = {
    "no json": (document(CANARY.encode()), 200),
    "deep": (document(b"[" * 100_000), 200),
    "rows that are none": (document(b'{"data":[1,null,"m",{"id":1},{"id":"n"},{"id":"m"}]}'), 200),
    "not a number": (document(b'{"data":[{"id":"m","x":NaN}]}'), 200),
    "a page": (document(b"<script>" + CANARY.encode(), kind=b"text/html"), 502),
    "a page of an error": (document(CANARY.encode(), kind=b"text/html", status=b"404 Not Found"), 502),
    "another status": (document(b'{"data":[]}', status=b"206 Partial Content"), 502),
    "endless": (HEAD.replace(b"x-ndjson", b"json") + b"\r\n" + b" " * 17_000_000, 502),
}


@pytest.mark.item(89)
@pytest.mark.item(90)
@pytest.mark.parametrize("name", LISTS)
async def test_lists_for_those_who_see_a_part(tmp_path: Path, name: str) -> None:
    """What is shortened here is read here, so it must be a list, and what is none is not shown."""
    answer, status = LISTS[name]
    people = {"limited": {"models": ("m",)}}
    async with raw_ollama() as ollama, gateway(tmp_path, engine=ollama.url, people=people) as gate:
        await gate.until(lambda: gate.parts.monitor.view.models)
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(gate.request("GET", "/v1/models", who="limited"))
            await (await ollama.call()).answer(answer)
        found, _, body = asked.result()
        assert found == status
        assert CANARY.encode() not in body
        shown = json.loads(body)
        assert status != 200 or shown.get("data", []) in ([], [{"id": "m"}])
        assert not [line for line in gate.logs if line["log_level"] == "error"]


@pytest.mark.item(81)
@pytest.mark.parametrize("kind", ["; a=\x7f", ";\ta", "; \xe9", "; a=\x1b[2J"])
async def test_a_content_type_that_is_not_plain(stage: Stage, kind: str) -> None:
    """The one header of Ollama's that passes does so in plain characters or not at all."""
    whole = document(WHOLE, kind=b"application/json" + kind.encode("latin-1"))
    for path in DIALECTS:
        status, headers, body = await stage.told(path, whole)
        assert status == 502
        assert error_of(path, body)
        assert kind not in repr(headers)


ODD = {
    "no json": b"this is no json\n",
    "no fields": b"{}\n",
    "null": b"null\n",
    "a list": b"[1]\n",
    "blank lines": b"\n\n\r\n",
    "invalid utf-8": b'{"message":{"content":"\xff\xfe"},"done":false}\n',
    "half a character": '{"message":{"content":"ü"},"done":false}\n'.encode(),
    "deep": b"[" * 50_000 + b"\n",
    "done is text": b'{"done":"true"}\n',
    "done is one": b'{"done":1}\n',
    "done inside": b'{"message":{"done":true},"x":[{"done":true}]}\n',
    "done in text": b'{"message":{"content":"{\\"done\\":true}"},"done":false}\n',
    "done in a key": b'{"\\"done\\":true":1,"done":false}\n',
    "done spaced": b'{"x":"\\"done\\":true","done":false} \n',
    "two objects": b'{"done":true}{"done":false}\n',
    "half an object": b'{"done":true\n',
    "an end of another dialect": b"data: [DONE]\n",
    "carriage returns": b'{"a":1}\r{"b":2}\r\n',
    "null bytes": b"\0\0\0\n",
}


@pytest.mark.item(90)
@pytest.mark.item(91)
@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("cut", [1, 7, 100_000])
async def test_odd_records(stage: Stage, name: str, cut: int) -> None:
    """They pass as they are, however they were cut, and never make an answer complete."""
    data = PIECE + ODD[name] + PIECE
    sent = b"".join(chunk(data[at : at + cut]) for at in range(0, len(data), cut))
    status, _, body = await stage.told("/api/chat", CHUNKED, sent, LAST_CHUNK, stream=True)
    assert status == 200
    assert body == data
    assert last_done(stage.gate)["outcome"] == "upstream_truncated"
    assert "tokens_out" not in last_done(stage.gate)


EVENTS = {
    "/v1/chat/completions": [
        b'data: {"choices":[{"delta":{"content":"data: [DONE]\\n\\n[DONE]"}}]}\n\n',
        b"data: [DONE]x\n\n",
        b'data: "[DONE]"\n\n',
        b"event: [DONE]\n\n",
        b": [DONE]\n\n",
        b"id: [DONE]\ndata: x\n\n",
        b"[DONE]\n\n",
        b"data: [\ndata: DONE]\n\n",
    ],
    "/v1/messages": [
        b'event: x\ndata: {"type":"content_block_delta","delta":{"text":"message_stop"}}\n\n',
        b'data: {"delta":{"type":"message_stop"}}\n\n',
        b"event: message_stop\ndata: {}\n\n",
        b'data: {"type":"message_stop"\n\n',
        b'data: {"type":["message_stop"]}\n\n',
    ],
    "/v1/responses": [
        b'data: {"type":"response.output_text.delta","delta":"response.completed"}\n\n',
        b'data: {"response":{"type":"response.completed"}}\n\n',
        b"event: response.completed\ndata: {}\n\n",
    ],
}


@pytest.mark.item(91)
@pytest.mark.parametrize("path", EVENTS)
async def test_text_that_looks_like_an_end(stage: Stage, path: str) -> None:
    """Only a whole record that is the end mark ends an answer."""
    for event in EVENTS[path]:
        later = b'data: {"later":true}\n\n'
        status, _, body = await stage.told(path, SSE, chunk(event), chunk(later), LAST_CHUNK, stream=True)
        assert (status, body) == (200, event + later)
        assert last_done(stage.gate)["outcome"] == "upstream_truncated", event


@pytest.mark.item(90)
@pytest.mark.parametrize("at", range(1, len("ü😀".encode())))
async def test_nothing_is_cut_inside_a_character(stage: Stage, at: int) -> None:
    """A stream is released in whole records, so that no half character is ever the last thing sent."""
    text = "ü😀".encode()
    record = b'{"message":{"content":"' + text + b'"},"done":false}\n'
    place = record.index(text) + at
    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(ask(stage.gate, "/api/chat", stream=True))
        connection = await stage.ollama.call()
        await connection.send(CHUNKED, chunk(PIECE), chunk(record[:place]))
        await stage.gate.until(lambda: _bytes_out(stage.gate) >= len(PIECE))
        assert _bytes_out(stage.gate) == len(PIECE)
        connection.reset()
    _, _, body = asked.result()
    assert body.startswith(PIECE)
    assert list(json.loads(body[len(PIECE) :])) == ["error"]


def _bytes_out(gate: Gate) -> int:
    return sum(live.relay.bytes_out for live in gate.parts.gateway.live.values() if live.relay is not None)


COUNTS = {
    "huge": (10**12, COUNT_MAX),
    "negative": (-5, 0),
    "beyond any integer": (10**400, COUNT_MAX),
    "a fraction": (1.5, None),
    "text": ('"7"', None),
    "true": ("true", None),
    "null": ("null", None),
    "a list": ("[1]", None),
}


@pytest.mark.item(92)
@pytest.mark.parametrize("name", COUNTS)
async def test_absurd_counts(stage: Stage, name: str) -> None:
    """They are clamped or left out, and the charge goes by the clock alone."""
    said, kept = COUNTS[name]
    last = f'{{"done":true,"prompt_eval_count":{said},"eval_count":{said},"load_duration":{said}}}\n'.encode()
    status, _, body = await stage.told("/api/chat", CHUNKED, chunk(last), LAST_CHUNK, stream=True)
    assert (status, body) == (200, last)
    line = last_done(stage.gate)
    assert (line.get("tokens_in"), line.get("tokens_out")) == (kept, kept)
    assert line["outcome"] == "ok"
    assert 0 <= line["slot_s"] < 30


# --- framing ----------------------------------------------------------------------------------------------

BROKEN: dict[str, Callable[[], list[bytes]]] = {
    "ssh": lambda: [b"SSH-2.0-x\r\n"],
    "no version": lambda: [b"HTTP 200 OK\r\n\r\n"],
    "another version": lambda: [document(WHOLE).replace(b"HTTP/1.1", b"HTTP/3.0")],
    "two lengths": lambda: [document(WHOLE, b"Content-Length: 1")],
    "a length and chunks": lambda: [document(WHOLE, b"Transfer-Encoding: chunked")],
    "a negative length": lambda: [HEAD + b"Content-Length: -1\r\n\r\n"],
    "another coding": lambda: [HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + LAST_CHUNK],
    "a header without colon": lambda: [HEAD + b"nothing\r\n\r\n"],
    "a header with a null byte": lambda: [HEAD + b"X: a\0b\r\n\r\n"],
    "an endless head": lambda: [HEAD, *[b"X-Y: " + b"x" * 8000 + b"\r\n"] * 20],
    "endless interim answers": lambda: [b"HTTP/1.1 103 Early\r\n\r\n" * 20_000],
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_no_answer_of_http(stage: Stage, name: str, *, stream: bool) -> None:
    """P13: a head that could be read in two ways, or without an end, is a broken Ollama."""
    answer = await stage.told("/api/chat", *BROKEN[name](), stream=stream)
    refused(stage, "/api/chat", answer)


async def test_bytes_that_nobody_asked_for_reach_nobody(stage: Stage) -> None:
    """P33: a second answer behind the first is dropped with its connection; the next call has its own."""
    evil = document(b'{"done":true,"message":{"content":"%b"}}' % CANARY.encode())
    for path in DIALECTS:
        good = document(WHOLE)
        assert (await stage.told(path, good + evil))[2] == WHOLE
        assert (await stage.told(path, good))[2] == WHOLE
    assert [json.loads(call.body)["model"] for call in stage.ollama.calls] == ["m"] * 2 * len(DIALECTS)
    assert body_of("/api/chat")["model"] == "m"
    page = (await stage.gate.request("GET", "/metrics"))[2].decode()
    assert f"\ngpushare_stray_answers_total {float(len(DIALECTS))}\n" in page


async def test_nothing_else_is_dialled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked of the gateway, it opens connections to the one Ollama and to nobody else."""
    dialled: list[Any] = []
    connect = socket.socket.connect

    def noted(self: socket.socket, address: Any) -> None:
        dialled.append(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", noted)
    async with gateway(tmp_path) as gate:
        await know_models(gate)
        for path in INFERENCE:
            await ask(gate, path)
        for path in OWN:
            if path != "/events":
                for method in ("GET", "POST", "DELETE"):
                    await gate.request(
                        method, path, headers={"Accept": "text/html", "Referer": "http://evil.example/"}
                    )
        await gate.post("/api/pull", {"model": "http://evil.example/x", "insecure": False}, who="root")
        allowed = {("127.0.0.1", gate.port), ("127.0.0.1", int(gate.sim.url.rpartition(":")[2]))}
    assert {address[:2] for address in dialled} == allowed
