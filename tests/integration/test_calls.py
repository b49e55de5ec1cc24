"""Whole calls through a running gateway: bytes, metadata, refusals."""

import asyncio
import json
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import aiohttp
import pytest
from multidict import CIMultiDict

from gpushare.web.inference import in_turns
from tests.harness import Gate, chat, gateway


async def test_a_stream_passes_byte_for_byte(gate: Gate) -> None:
    """The client receives exactly the bytes Ollama wrote."""
    status, headers, body = await gate.post("/api/chat", chat("#sim:tokens=20"))
    assert status == 200
    assert headers["Content-Type"] == "application/x-ndjson"
    assert headers["X-Gpushare-Request"] == headers["X-Request-Id"]
    entry = await gate.sim.arrived(0, path="/api/chat")
    assert body == bytes(entry.answer)
    assert len(body.splitlines()) == 21
    assert json.loads(body.splitlines()[-1])["done"] is True


ROUTES = ["/", "/status", "/connect", "/metrics", "/healthz", "/readyz", "/api/tags", "/gpushare/v1/status"]


@pytest.mark.parametrize("path", ROUTES)
async def test_a_key_nobody_knows_does_not_open_a_foreign_name(gate: Gate, path: str) -> None:
    """A rebinding page can send any header, so only a valid key makes up for a foreign ``Host``."""
    unknown = {"Host": "evil.example", "Authorization": f"Bearer gs_0000aa_{'x' * 32}"}
    status, _, body = await gate.request("GET", path, who=None, headers=unknown)
    assert status == 401
    assert b"alice" not in body
    status, _, _ = await gate.request("GET", path, who=None, headers={"Host": "evil.example"})
    assert status == 421


async def test_a_path_key_nobody_knows_is_told_at_once(gate: Gate) -> None:
    """The probe of the Ollama command line fails with a mistyped key instead of looking healthy."""
    status, _, _ = await gate.request("HEAD", f"/k/gs_0000aa_{'x' * 32}/", who=None)
    assert status == 401


async def test_only_what_the_proxy_added_says_who_the_caller_is(gate: Gate) -> None:
    """A caller's own forwarding line does not hide the one a trusted proxy added behind it."""
    headers = CIMultiDict([("X-Forwarded-For", "10.0.0.1"), ("X-Forwarded-For", "8.8.8.8")])
    async with (
        aiohttp.ClientSession() as session,
        session.get(gate.url + "/metrics", headers=headers) as answer,
    ):
        assert answer.status == 403


async def test_a_proxy_that_speaks_https_is_named_so(gate: Gate) -> None:
    """The address in a refusal is the one the caller typed."""
    _, _, body = await gate.post("/api/chat", chat(), who=None, headers={"X-Forwarded-Proto": "https"})
    assert f"https://127.0.0.1:{gate.port}/connect" in json.loads(body)["error"]


async def test_a_page_of_another_site_reads_nothing(gate: Gate) -> None:
    """A cross-site request that is not a followed link is refused, with or without an origin."""
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    status, _, _ = await gate.request("GET", "/gpushare/v1/status", headers=headers)
    assert status == 403
    headers["Sec-Fetch-Mode"] = "navigate"
    status, _, _ = await gate.request("GET", "/status", headers=headers)
    assert status == 200


async def test_chunked_bodies_hold_what_arrived(tmp_path: Path) -> None:
    """A body of unknown length takes memory as it comes, so that a few of them refuse nobody."""
    settings = '[server]\nmax_body = "1MB"\nbody_memory = "2MB"\n'

    async def slowly(release: asyncio.Event) -> AsyncIterator[bytes]:
        yield b'{"model":'
        await release.wait()
        yield b'"m","prompt":"a"}'

    async with gateway(tmp_path, settings=settings) as gate:
        release = asyncio.Event()
        calls = [
            asyncio.ensure_future(gate.request("POST", "/api/generate", data=slowly(release)))
            for _ in range(6)
        ]
        await gate.until(lambda: gate.parts.body_budget.held_bytes >= 6 * 9)
        release.set()
        assert [status for status, _, _ in await asyncio.gather(*calls)] == [200] * 6


async def test_others_have_their_turn_between_the_steps_of_a_long_body() -> None:
    """P18: what is looked at in steps holds up the stream of nobody else for longer than one of them."""
    seen: list[str] = []

    def steps() -> Generator[None, None, str]:
        for _ in range(3):
            seen.append("body")
            yield
        return "read"

    async def stream() -> None:
        for _ in range(3):
            seen.append("stream")
            await asyncio.sleep(0)

    read, _ = await asyncio.gather(in_turns(steps()), stream())
    assert read == "read"
    assert seen == ["body", "stream"] * 3
