"""The server: which parser it runs on, and the short way for calls."""

import asyncio

import pytest
from aiohttp import http_parser, web

from gpushare.web.server import check_parser
from tests.unit.web.wire import NAME, Bench, get

CLOSE = "Connection: close"


async def answer_call(request: web.Request) -> web.StreamResponse:
    """Says that the short way was taken, and whether the request knows its application."""
    return web.Response(text=f"call {request.app[NAME]}")


@pytest.mark.parametrize(
    ("target", "way"),
    [
        ("/api/chat", b"call app"),
        ("/v1/messages?beta=true", b"call app"),
        ("/k/gs_1/api/chat", b"call app"),
        ("//api/chat", b"call app"),
        ("/status", b"GET /status"),
        ("/api", b"GET /api"),
        ("/", b"GET /"),
    ],
)
async def test_calls_pass_by_the_router(bench: Bench, target: str, way: bytes) -> None:
    """Targets under the API's roots go to the one handler, everything else to the application."""
    bench.api = answer_call
    await bench.start()
    assert (await bench.ask(get(target, CLOSE))).partition(b"\r\n\r\n")[2].strip() == way


async def test_without_a_short_way_the_application_answers(bench: Bench) -> None:
    """The short way is an offer to whoever builds the server."""
    await bench.start()
    assert b"GET /api/chat" in await bench.ask(get("/api/chat", CLOSE))


async def test_requests_behind_one_another_leave_others_their_turn(bench: Bench) -> None:
    """P18: of answers that wait for nothing a connection gets one in each pass of the loop."""
    passes = 0
    seen: list[int] = []

    async def count() -> None:
        nonlocal passes
        while True:
            passes += 1
            await asyncio.sleep(0)

    async def answer_at_once(_request: web.Request) -> web.StreamResponse:
        seen.append(passes)
        return web.Response()

    bench.api = answer_at_once
    await bench.start()
    counting = asyncio.create_task(count())
    await bench.ask(get("/api/tags") * 7 + get("/api/tags", CLOSE))
    counting.cancel()
    assert len(set(seen)) == len(seen) == 8


def test_needs_c_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not start on aiohttp's Python parser, which takes malformed requests."""
    check_parser()
    monkeypatch.setattr(http_parser, "HttpRequestParser", http_parser.HttpRequestParserPy)
    with pytest.raises(RuntimeError, match="C parser"):
        check_parser()
