"""Items 1 to 15: what is not HTTP, or could be read as two different requests."""

import asyncio

import pytest

from tests.conformance.tools import calls, dial, exchange, know_models, nothing_ran, only_call
from tests.harness import CANARY, Gate
from tests.hostile.tools import BODY, chat_shot, quotes_nothing, refused, shot
from tests.unit.web.wire import statuses

LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = "Transfer-Encoding: chunked"
CHAT = "POST /api/chat HTTP/1.1"


def chunks(size: bytes, body: bytes = BODY, trailer: bytes = b"") -> bytes:
    """Returns a body in one chunk whose size is written as given."""
    return size + b"\r\n" + body + b"\r\n0\r\n" + trailer + b"\r\n"


PLAIN = chunks(b"%x" % len(BODY))


@pytest.mark.item(1)
@pytest.mark.parametrize("fields", [(LENGTH, CHUNKED), (CHUNKED, LENGTH)])
@pytest.mark.parametrize("body", [BODY, PLAIN])
async def test_length_and_chunks(gate: Gate, fields: tuple[str, str], body: bytes) -> None:
    """A message with two ends is none."""
    await refused(gate, shot(gate, CHAT, *fields, body=body), 400)


@pytest.mark.item(2)
@pytest.mark.parametrize(
    "fields",
    [
        (LENGTH, "Content-Length: 5"),
        ("Content-Length: 5", LENGTH),
        (LENGTH, LENGTH),
        (f"{LENGTH}, {len(BODY)}",),
    ],
)
async def test_two_lengths(gate: Gate, fields: tuple[str, ...]) -> None:
    """Two lengths are refused, equal ones too."""
    await refused(gate, shot(gate, CHAT, *fields, body=BODY), 400)


@pytest.mark.item(3)
@pytest.mark.parametrize(
    "length", ["+1", "-1", "0x1", "1_0", "9" * 30, "", " ", "1 1", "1;", "\u0661".encode(), "1\t1"]
)
async def test_a_length_that_is_no_number(gate: Gate, length: str | bytes) -> None:
    """A length is plain digits that fit a number."""
    written = length.encode() if isinstance(length, str) else length
    await refused(gate, shot(gate, CHAT, b"Content-Length: " + written, body=BODY), 400)


@pytest.mark.item(4)
@pytest.mark.parametrize(
    "fields",
    [
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: chunked, chunked",),
        (CHUNKED, CHUNKED),
        ("Transfer-Encoding: \x0bchunked",),
        ("Transfer-Encoding: chunked\x00",),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding:", " chunked"),
        ("Transfer-Encoding: ",),
        ("Transfer-Encoding: identity",),
        ("Transfer_Encoding: chunked", "Transfer-Encoding: chunked;q=1"),
    ],
)
async def test_a_coding_that_is_not_chunked(gate: Gate, fields: tuple[str, ...]) -> None:
    """Whatever is nearly ``chunked`` is not."""
    await refused(gate, shot(gate, CHAT, *fields, body=PLAIN), 400)


@pytest.mark.item(5)
@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "chunked, gzip", "deflate,chunked", "br"])
async def test_another_coding(gate: Gate, coding: str) -> None:
    """A compressed transfer is never taken for a plain one."""
    await refused(gate, shot(gate, CHAT, f"Transfer-Encoding: {coding}", body=PLAIN), 400, 501)


@pytest.mark.item(6)
@pytest.mark.parametrize(
    "change",
    [
        (b"\r\n", b"\n"),
        (b"\r\nX-Canary", b"\nX-Canary"),
        (CANARY.encode(), b"a\rb"),
        (CANARY.encode(), b"a\0b"),
        (CANARY.encode(), b"a\r\n folded"),
        (CANARY.encode(), b"a\r\n\tfolded"),
        (b"X-Canary: ", b"X-Canary"),
    ],
)
async def test_line_ends(gate: Gate, change: tuple[bytes, bytes]) -> None:
    """Lines end in CR and LF, and nothing else passes for an end or for a value."""
    await refused(gate, chat_shot(gate).replace(*change), 400)


