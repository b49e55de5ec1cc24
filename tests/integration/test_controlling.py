"""What admins do to the queue while calls wait and run, by key and on the page, through the whole gateway."""

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from gpushare.app.keys import apply_keys
from gpushare.core.keys import KeyRing, key_id
from gpushare.edge.store import Store
from gpushare.edge.store.schema import open_reader
from tests.conformance.tools import busy, calls, dial, head, know_models, post
from tests.harness import Gate, chat, gateway
from tests.unit.web.browser import browser
from tests.unit.web.site import text_of
from tests.unit.web.wire import Wire

QUEUE = "/gpushare/v1/queue"


async def control(gate: Gate, what: str) -> dict[str, object]:
    """Does one thing to the queue and returns the answer."""
    status, _, body = await gate.request("POST", f"{QUEUE}/{what}", who="root")
    assert status == 200
    answer: dict[str, object] = json.loads(body)
    return answer


async def ready(gate: Gate) -> str:
    """Returns the word for whoever asks whether calls are taken."""
    return (await gate.request("GET", "/readyz", who=None))[2].decode()


async def acts(gate: Gate) -> list[tuple[str, str, str]]:
    """Returns who did what to what, as the ledger holds it."""
    store = cast("Store", gate.parts.ledger)
    await store.flush()
    with closing(open_reader(store.path)) as connection:
        return list(connection.execute("SELECT name, what, target FROM actions ORDER BY rowid"))


async def test_a_pause_holds_calls_until_it_is_resumed(gate: Gate) -> None:
    """Whoever comes waits and Ollama hears nothing; then the call runs."""
    await know_models(gate)
    assert (await control(gate, "pause"))["paused"] is True
    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(gate.post("/api/chat", chat("waits")))
        await gate.waiting(1)
        assert calls(gate) == []
        assert (await control(gate, "resume"))["paused"] is False
        assert (await call)[0] == 200
    assert await acts(gate) == [("root", "queue pause", ""), ("root", "queue resume", "")]
    said = [line for line in gate.logs if line["event"] == "admin.acted"]
    assert [(line["person"], line["what"]) for line in said] == [
        ("root", "queue pause"),
        ("root", "queue resume"),
    ]


async def test_a_drain_turns_away_until_it_is_resumed(gate: Gate) -> None:
    """What runs finishes, what waits and comes is refused, probes are told; then all is as before."""
    await know_models(gate)
    async with busy(gate) as holder, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(gate.post("/api/chat", chat("waits")))
        await gate.waiting(1)
        assert await control(gate, "drain") == {
            "schema": "gpushare.controls/1",
            "paused": False,
            "draining": True,
            "running": 1,
            "waiting": 0,
        }
        assert (await waiting)[0] == 503
        status, headers, body = await gate.post("/v1/chat/completions", chat("comes"))
        assert (status, json.loads(body)["error"]["code"]) == (503, "draining")
        assert 1 <= int(headers["Retry-After"]) <= 30
        assert await ready(gate) == "draining"
        assert not holder.ended
        await control(gate, "resume")
        assert await ready(gate) == "ok"
    assert (await gate.post("/api/chat", chat("again")))[0] == 200


async def test_a_model_is_unloaded(gate: Gate) -> None:
    """Ollama gets its own form of it, memory is looked at again, and a second time it is not there."""
    await know_models(gate)
    await gate.post("/api/chat", chat("loads"))
    await gate.parts.monitor.poll_resident()
    sent = {"model": "M"}
    status, _, body = await gate.post("/gpushare/v1/models/unload", sent, who="root")
    assert (status, json.loads(body)["model"]) == (200, "m:latest")
    asked = [entry for entry in gate.sim.log if entry.path == "/api/generate"]
    assert [json.loads(entry.body) for entry in asked] == [{"model": "m:latest", "keep_alive": 0}]
    assert gate.parts.monitor.view.loaded == ()
    assert (await gate.post("/gpushare/v1/models/unload", sent, who="root"))[0] == 404
    assert await acts(gate) == [("root", "models unload", "m:latest")]


async def test_an_admin_s_end_of_another_s_call_is_noted(gate: Gate) -> None:
    """With the id and whose it was; what people end of their own is nobody's business."""
    await know_models(gate)
    async with busy(gate), asyncio.TaskGroup() as tasks:
        for who, by in (("alice", "root"), ("bob", "bob")):
            call = tasks.create_task(gate.post("/api/chat", chat("waits"), who=who))
            await gate.waiting(1)
            (request_id,) = [row.id for row in gate.parts.slots.snapshot().waiting]
            assert (await gate.request("DELETE", f"{QUEUE}/{request_id}", who=by))[0] == 200
            assert (await call)[0] == 410
            if by == "root":
                assert await acts(gate) == [("root", "queue cancel", request_id)]
    assert len(await acts(gate)) == 1


