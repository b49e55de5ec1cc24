"""The admins' page over a real socket: who sees it, what it does, and what it tells before and after."""

import asyncio

import pytest

from gpushare.core.doctor import Report, report
from gpushare.core.doctor.base import ok, warn
from gpushare.core.errors import LedgerUnavailable
from gpushare.engine.examiner import Examiner
from tests.unit.web.browser import Browser, browser
from tests.unit.web.pages.test_controls import actions
from tests.unit.web.site import HOSTILE, KEYS, Site, tags, text_of

PAGES = ("/admin", "/admin/keys/new", "/admin/keys/{id}", "/admin/keys/{id}/revoke", "/cancel/r_1")
FORMS = (
    *("/admin/queue/pause", "/admin/queue/resume", "/admin/queue/drain", "/admin/unload"),
    *("/cancel/r_1", "/admin/keys/new", "/admin/keys/{id}", "/admin/keys/{id}/switch"),
    *("/admin/keys/{id}/rotate", "/admin/keys/{id}/revoke"),
)


def forms(page: str) -> list[str]:
    """Returns where the forms of a page lead to."""
    return [str(attrs.get("action")) for tag, attrs in tags(page) if tag == "form"]


async def signed_in(visitor: Browser, name: str = "carol") -> Browser:
    """Returns a browser that somebody has signed in."""
    await visitor.sign_in(KEYS[name])
    return visitor


@pytest.mark.parametrize("path", PAGES)
async def test_persons_do_not_see_it(site: Site, path: str) -> None:
    """403 and a sentence, with nothing of it; who is not signed in is led to the sign-in."""
    path = path.format(id=site.owners["bob"])
    async with browser(site.url) as visitor:
        shown = await visitor.get(path)
        assert (shown.status, shown.location) == (303, "/login?next=/admin")
        await signed_in(visitor, "alice")
        shown = await visitor.get(path)
        assert (shown.status, "This page is for admins of this server" in shown.text) == (403, True)
        assert "bob" not in shown.text
        assert '"/admin"' not in (await visitor.get("/status")).text


@pytest.mark.parametrize("path", FORMS)
async def test_persons_send_nothing(site: Site, path: str) -> None:
    """No form does anything for a person, for nobody, or from another page; nothing is noted."""
    path, before = path.format(id=site.owners["bob"]), site.parts.ring
    async with browser(site.url) as visitor:
        assert (await visitor.post(path, {"name": "erin"})).location == "/login?next=/admin"
        await signed_in(visitor, "alice")
        assert (await visitor.post(path, {"name": "erin"})).status == 403
        await signed_in(visitor)
        assert (await visitor.post(path, {"name": "erin"}, Origin="https://evil.example")).status == 403
    assert (site.parts.ring, site.queue.paused, site.queue.draining) == (before, False, False)
    assert await actions(site) == []


async def test_it_says_beforehand_what_each_control_does(site: Site) -> None:
    """To whom, and with which command; a name from Ollama stays text, on the page and in a shell."""
    loaded = site.parts.monitor.view.loaded[0]
    evil = type(loaded)(name=f"{HOSTILE}; id", size_bytes=1, vram_bytes=1, context=None, expires=None)
    site.parts.monitor.view = site.parts.monitor.view.changed(loaded=(loaded, evil))
    _, _, page = await site.get("/admin", "carol")
    seen = text_of(page)
    assert "2 people are waiting; they keep waiting. 1 request is running and will finish." in seen
    assert "In a terminal: gpushare queue drain" in seen
    assert "1 request is running on qwen3-coder:30b and will finish first." in seen
    assert f"gpushare models unload '{HOSTILE}; id'" in seen
    assert "img" not in {tag for tag, _ in tags(page)}
    assert [where for where in forms(page) if where.startswith("/admin")] == [
        *("/admin/queue/pause", "/admin/queue/drain", "/admin/unload", "/admin/unload")
    ]


async def test_the_controls_act(site: Site) -> None:
    """Each leads back to the page, which says what was done and offers the way back."""
    async with browser(site.url) as visitor:
        admin = await signed_in(visitor)
        for what, said in (("pause", "The queue is paused."), ("drain", "The queue is drained")):
            shown = await admin.post(f"/admin/queue/{what}")
            assert (shown.status, shown.location) == (303, f"/admin?done={what}")
            page = (await admin.get(shown.location)).text
            assert said in page
            assert "/admin/queue/resume" in forms(page)
            assert f"/admin/queue/{what}" not in forms(page)
        await admin.post("/admin/queue/resume")
        assert (site.queue.paused, site.queue.draining) == (False, False)
        assert (await admin.post("/admin/queue/close")).status == 404
        away = await admin.post("/admin/unload", {"model": "qwen3-coder:30b"})
        assert (away.status, "Not done" in away.text) == (502, True)
        assert [act.what for act in await actions(site)] == ["queue resume", "queue drain", "queue pause"]
        page = text_of((await admin.get("/admin")).text)
    assert page.index("carol queue resume") < page.index("carol queue pause")


