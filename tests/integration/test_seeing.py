"""What can be seen of a running gateway: health, status and metrics tell the truth, and never a secret."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
import structlog

from gpushare import app
from gpushare.core.config import Log, parse
from gpushare.core.keys import KeyRecord, digest, new_key
from gpushare.edge import logs
from gpushare.edge.files import KeyFile
from gpushare.sim import SimOllama
from tests.harness import running

CANARY = "canary9e2b"
SECRET = new_key(b"gpushare canary key, 32 bytes or more")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log as it is written in service, at debug."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.raiseExceptions
    out = io.StringIO()
    logs.configure(Log(level="debug", format="json"), out)
    yield out
    root.handlers[:], logging.raiseExceptions = before[0], before[2]
    root.setLevel(before[1])
    structlog.reset_defaults()


@pytest.fixture
async def server(tmp_path: Path, log: io.StringIO) -> AsyncIterator[app.Running]:
    """A gateway with one key in front of a simulated Ollama."""
    async with AsyncExitStack() as stack:
        sim = SimOllama()
        await sim.start()
        stack.push_async_callback(sim.stop)
        keys = KeyFile(tmp_path)
        record = KeyRecord(id=SECRET.split("_")[1], name="alice", sha256=digest(SECRET))
        keys.edit(lambda ring: ring.added(record, datetime.now(UTC)))
        config = parse(
            "", source="test", env={"GPUSHARE_OLLAMA__URL": sim.url, "GPUSHARE_GPU__BACKEND": "none"}
        )
        yield await stack.enter_async_context(running(config, keys))


async def everything_seen(server: app.Running) -> str:
    """Returns all that anybody can read of the gateway, signed in and not."""
    pages = []
    async with aiohttp.ClientSession(server.url) as client:
        for path in ("/status", "/gpushare/v1/status", "/metrics", "/healthz", "/readyz", "/connect"):
            for headers in ({}, {"Authorization": f"Bearer {SECRET}"}):
                async with client.get(path, headers=headers) as answer:
                    pages.append(await answer.text() + repr(answer.headers))
    return "\n".join(pages)


async def raw(server: app.Running, request: bytes) -> bytes:
    """Sends bytes that no client library would send and returns the answer."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_no_secret_leaves_the_request_path(server: app.Running, log: io.StringIO) -> None:
    """P31: prompts and keys, also in wrong places and malformed requests, are in no log and on no page."""
    signed = {"Authorization": f"Bearer {SECRET}"}
    chat = {"model": "m", "messages": [{"role": "user", "content": CANARY}]}
    async with aiohttp.ClientSession(server.url) as client:
        attempts: tuple[tuple[str, dict[str, object]], ...] = (
            ("/api/chat", {"headers": signed, "json": chat}),
            ("/v1/chat/completions", {"headers": signed, "json": chat}),
            ("/v1/messages", {"headers": signed, "json": {**chat, "max_tokens": 9}}),
            ("/api/chat", {"headers": signed, "json": {**chat, "model": CANARY}}),
            ("/api/chat", {"headers": signed, "data": '{"model": "' + CANARY}),
            (
                "/api/chat",
                {"headers": {**signed, "User-Agent": CANARY, "X-Request-Id": CANARY}, "json": chat},
            ),
            ("/api/chat", {"headers": {"Authorization": f"Bearer {SECRET[:-1]}"}, "json": chat}),
            ("/api/chat", {"headers": {**signed, "x-api-key": f"gs_{CANARY}"}, "json": chat}),
            (f"/k/{SECRET}/api/chat", {"json": chat}),
            (f"/k/{SECRET}/api/{CANARY}", {"json": chat}),
            (f"/{CANARY}?key={SECRET}", {}),
        )
        for path, options in attempts:
            async with client.post(path, **options) as answer:  # type: ignore[arg-type]
                await answer.read()
    await raw(server, f"GET /{CANARY} HTTP/1.1\r\nHost: x\r\n{CANARY} no colon {SECRET}\r\n\r\n".encode())
    await raw(server, f"{CANARY} {SECRET}\r\n\r\n".encode())
    seen = await everything_seen(server) + log.getvalue()
    assert CANARY not in seen
    assert SECRET.rpartition("_")[2] not in seen
    events = [json.loads(line) for line in log.getvalue().splitlines()]
    assert not [event for event in events if "unlisted" in event]
    assert [event["outcome"] for event in events if event["event"] == "request.done"].count("ok") >= 1


async def test_counts_agree_between_log_and_metrics(server: app.Running, log: io.StringIO) -> None:
    """P36: each admitted call is one line and one increment, and the page shows it in the last day."""
    chat = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    async with aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {SECRET}"}) as client:
        ids = []
        for _ in range(3):
            async with client.post("/api/chat", json=chat) as answer:
                await answer.read()
                ids.append(answer.headers["X-Gpushare-Request"])
        async with client.get("/gpushare/v1/status") as answer:
            status = await answer.json()
        async with client.get("/metrics") as answer:
            page = await answer.text()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    done = [line for line in lines if line["event"] == "request.done"]
    assert [line["request"] for line in done] == ids
    assert {line["outcome"] for line in done} == {"ok"}
    assert status["day"]["requests"] == 3
    assert 'gpushare_requests_total{outcome="ok",route="/api/chat"} 3.0' in page
    assert "gpushare_slots_granted_total 3.0" in page
    assert "gpushare_slots_released_total 3.0" in page
    assert 'gpushare_person_share_due_ratio{person="alice"} 1.0' in page
