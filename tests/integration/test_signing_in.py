"""Sessions of a running gateway: they end with the key, and outlive a restart."""

from datetime import UTC, datetime
from pathlib import Path

from gpushare.core.config import parse
from gpushare.core.keys import KeyRecord, digest, new_key
from gpushare.edge.files import KeyFile
from tests.harness import CANARY, Gate, running
from tests.unit.web.browser import browser

SECRET = new_key(b"a key for the tests of signing in, long")


async def test_a_revoked_key_ends_its_session(gate: Gate) -> None:
    """P32: within a second of the revocation the browser is signed out."""
    async with browser(gate.url) as person:
        await person.sign_in(gate.keys["alice"])
        assert (await person.get("/login")).status == 303
        key_id = gate.keys["alice"].split("_")[1]
        gate.key_file.edit(lambda ring: ring.changed([key_id], revoked=datetime.now(UTC)))
        await gate.until(lambda: not gate.parts.ring.active(key_id, datetime.now(UTC)))
        assert (await person.get("/login")).status == 200


async def test_a_session_outlives_a_restart(tmp_path: Path) -> None:
    """The secret is kept in the state directory, so an update of the server signs nobody out."""
    record = KeyRecord(id=SECRET.split("_")[1], name="alice", sha256=digest(SECRET))
    key_file = KeyFile(tmp_path)
    key_file.edit(lambda ring: ring.added(record, datetime.now(UTC)))
    config = parse('[ollama]\nurl = "http://127.0.0.1:9"', source="test", env={})
    async with running(config, key_file) as server, browser(server.url) as person:
        await person.sign_in(SECRET)
        cookie = person.cookie
    async with running(config, key_file) as server, browser(server.url) as person:
        shown = await person.get("/login", Cookie=f"gpushare_session={cookie}")
        assert shown.status == 303
    (tmp_path / "session_secret").unlink()
    async with running(config, key_file) as server, browser(server.url) as person:
        shown = await person.get("/login", Cookie=f"gpushare_session={cookie}")
        assert shown.status == 200, "with another secret the old sessions are none"


async def test_nothing_typed_is_logged(gate: Gate) -> None:
    """P31: a log line tells who signed in, and neither key, cookie nor anything typed is in any."""
    async with browser(gate.url) as person:
        await person.post("/login", {"key": f"gs_{CANARY}", "next": CANARY})
        await person.sign_in(gate.keys["alice"])
        cookie = person.cookie
    lines = [line for line in gate.logs if line["event"] == "session.opened"]
    assert [(line["key"], line["person"]) for line in lines] == [(gate.keys["alice"].split("_")[1], "alice")]
    text = repr(gate.logs)
    assert CANARY not in text
    assert cookie not in text
