"""Ollama's small answers, against the simulated Ollama and its faults."""

import json
import socket
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from gpushare.core.errors import OllamaBroken, OllamaDown, OllamaSilent
from gpushare.edge.beside import NAME as BESIDE
from gpushare.edge.ollama import LOOK_UPS, HttpOllama
from gpushare.sim import Fault, FaultKind, Plan, SimOllama
from tests.simulated import sim

__all__ = ["sim"]


@pytest.fixture
async def ollama(sim: SimOllama) -> AsyncIterator[HttpOllama]:
    """The client in front of it."""
    client = HttpOllama(sim.url)
    yield client
    await client.close()


async def test_version_store_and_memory_are_read(ollama: HttpOllama) -> None:
    """The three lists arrive as values."""
    assert await ollama.version() == "0.33.0"
    assert "m:latest" in await ollama.installed()
    assert await ollama.resident() == ()


async def test_another_engine_is_there_though_it_has_no_version(ollama: HttpOllama, sim: SimOllama) -> None:
    """Its 404 is an answer: taken for none, it would shut the breaker on an engine that works."""
    sim.script.plans["/api/version"] = Plan(status=404)
    assert await ollama.version() == ""
    sim.script.plans["/api/version"] = Plan(status=500)
    with pytest.raises(OllamaBroken):
        await ollama.version()


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("2026-11-20T15:32:12.123456789+01:00", datetime(2026, 11, 20, 14, 32, 12, tzinfo=UTC)),
        ("2318-09-06T21:41:46Z", datetime(2318, 9, 6, 21, 41, 46, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("9999-12-31T23:59:59-14:00", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("0001-01-01T00:00:00Z", None),
        ("12026-11-20T14:32:12Z", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
async def test_when_a_model_unloads_is_an_instant_or_unknown(
    ollama: HttpOllama, monkeypatch: pytest.MonkeyPatch, written: str | None, instant: datetime | None
) -> None:
    """Whatever Ollama writes, what comes in is a time that everybody can compute with, or none."""
    body = json.dumps({"models": [{"name": "m", "expires_at": written}]}).encode()

    async def get(_target: str, *, timeout_s: float) -> tuple[int, str, bytes]:
        return 200, "application/json", body

    monkeypatch.setattr(ollama, "get", get)
    assert [row.expires for row in await ollama.resident()] == [instant]


async def test_no_header_of_a_client_library_gives_it_away(sim: SimOllama, ollama: HttpOllama) -> None:
    """Ollama sees our name, no cookie and no wish for compression."""
    await ollama.version()
    entry = await sim.arrived(0)
    assert entry.header("user-agent") == "gpushare"
    assert entry.header("accept-encoding") == "identity"
    assert entry.header("cookie") is None


async def test_an_ollama_that_is_down_is_one_error(sim: SimOllama, ollama: HttpOllama) -> None:
    """A refused connection is told as such, without the library's words."""
    sim.refuse()
    with pytest.raises(OllamaDown):
        await ollama.version()


async def test_a_model_leaves_memory(sim: SimOllama, ollama: HttpOllama) -> None:
    """The request for it is Ollama's own form of it; a refusal is an error."""
    await ollama.unload("m:latest")
    entry = await sim.arrived(0)
    assert (entry.path, json.loads(entry.body)) == ("/api/generate", {"model": "m:latest", "keep_alive": 0})
    assert await ollama.resident() == ()
    with pytest.raises(OllamaBroken):
        await ollama.unload("none")


async def test_silence_ends_at_the_deadline(sim: SimOllama, ollama: HttpOllama) -> None:
    """A list that never answers is given up."""
    sim.next(Plan(fault=Fault(FaultKind.DEAF)))
    with pytest.raises(OllamaSilent):
        await ollama.get("/api/ps", timeout_s=0.05)


async def test_a_name_is_looked_up(sim: SimOllama, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its addresses are tried until one takes the connection."""
    look_up = socket.getaddrinfo

    def found(host: str, port: int, **how: Any) -> list[Any]:
        assert host == "ollama.local"
        return [*look_up("127.0.0.2", port, **how), *look_up("127.0.0.1", port, **how)]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    client = HttpOllama(sim.url.replace("127.0.0.1", "ollama.local"))
    assert await client.version() == "0.33.0"
    await client.close()


async def test_a_name_server_that_keeps_silent_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the question, nor the end of the process; and it takes a few threads at the most."""
    answers = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_: (answers.wait(), [])[1])
    client = HttpOllama("http://ollama.local")
    for number in range(2 * LOOK_UPS):
        with pytest.raises(OllamaSilent):
            await client.get(f"/{number}", timeout_s=0.01)
    await client.close()
    waiting = [thread for thread in threading.enumerate() if thread.name == BESIDE]
    assert 1 <= len(waiting) <= LOOK_UPS
    answers.set()


@pytest.mark.parametrize("kind", [FaultKind.RESET, FaultKind.CLOSE, FaultKind.HTML, FaultKind.BADSTATUS])
async def test_a_broken_answer_is_one_error(sim: SimOllama, ollama: HttpOllama, kind: FaultKind) -> None:
    """Cut connections and answers that are not Ollama's end as ours, never as a library exception."""
    sim.script.plans["/api/version"] = Plan(fault=Fault(kind))  # a GET may be asked twice
    with pytest.raises(OllamaBroken):
        await ollama.version()


async def test_an_error_status_is_no_list(sim: SimOllama, ollama: HttpOllama) -> None:
    """A probe answered with 500 counts as no answer."""
    sim.next(Plan(status=500))
    with pytest.raises(OllamaBroken):
        await ollama.installed()


async def test_an_upload_is_streamed(sim: SimOllama, ollama: HttpOllama) -> None:
    """Chunks go on as they come, and Ollama's answer comes back."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 1000

    status, _, _ = await ollama.upload("POST", f"/api/blobs/sha256:{'0' * 64}", chunks())
    assert status == 400  # the digest does not match, which Ollama says after reading it all
    assert (await sim.arrived(0)).body_bytes == 3000
