"""Answers on the wire, sound and broken."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gpushare.sim import Fault, Plan, SimOllama, State

from .conftest import Ask, chat, request_bytes

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def raw(connect: Connect, text: str, *, stream: bool = True) -> tuple[bytes, bool]:
    """Returns all bytes a chat answer carried, and whether the connection ended in a reset."""
    reader, writer = await connect()
    writer.write(request_bytes("POST", "/api/chat", chat(text, stream=stream)))
    data, reset = b"", False
    try:
        while part := await reader.read(1 << 16):
            data += part
    except ConnectionResetError:
        reset = True
    writer.close()
    return data, reset


async def test_each_record_is_one_chunk(ask: Ask) -> None:
    """A stream is chunked, one record in a chunk, with no length and no server name."""
    reply = await ask("POST", "/api/chat", chat("#sim:tokens=3"))
    assert reply.headers["Content-Type"] == "application/x-ndjson"
    assert list(reply.headers) == ["Content-Type", "Date", "Connection", "Transfer-Encoding"]
    assert [chunk.count(b"\n") for chunk in reply.chunks] == [1, 1, 1, 1]


async def test_small_single_answers_have_a_length_and_large_ones_chunks(ask: Ask) -> None:
    """Go sends a length up to 2 KB."""
    small = await ask("POST", "/api/chat", chat("#sim:tokens=1", stream=False))
    large = await ask("POST", "/api/chat", chat("#sim:tokens=999", stream=False))
    assert small.headers["Content-Length"] == str(len(small.body))
    assert large.headers["Transfer-Encoding"] == "chunked"
    assert not large.body.endswith(b"\n")


async def test_a_connection_serves_several_requests(connect: Connect, sim: SimOllama) -> None:
    """Without "Connection: close" the connection stays open after a stream."""
    reader, writer = await connect()
    for _ in range(2):
        writer.write(request_bytes("POST", "/api/chat", chat()).replace(b"Connection: close\r\n", b""))
        assert (await reader.readuntil(b"0\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    assert sim.connections == 1
    writer.close()
    await sim.events.until(lambda: sim.connections == 0)


async def test_http_1_0_gets_no_chunks(connect: Connect) -> None:
    """An old client's stream ends with the connection."""
    reader, writer = await connect()
    writer.write(request_bytes("POST", "/api/chat", chat()).replace(b"HTTP/1.1", b"HTTP/1.0"))
    data = await reader.read()
    assert b"chunked" not in data
    assert data.endswith(b"}\n")
    writer.close()


async def test_split_and_gather_change_the_segments_not_the_bytes(ask: Ask, sim: SimOllama) -> None:
    """Whatever the segmentation, the log's answer is what the client got."""
    for marker in ("#sim:split=7", "#sim:gather=3", "#sim:tokens=4"):
        reply = await ask("POST", "/api/chat", chat(marker))
        assert reply.body == bytes(sim.log[-1].answer)
    gathered = await ask("POST", "/api/chat", chat("#sim:tokens=5,gather=3"))
    assert [chunk.count(b"\n") for chunk in gathered.chunks] == [3, 3]


@pytest.mark.parametrize(
    ("fault", "records", "reset", "framed"),
    [
        ("reset", 0, True, False),
        ("reset@2", 2, True, False),
        ("close", 0, False, False),
        ("close@0", 0, False, False),
        ("close@2", 2, False, False),
        ("close@end", 5, False, False),
        ("eof@2", 2, False, True),
        ("badchunk@2", 2, False, False),
    ],
)
async def test_broken_ends(
    connect: Connect, sim: SimOllama, *, fault: str, records: int, reset: bool, framed: bool
) -> None:
    """Each kind of end comes after its record, as a reset or not, with the end of the message or not."""
    data, was_reset = await raw(connect, f"#sim:tokens=4,fault={fault}")
    assert was_reset is reset
    assert data.endswith(b"0\r\n\r\n") is framed
    if not reset:
        assert data.count(b'"message"') == records
    entry = sim.log[-1]
    assert entry.records == records
    assert entry.state is State.FAULTED


