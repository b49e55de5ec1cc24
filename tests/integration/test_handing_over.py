"""One-time links and replaced keys with the real key file."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpushare.core.config import parse
from gpushare.core.keys import KeyRecord, digest, key_id, link_token, new_key, offered
from gpushare.edge.files import KeyFile
from tests.harness import Gate, chat, running
from tests.unit.web.browser import Shown, browser

TOKEN = link_token(b"a token for the tests of links")
LINK = f"/welcome/{TOKEN}"


def shown_key(shown: Shown) -> str:
    """Returns the one key on a page."""
    (key,) = set(re.findall(r"gs_[0-9a-f]{6}_\w{32}", shown.text))
    return str(key)


@pytest.fixture
async def link(gate: Gate) -> str:
    """The address of a link to bob's key, known to the gateway."""
    gate.key_file.edit(lambda ring: offered(ring, key_id(gate.keys["bob"]), TOKEN, datetime.now(UTC)))
    await gate.until(lambda: any(record.link for record in gate.parts.ring.records))
    return LINK


async def test_of_many_openings_one_gives_a_key(gate: Gate, link: str) -> None:
    """However many open a link at the same time: one key, which works at once, and the first one is void."""
    async with browser(gate.url) as person:
        opened = await asyncio.gather(*(person.post(link) for _ in range(8)))
    assert sorted(shown.status for shown in opened) == [200] + [410] * 7
    key = shown_key(next(shown for shown in opened if shown.status == 200))
    before, gate.keys["bob"] = gate.keys["bob"], key
    assert (await gate.post("/api/chat", chat("#sim:tokens=1"), who="bob"))[0] == 200
    gate.keys["bob"] = before
    assert (await gate.post("/api/chat", chat("#sim:tokens=1"), who="bob"))[0] == 401
    gate.keys["new"] = key  # whose secret must be in no log line either
    assert TOKEN not in repr(gate.logs)
    assert [line["person"] for line in gate.logs if line["event"] == "key.opened"] == ["bob"]
    for path in gate.key_file.path.parent.iterdir():
        assert key.encode() not in path.read_bytes()
        assert TOKEN.encode() not in path.read_bytes()


async def test_a_replaced_key_works_at_once(gate: Gate) -> None:
    """P32: the new key works with the answer; the old one, ended at once, does not from then on."""
    async with browser(gate.url) as person:
        await person.sign_in(gate.keys["alice"])
        old, gate.keys["alice"] = gate.keys["alice"], shown_key(await person.post("/me/key", {"old": "ends"}))
    assert (await gate.post("/api/chat", chat("#sim:tokens=1")))[0] == 200
    gate.keys["old"] = old
    assert (await gate.post("/api/chat", chat("#sim:tokens=1"), who="old"))[0] == 401
    assert [line["person"] for line in gate.logs if line["event"] == "key.replaced"] == ["alice"]


async def test_an_edit_that_fails_hides_no_other_change(gate: Gate, link: str) -> None:
    """A change by a command is seen although a page read the file after it and changed nothing."""
    async with browser(gate.url) as person:
        await person.post(link)
        alice = key_id(gate.keys["alice"])
        gate.key_file.edit(lambda ring: ring.changed([alice], weight=3.0))
        assert (await person.post(link)).status == 410
    await gate.until(lambda: any(record.weight == 3.0 for record in gate.parts.ring.records))


async def test_a_link_outlives_a_restart(tmp_path: Path) -> None:
    """It is kept in the key file, like the key it opens."""
    secret = new_key(b"a key for the tests of links, long enough")
    record = KeyRecord(id=key_id(secret), name="alice", sha256=digest(secret))
    key_file, now = KeyFile(tmp_path), datetime.now(UTC)
    key_file.edit(lambda ring: offered(ring.added(record, now), record.id, TOKEN, now))
    config = parse('[ollama]\nurl = "http://127.0.0.1:9"', source="test", env={})
    async with running(config, key_file) as server, browser(server.url) as person:
        assert (await person.get(LINK)).status == 200
    async with running(config, key_file) as server, browser(server.url) as person:
        assert (await person.post(LINK)).status == 200
    async with running(config, key_file) as server, browser(server.url) as person:
        assert (await person.post(LINK)).status == 410