@pytest.mark.item(7)
@pytest.mark.parametrize(
    "body",
    [
        chunks(b"0x%x" % len(BODY)),
        chunks(b"%x " % len(BODY)),
        chunks(b" %x" % len(BODY)),
        chunks(b"-%x" % len(BODY)),
        chunks(b"+%x" % len(BODY)),
        chunks(b"f" * 17),
        chunks(b"%x;a=b\nc" % len(BODY)),
        chunks(b"%x;a\rb" % len(BODY)),
        chunks(b"%x" % (len(BODY) - 1)),
        chunks(b""),
        PLAIN.replace(b"\r\n", b"\n", 1),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
async def test_chunk_sizes(gate: Gate, body: bytes, *, apart: bool) -> None:
    """A chunk is as long as its plain hexadecimal size says, in one piece with the head or behind it."""
    doors = gate.parts.connections
    assert doors is not None
    async with dial(gate.port) as wire:
        head = shot(gate, CHAT, CHUNKED, "Connection: close")
        if apart:
            await wire.send(head)
            await gate.until(lambda: doors.open and not doors.anonymous)  # the head was taken
            await wire.send(body)
        else:
            await wire.send(head + body)
        answer = await wire.rest()
    assert statuses(answer) == [400]
    quotes_nothing(gate, answer)
    assert nothing_ran(gate)


@pytest.mark.item(7)
async def test_zeros_before_a_chunk_size(gate: Gate) -> None:
    """Zeros in front do not change a number, so they change nothing here either."""
    body = chunks(b"0" * 20 + b"%x" % len(BODY))
    answer = await exchange(gate, shot(gate, CHAT, CHUNKED, body=body))
    assert statuses(answer) == [200]
    assert only_call(gate).body == BODY


@pytest.mark.item(8)
@pytest.mark.parametrize(
    "trailer", ["Content-Length: 5", "Authorization: Bearer {bob}", "Host: evil.example", "X-Api-Key: {bob}"]
)
async def test_trailers_are_not_used(gate: Gate, trailer: str) -> None:
    """What comes behind the chunks changes nothing, for this request or the next one."""
    last = trailer.format(bob=gate.keys["bob"]).encode() + b"\r\n"
    body = chunks(b"%x" % len(BODY), trailer=last)
    answer = await exchange(gate, shot(gate, CHAT, CHUNKED, body=body) + chat_shot(gate, who=None))
    assert statuses(answer) in ([200], [400])
    assert {line["person"] for line in gate.logs if line["event"] == "request.done"} <= {"alice"}
    assert len(calls(gate)) <= 1


@pytest.mark.item(9)
@pytest.mark.parametrize("target", ["/api/tags", "/api/version", "/status", "/healthz", "/nope", "/api/chat"])
async def test_a_request_inside_a_body(gate: Gate, target: str) -> None:
    """P33: the body of a GET is never taken for the next request."""
    inner = chat_shot(gate)
    outer = shot(gate, f"GET {target} HTTP/1.1", f"Content-Length: {len(inner)}", body=inner)
    answer = await exchange(gate, outer + shot(gate, "GET /healthz HTTP/1.1", "Connection: close"))
    assert statuses(answer)[1:] in ([], [200])
    quotes_nothing(gate, answer)
    assert not [entry for entry in calls(gate) if entry.method == "POST"]


@pytest.mark.item(11)
@pytest.mark.parametrize(
    "garbage", [b"\0\1\2\r\n\r\n", b"garbage\r\n\r\n", b"POST /api/chat HTTP/9.9\r\n\r\n"]
)
async def test_garbage_behind_a_request(gate: Gate, garbage: bytes) -> None:
    """The request is answered, or the whole is refused; it is executed at most once."""
    await know_models(gate)
    request = chat_shot(gate).replace(b"Connection: close\r\n", b"")
    answer = await exchange(gate, request + garbage + CANARY.encode())
    assert statuses(answer) in ([200], [200, 400], [400])
    assert len(calls(gate)) <= 1


@pytest.mark.item(12)
@pytest.mark.parametrize(
    "hello",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\0" * 150,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x05\x01\x00",
        b"\0" * 100,
        b"*1\r\n$4\r\nPING\r\n",
    ],
    ids=["tls", "ssh", "http2", "socks", "zeros", "redis"],
)
async def test_other_protocols(gate: Gate, hello: bytes) -> None:
    """Another protocol's greeting ends with its connection and is nobody's error."""
    async with dial(gate.port) as wire:
        await wire.send(hello + CANARY.encode() + b"\r\n\r\n")
        answer = await wire.rest()
    assert statuses(answer) in ([400], [])
    quotes_nothing(gate, answer)
    assert not [line for line in gate.logs if line["log_level"] in ("warning", "error")]


@pytest.mark.item(13)
@pytest.mark.parametrize(
    "version", ["HTTP/1.2", "HTTP/2.0", "HTTP/3.0", "HTTP/x", "HTTP/0.9", "HTTP/1.1.1", "ICE/1.0", "http/1.1"]
)
async def test_another_version(gate: Gate, version: str) -> None:
    """Only HTTP/1.0 and 1.1 are spoken."""
    await refused(gate, chat_shot(gate).replace(b"HTTP/1.1", version.encode(), 1), 400, 505)


@pytest.mark.item(14)
@pytest.mark.parametrize(
    "fields",
    [("X-Long: " + "x" * 9000,), ("x" * 9000 + ": y",), tuple(f"X-{n}: y" for n in range(1000))],
    ids=["value", "name", "count"],
)
async def test_a_large_head(gate: Gate, fields: tuple[str, ...]) -> None:
    """A head beyond the limits is refused whatever else is right about it."""
    await refused(gate, chat_shot(gate, *fields), 400, 431)


@pytest.mark.item(14)
async def test_a_long_request_line(gate: Gate) -> None:
    """A line of 9,000 bytes is refused."""
    await refused(gate, shot(gate, f"GET /{'a' * 9000} HTTP/1.1"), 400, 414, 431)


@pytest.mark.item(14)
@pytest.mark.parametrize("piece", [b"x" * 4096, b"X: y\r\n" * 700], ids=["line", "lines"])
async def test_a_head_without_end(gate: Gate, piece: bytes) -> None:
    """The connection is closed long before a head fills the memory."""
    sent = 0
    async with dial(gate.port) as wire:
        await wire.send(b"GET / HTTP/1.1\r\nX-A: ")
        try:
            async with asyncio.timeout(10):
                while sent < 50_000_000:
                    await wire.send(piece)
                    sent += len(piece)
        except ConnectionError:
            pass
    assert sent < 20_000_000, "it was read for ever"


@pytest.mark.item(15)
@pytest.mark.parametrize("name", [b"X Y", b"X\x01", b"X\xc3\xa4", b"X\x7f", b"", b"X(", b" X", b"X\t"])
async def test_names_of_headers(gate: Gate, name: bytes) -> None:
    """A header's name is a token."""
    await refused(gate, chat_shot(gate, name + b": " + CANARY.encode()), 400)