async def test_the_page_pauses_and_resumes(gate: Gate) -> None:
    """A browser without scripts: what comes waits, and runs when the admin lets it."""
    await know_models(gate)
    async with browser(gate.url) as admin, asyncio.TaskGroup() as tasks:
        await admin.sign_in(gate.keys["root"])
        await admin.post("/admin/queue/pause")
        call = tasks.create_task(gate.post("/api/chat", chat("waits")))
        await gate.waiting(1)
        page = (await admin.get("/admin")).text
        assert "1 person is waiting" in page
        assert "An admin has paused the queue." in page
        assert calls(gate) == []
        await admin.post("/admin/queue/resume")
        assert (await call)[0] == 200
    assert [what for _, what, _ in await acts(gate)] == ["queue pause", "queue resume"]


async def test_the_page_unloads_a_model(gate: Gate) -> None:
    """By the button beside its name."""
    await know_models(gate)
    await gate.post("/api/chat", chat("loads"))
    await gate.parts.monitor.poll_resident()
    async with browser(gate.url) as admin:
        await admin.sign_in(gate.keys["root"])
        assert 'name="model" value="m:latest"' in (await admin.get("/admin")).text
        assert (await admin.post("/admin/unload", {"model": "m:latest"})).location == "/admin?done=unload"
        assert "No model in memory" in (await admin.get("/admin")).text


async def test_a_key_from_its_making_to_its_end(gate: Gate) -> None:
    """Made by a link, opened, used, given less, revoked: each acts at once and on the key file."""
    await know_models(gate)
    async with browser(gate.url) as admin, browser(gate.url) as erin:
        await admin.sign_in(gate.keys["root"])
        made = await admin.post("/admin/keys/new", {"name": "erin", "max_waiting": "5"})
        (path,) = set(re.findall(r"/welcome/[\w-]+", made.text))
        opened = await erin.post(path)
        (gate.keys["erin"],) = set(re.findall(r"gs_[0-9a-f]{6}_\w{32}", opened.text))
        assert (await erin.post(path)).status == 410
        assert (await gate.post("/api/chat", chat("works"), who="erin"))[0] == 200
        key = f"/admin/keys/{key_id(gate.keys['erin'])}"
        await admin.post(key, {"models": "n"})
        assert (await gate.post("/api/chat", chat("not hers"), who="erin"))[0] == 404
        await admin.post(f"{key}/switch")
        assert (await gate.post("/api/chat", chat("off"), who="erin"))[0] == 401
        await admin.post(f"{key}/switch")
        assert (await admin.post(f"{key}/revoke")).status == 303
        assert (await gate.post("/api/chat", chat("over"), who="erin"))[0] == 401
        assert "erin (you)" not in (await erin.get("/status")).text
    assert gate.key_file.load().find("erin", datetime.now(UTC))[0].revoked is not None
    assert [what for _, what, _ in await acts(gate)] == [
        *("key add", "key set", "key disable", "key set", "key revoke")
    ]


async def test_what_others_do_to_the_key_file_is_noted(gate: Gate) -> None:
    """Commands on the server and an editor leave their marks, by themselves or on reload."""
    ids = {record.name: record.id for record in gate.parts.ring.records}
    gate.key_file.edit(lambda ring: ring.changed([ids["bob"]], weight=2.0))
    await gate.until(lambda: gate.parts.ring.get(ids["bob"]).weight == 2.0)  # type: ignore[union-attr]
    apply_keys(gate.parts, gate.parts.ring.changed([ids["carol"]], disabled=True))
    assert await acts(gate) == [
        ("on the server", "key changed", ids["bob"]),
        ("on the server", "key changed", ids["carol"]),
    ]
    _, _, page = await gate.request("GET", "/admin", who="root")
    assert "on the server key changed" in text_of(page.decode())
    assert "bob: weight" in text_of(page.decode())


async def test_what_the_pages_do_at_once_is_nobody_else_s(gate: Gate) -> None:
    """Sign-outs with one key in several browsers at once leave no mark of somebody on the server."""
    (bob,) = gate.parts.ring.find("bob", datetime.now(UTC))
    await asyncio.gather(*(gate.parts.edit_keys(lambda ring: ring.signed_out(bob.id)) for _ in range(9)))
    assert gate.parts.ring.get(bob.id).sign_outs == 9  # type: ignore[union-attr]
    assert await acts(gate) == []