async def test_keys_are_listed(site: Site) -> None:
    """Each once, with a way to change it; those that have ended on request."""
    bob = site.owners["bob"]
    _, _, page = await site.get("/admin", "carol")
    assert [f"/admin/keys/{owner}" in page for owner in site.owners.values()] == [True] * 3
    assert "never used" in page
    site.parts.ring = site.parts.ring.changed([bob], revoked=site.parts.started_at)
    _, _, page = await site.get("/admin", "carol")
    assert f"/admin/keys/{bob}" not in page
    assert ("a", {"href": "/admin?all#keys"}) in tags(page)
    _, _, page = await site.get("/admin?all", "carol")
    assert f"/admin/keys/{bob}" in page
    assert "revoked" in page


async def test_a_ledger_that_cannot_be_read_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else of the page is there."""

    async def refuse(*_args: object, **_options: object) -> None:
        raise LedgerUnavailable

    for read in ("key_uses", "day_loads"):
        monkeypatch.setattr(site.parts.ledger, read, refuse)
    status, _, page = await site.get("/admin", "carol")
    assert (status, "The usage ledger cannot be read now" in page) == (200, True)
    assert "never used" not in page
    assert "Not known while the ledger cannot be read." in page


async def test_capacity_is_told(site: Site) -> None:
    """Honestly where there is not enough to judge by."""
    seen = text_of((await site.get("/admin", "carol"))[2])
    assert "There is not enough data yet: no request this week." in seen


async def test_health_is_what_doctor_finds(site: Site) -> None:
    """Not there at first; then by itself on a page that lives, and at once on the next; with its remedies."""
    found = report([ok("clock", "kept right by NTP"), warn("slots", "2 of 1", "set slots = 1")])

    async def examine() -> Report:
        return found

    examiner = site.parts.examiner = Examiner(examine, site.parts.monotonic)
    assert "Health It is being found out." in text_of((await site.get("/admin", "carol"))[2])
    async with site.watch("?view=admin", "carol") as stream:
        await stream.event()
        await site.round()
        await stream.update()
        running = asyncio.create_task(examiner.run())
        while examiner.report is None:
            await asyncio.sleep(0)
        await site.round(3.0)
        parts, _ = await stream.update()
        assert "kept right by NTP" in parts["health"]
    running.cancel()
    seen = text_of((await site.get("/admin", "carol"))[2])
    assert "Health 1 warning, as gpushare doctor found 3 s ago" in seen
    assert "clock ok kept right by NTP slots warn 2 of 1 fix: set slots = 1" in seen


async def test_admins_may_end_any_call(site: Site) -> None:
    """Each row leads to a question, which says whose it is; nobody else has such links."""
    site.go_live()
    async with browser(site.url) as visitor:
        admin = await signed_in(visitor)
        page = (await admin.get("/status")).text
        assert {f"/cancel/r_{n}" for n in (1, 2, 3)} <= {attrs.get("href") for _, attrs in tags(page)}
        asked = await admin.get("/cancel/r_1", Referer=f"{site.url}/admin")
        assert "Cancel the request of bob?" in asked.text
        assert ("input", {"type": "hidden", "name": "next", "value": "/admin"}) in tags(asked.text)
        gone = await admin.get("/cancel/r_9")
        assert (gone.status, gone.location) == (303, "/status?cancelled=no")
        gone = await admin.post("/cancel/r_9", {"next": "https://evil.example"})
        assert gone.location == "/status?cancelled=no"
    _, _, page = await site.get("/status", "alice")
    assert 'href="/cancel' not in page


async def test_the_page_is_live(site: Site) -> None:
    """The controls follow the queue."""
    async with site.watch("?view=admin", "carol") as stream:
        await stream.event()
        await site.round()
        parts, _ = await stream.update()
        assert "/admin/queue/resume" not in parts["controls"]
        site.queue.pause()
        await site.round()
        parts, _ = await stream.update()
        assert "/admin/queue/resume" in parts["controls"]
