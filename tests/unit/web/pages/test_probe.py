"""The slow answer, over a real socket."""

import json
from itertools import pairwise

import aiohttp
import pytest

from gpushare.core.about import Probe
from gpushare.web.pages import probe
from tests.unit.web.site import KEYS, Site


async def lines(site: Site, **headers: str) -> list[Probe]:
    """Returns the lines of one answer to alice."""
    status, _, text = await site.get("/gpushare/v1/probe", "alice", **headers)
    assert status == 200
    return [Probe(**json.loads(line)) for line in text.splitlines()]


async def test_lines_are_sent_apart(site: Site) -> None:
    """Each says when it was sent, and how many there are."""
    found = await lines(site)
    assert [(line.line, line.of) for line in found] == [(number, 5) for number in range(1, 6)]
    assert all(later.sent_s - sooner.sent_s >= probe.PAUSE_S - 0.01 for sooner, later in pairwise(found))


async def test_a_line_is_here_before_the_next_is_made(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of ours holds it back; whoever leaves then ends the rest."""
    monkeypatch.setattr(probe, "PAUSE_S", 3600.0)
    headers = {"Authorization": f"Bearer {KEYS['alice']}"}
    async with site.client.get("/gpushare/v1/probe", headers=headers) as answer:
        assert json.loads(await answer.content.readline())["line"] == 1


async def test_who_the_caller_is_taken_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As what a trusted proxy says; what others say is told as not believed."""
    monkeypatch.setattr(probe, "PAUSE_S", 0.0)
    first = (await lines(site))[0]
    assert (first.peer, first.client, first.forwarded) == ("127.0.0.1", "127.0.0.1", False)
    first = (await lines(site, **{"X-Forwarded-For": "192.0.2.7"}))[0]
    assert (first.peer, first.client, first.forwarded) == ("127.0.0.1", "192.0.2.7", True)
    assert first.trusted


async def test_it_needs_a_key_and_head_has_no_lines(site: Site) -> None:
    """Nobody without a key keeps a connection busy with it."""
    status, _, text = await site.get("/gpushare/v1/probe")
    assert (status, json.loads(text)["error"]["code"]) == (401, "key_missing")
    headers = {"Authorization": f"Bearer {KEYS['alice']}"}
    timeout = aiohttp.ClientTimeout(total=30)
    async with site.client.head("/gpushare/v1/probe", headers=headers, timeout=timeout) as answer:
        assert answer.status == 200
        assert await answer.read() == b""