async def test_a_reset_in_the_middle_of_a_single_answer(connect: Connect, sim: SimOllama) -> None:
    """With a place, a fault strikes a single answer between its halves."""
    data, _ = await raw(connect, "#sim:fault=close@1", stream=False)
    assert data.endswith(bytes(sim.log[-1].answer))
    assert not data.endswith(b"}")


async def test_a_stall_lasts_until_it_is_resumed(connect: Connect, sim: SimOllama) -> None:
    """At a stall nothing more is sent; resuming completes the same answer."""
    reply = asyncio.ensure_future(raw(connect, "#sim:tokens=4,fault=stall@2"))
    entry = await sim.arrived(0)
    await entry.reached(State.STALLED)
    assert entry.records == 2
    entry.resume()
    data, _ = await reply
    assert data.count(b'"message"') == 5
    assert entry.state is State.DONE


async def test_a_stall_at_the_end_withholds_the_end_of_the_message(connect: Connect, sim: SimOllama) -> None:
    """The final record is out, the message is not ended."""
    reader, writer = await connect()
    writer.write(request_bytes("POST", "/api/chat", chat("#sim:fault=stall@end")))
    assert b'"done":true' in await reader.readuntil(b'"done":true')
    entry = await sim.arrived(0)
    await entry.reached(State.STALLED)
    writer.close()
    await entry.reached(State.CANCELLED)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("gzip", b"Content-Encoding: gzip\r\n"),
        ("html", b"Content-Type: text/html; charset=utf-8\r\n"),
        ("badstatus", b"HTTP/1.1 abc what\r\n"),
        ("bighead,size=9000", b"X-Padding: " + b"x" * 9000),
        ("interim", b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\n"),
        ("both", b"Content-Length: 9\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"),
        ("short", b"Content-Length: 1000000\r\n"),
        ("long", b"Content-Length: 9\r\n"),
        ("garbage@1", b"this is not json\n"),
        ("huge@1,size=9000", b'{"model":"' + b"x" * 9000 + b'"}\n'),
        ("counts", b'"eval_count":1000000000000000000,'),
        ("error@1", b'{"error":"an error was encountered while running the model: unexpected EOF"}\n'),
    ],
)
async def test_broken_heads_and_records(connect: Connect, *, fault: str, expected: bytes) -> None:
    """Each fault leaves its mark in the bytes."""
    data, _ = await raw(connect, f"#sim:fault={fault}")
    assert expected in data


async def test_an_unframed_answer_ends_with_the_connection(connect: Connect) -> None:
    """Neither length nor chunks: only the end of the connection ends the body."""
    data, reset = await raw(connect, "#sim:fault=unframed")
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"Length" not in head
    assert b"chunked" not in head
    assert body.endswith(b"}\n")
    assert not reset


async def test_a_record_after_the_final_one(ask: Ask) -> None:
    """A trailing record comes behind the end mark."""
    reply = await ask("POST", "/api/chat", chat("#sim:fault=trailing"))
    assert [line["done"] for line in reply.lines][-2:] == [True, False]


async def test_a_deaf_server_reads_nothing_and_says_nothing(connect: Connect, sim: SimOllama) -> None:
    """The connection is accepted, the body stays unread, no byte comes back."""
    sim.next(Plan(fault=Fault.parse("deaf")))
    reader, writer = await connect()
    writer.write(request_bytes("POST", "/api/chat", chat()))
    entry = await sim.arrived(0)
    await entry.reached(State.STALLED)
    assert entry.body_bytes == 0
    writer.close()
    await entry.reached(State.CANCELLED)
    assert await reader.read() == b""


async def test_hanging_up_in_the_middle_of_the_body(connect: Connect, sim: SimOllama) -> None:
    """After so many bytes of the body the connection is reset."""
    sim.next(Plan(fault=Fault.parse("hangup@10")))
    data, reset = await raw(connect, "x" * 100)
    assert (data, reset) == (b"", True)
    assert sim.log[0].state is State.FAULTED