async def test_the_page_ends_anybody_s_call(gate: Gate) -> None:
    """By its link on the status page and the question behind it."""
    await know_models(gate)
    async with browser(gate.url) as admin, busy(gate), asyncio.TaskGroup() as tasks:
        await admin.sign_in(gate.keys["root"])
        call = tasks.create_task(gate.post("/api/chat", chat("waits"), who="bob"))
        await gate.waiting(1)
        (request_id,) = [row.id for row in gate.parts.slots.snapshot().waiting]
        link = f"/cancel/{request_id}"
        assert link in (await admin.get("/status")).text
        assert "Cancel the request of bob?" in (await admin.get(link)).text
        assert not call.done()
        assert (await admin.post(link, {"next": "/admin"})).location == "/admin?cancelled=yes"
        assert (await call)[0] == 410
    assert [(what, target) for _, what, target in await acts(gate)] == [("queue cancel", request_id)]


async def leave(gate: Gate, wire: Wire) -> None:
    """Resets a connection and waits until the gateway knows."""
    wire.reset()
    doors = gate.parts.connections
    assert doors is not None
    await gate.until(lambda: not doors.open)


async def test_whoever_leaves_a_form_has_sent_it(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does is done and noted, one after the other, and nothing passes for somebody else's."""
    assert gate.parts.key_store is not None
    edit, begun = gate.parts.key_store.edit, list[object]()

    async def begin(change: Callable[[KeyRing], KeyRing]) -> None:
        begun.append(change)
        await edit(change)

    monkeypatch.setattr(gate.parts.key_store, "edit", begin)
    ids = {record.name: record.id for record in gate.parts.ring.records}
    async with browser(gate.url) as admin:
        await admin.sign_in(gate.keys["root"])
        cookie = f"Cookie: gpushare_session={admin.cookie}"
    with gate.key_file._lock():  # noqa: SLF001 - somebody edits the file
        for number in (1, 2):
            path, kind = f"/admin/keys/{ids['bob']}/switch", "Content-Type: application/x-www-form-urlencoded"
            form = head("POST", path, cookie, "Sec-Fetch-Site: same-origin", kind, "Content-Length: 0")
            async with dial(gate.port) as wire:
                await wire.send(form)
                await gate.until(lambda: len(begun) == number)  # noqa: B023 - it is awaited here
                await leave(gate, wire)
    await gate.until(lambda: sum(line["event"] == "admin.acted" for line in gate.logs) == 2)
    assert await acts(gate) == [("root", "key disable", ids["bob"])] * 2


async def test_whoever_leaves_an_unload_has_sent_it(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is noted when it is done."""
    await know_models(gate)
    await gate.post("/api/chat", chat("loads"))
    await gate.parts.monitor.poll_resident()
    unload, asked, released = gate.parts.memory.unload, asyncio.Event(), asyncio.Event()

    async def unload_later(model: str) -> None:
        asked.set()
        await released.wait()
        await unload(model)

    monkeypatch.setattr(gate.parts.memory, "unload", unload_later)
    async with dial(gate.port) as wire:
        await wire.send(post(gate, "/gpushare/v1/models/unload", {"model": "m"}, who="root"))
        await asked.wait()
        await leave(gate, wire)
    released.set()
    await gate.until(lambda: any(line["event"] == "admin.acted" for line in gate.logs))
    await gate.until(lambda: gate.parts.monitor.view.loaded == ())
    assert await acts(gate) == [("root", "models unload", "m:latest")]


async def test_an_unload_that_the_end_overtakes_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its admin has left, the server closes down, and what is done meanwhile stands in the ledger."""
    asked, released = asyncio.Event(), asyncio.Event()
    async with gateway(tmp_path) as gate:
        await know_models(gate)
        await gate.post("/api/chat", chat("loads"))
        await gate.parts.monitor.poll_resident()
        unload = gate.parts.memory.unload

        async def unload_later(model: str) -> None:
            asked.set()
            await released.wait()
            await unload(model)

        async def release() -> None:
            await gate.until(lambda: gate.parts.closing)
            released.set()

        monkeypatch.setattr(gate.parts.memory, "unload", unload_later)
        async with dial(gate.port) as wire:
            await wire.send(post(gate, "/gpushare/v1/models/unload", {"model": "m"}, who="root"))
            await asked.wait()
            await leave(gate, wire)
        path, releasing = cast("Store", gate.parts.ledger).path, asyncio.create_task(release())
    await releasing
    with closing(open_reader(path)) as connection:
        assert list(connection.execute("SELECT what, target FROM actions")) == [("models unload", "m:latest")]
