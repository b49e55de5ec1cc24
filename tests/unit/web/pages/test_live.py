"""The live stream over a real socket."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gpushare.core.document import Document
from gpushare.web.sessions import COOKIE
from tests.unit.web.site import KEYS, PEOPLE, Site, Stream, text_of


async def opened(site: Site, stream: Stream) -> tuple[dict[str, str], dict[str, object]]:
    """Returns what a viewer is told first."""
    assert (await stream.event())[0] == ""  # retry
    await site.round()
    return await stream.update()


async def test_a_stream_begins_with_everything(site: Site) -> None:
    """The first round tells all parts of the page, then what concerns the page itself."""
    async with site.watch("?view=status", "alice") as stream:
        headers = stream.answer.headers
        assert (stream.answer.status, headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
        assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store", "no")
        assert "Content-Encoding" not in headers
        assert headers["X-Gpushare-Request"] == headers["X-Request-Id"]
        parts, meta = await opened(site, stream)
    assert list(parts) == ["notice", "head", "you", "queue", "gpu", "models", "day"]
    assert text_of(parts["you"]).startswith("You, alice 2nd in line,")
    assert set(meta) == {"now", "rev", "build", "title", "icon", "say"}
    assert (meta["title"], meta["say"]) == (f"(you: 2) Busy · gpushare on {site.parts.host}", None)


async def test_the_browser_comes_back_spread_out(site: Site) -> None:
    """``retry`` comes at once and lies between 2.5 s and 4 s, so that not everybody returns together."""
    async with site.watch() as stream, asyncio.timeout(10):
        line = await stream.answer.content.readline()
    name, _, value = line.decode().partition(": ")
    assert name == "retry"
    assert 2500 <= int(value) < 4000


async def test_only_what_changed_is_told(site: Site) -> None:
    """After the first round nothing comes until something happens; then only the parts that show it."""
    async with site.watch("", "bob") as stream:
        await opened(site, stream)
        for _ in range(3):
            await site.round()
        site.queue.view = replace(site.queue.view, waiting=site.queue.view.waiting[:1])
        await site.round()
        parts, meta = await stream.update()
    assert list(parts) == ["head", "queue"]
    assert "alice" not in parts["queue"]
    assert meta["title"] == f"(1) Busy · gpushare on {site.parts.host}"


async def test_ids_count_within_the_process(site: Site) -> None:
    """Every event has the id that its ``meta`` gives as ``rev``; it grows with the next change."""
    async with site.watch() as stream:
        await stream.event()
        await site.round()
        ids = []
        while (event := await stream.event())[0] != "meta":
            ids.append(event[2])
        site.queue.view = replace(site.queue.view, waiting=())
        await site.round()
        _, meta = await stream.update()
    assert {*ids, json.loads(event[1])["rev"]} == {event[2]}
    start, number = event[2].rsplit("-", 1)
    assert meta["rev"].rsplit("-", 1)[0] == start
    assert int(meta["rev"].rsplit("-", 1)[1]) > int(number)


@pytest.mark.parametrize("how", ["query", "header"])
async def test_who_comes_back_is_told_what_changed(site: Site, how: str) -> None:
    """The last ``rev``, from the page or from the browser itself, leaves out what is known."""
    async with site.watch("", "bob") as stream:
        _, meta = await opened(site, stream)
    rev = str(meta["rev"])
    site.queue.view = replace(site.queue.view, waiting=site.queue.view.waiting[:1])
    query, headers = (f"?rev={rev}", {}) if how == "query" else ("", {"Last-Event-ID": rev})
    async with site.watch(query, "bob", **headers) as stream:
        parts, _ = await opened(site, stream)
    assert list(parts) == ["head", "queue"]


async def test_what_a_browser_heard_last_counts(site: Site) -> None:
    """A browser that tries again by itself asks for the old address, and sends what it has heard since."""
    async with site.watch("", "bob") as stream:
        _, meta = await opened(site, stream)
        site.queue.view = replace(site.queue.view, waiting=())
        await site.round()
        _, later = await stream.update()
    headers = {"Last-Event-ID": str(later["rev"])}
    async with site.watch(f"?rev={meta['rev']}", "bob", **headers) as stream:
        parts, _ = await opened(site, stream)
    assert parts == {}


async def test_what_another_viewer_knows_counts_for_nobody_else(site: Site) -> None:
    """A page that lost its session and comes back without it gets everything a stranger sees."""
    async with site.watch() as first, site.watch("", "alice") as second, site.watch("", "bob") as stream:
        _, meta = await opened(site, stream)
        await first.update()
        await second.update()
    for who in ("", "alice"):
        async with site.watch(f"?rev={meta['rev']}", who) as stream:
            parts, _ = await opened(site, stream)
        assert "queue" in parts


@pytest.mark.item(74)
@pytest.mark.parametrize("rev", ["b000000-7", "x" * 3000, "1-2-3", "-1", "é-1"])
async def test_a_strange_rev_is_ignored(site: Site, rev: str) -> None:
    """Another process's id, and one that is none, get everything."""
    async with site.watch(f"?rev={rev}") as stream:
        parts, _ = await opened(site, stream)
    assert "queue" in parts


async def test_the_script_is_told_instants(site: Site) -> None:
    """What the page counts on is empty in the stream: its time is in an attribute."""
    async with site.watch() as stream:
        parts, _ = await opened(site, stream)
    assert '<span data-since="' in parts["queue"]
    assert " s</span>" not in parts["queue"]


async def test_json_is_the_whole_document(site: Site) -> None:
    """``format=json`` sends the status document, and again only when it changed and a second has passed."""
    async with site.watch("?format=json", "alice") as stream:
        await stream.event()
        await site.round()
        name, data, rev = await stream.event()
        assert name == "state"
        assert rev
        assert json.loads(data)["schema"] == "gpushare.status/1"
        assert json.loads(data).keys() >= {field for field in Document.__struct_fields__ if field != "gpus"}
        assert [row["who"] for row in json.loads(data)["waiting"]] == ["carol", "alice"]


@pytest.mark.parametrize(
    ("query", "who", "status", "code"),
    [
        ("?view=none", "", 400, "bad_query"),
        ("?view=me", "", 401, "key_missing"),
        ("?view=admin", "", 401, "key_missing"),
        ("?view=admin", "alice", 403, "not_admin"),
    ],
)
async def test_a_view_needs_what_its_page_needs(
    site: Site, query: str, who: str, status: int, code: str
) -> None:
    """The stream of a page is for those who may see the page."""
    async with site.watch(query, who) as stream:
        assert stream.answer.status == status
        assert (await stream.answer.json())["error"]["code"] == code


async def test_other_pages_have_their_parts(site: Site) -> None:
    """The stream tells what the page it is for has room for."""
    for query, who, names in (
        ("?view=me", "alice", ["notice", "you", "calls", "why"]),
        ("?view=admin", "carol", ["notice", "head", "controls", "queue", "health"]),
    ):
        async with site.watch(query, who) as stream:
            parts, meta = await opened(site, stream)
        assert list(parts) == names
        assert "title" not in meta


async def test_a_closed_server_streams_nothing(closed_site: Site) -> None:
    """With ``status.anonymous = "off"`` the stream asks for a key, as the page does."""
    async with closed_site.watch() as stream:
        assert stream.answer.status == 401
    async with closed_site.watch("", "alice") as stream:
        assert stream.answer.status == 200


@pytest.mark.item(31)
async def test_foreign_pages_may_not_watch(site: Site) -> None:
    """A page of another site gets no data from its visitor's browser."""
    async with site.watch("", "", **{"Sec-Fetch-Site": "cross-site"}) as stream:
        assert stream.answer.status == 403


async def test_head_says_what_get_would(site: Site) -> None:
    """HEAD ends at once and takes no place."""
    async with site.client.head("/events") as answer:
        assert (answer.status, answer.headers["X-Accel-Buffering"]) == (200, "no")


async def test_a_withdrawn_key_ends_its_streams(site: Site) -> None:
    """Who may not look any more is told so in the next round; everybody else stays."""
    async with site.watch("", "alice") as stream, site.watch("", "bob") as other:
        await opened(site, stream)
        await other.update()
        record = next(record for record in site.parts.ring.records if record.name == "alice")
        site.parts.ring = site.parts.ring.changed([record.id], revoked=datetime.now(UTC))
        site.queue.view = replace(site.queue.view, waiting=())
        await site.round()
        name, data, _ = await stream.event()
        assert (name, json.loads(data)["why"]) == ("bye", "signed-out")
        with pytest.raises(EOFError):
            await stream.event()
        assert "queue" in (await other.update())[0]


async def test_a_stream_ends_with_its_session(site: Site) -> None:
    """An open stream does not outlive the days that a sign-in lasts."""
    record = next(record for record in site.parts.ring.records if record.name == "alice")
    cookie = site.parts.sessions.issue(record, datetime.now(UTC) + timedelta(seconds=1.5))
    async with site.watch("", "", Cookie=f"{COOKIE}={cookie}") as stream, site.watch() as other:
        await opened(site, stream)
        await other.update()
        name, data, _ = await stream.event()
        assert (name, json.loads(data)["why"]) == ("bye", "signed-out")
        with pytest.raises(EOFError):
            await stream.event()
        site.queue.view = replace(site.queue.view, waiting=())
        await site.round()
        assert "queue" in (await other.update())[0]


async def test_a_restart_says_goodbye(site: Site) -> None:
    """Before the server closes down every viewer hears when to come back, and nobody may come any more."""
    async with site.watch() as stream, site.watch("", "alice") as other:
        await opened(site, stream)
        site.hub.close()
        for each in (stream, other):
            while (event := await each.event())[0] != "bye":
                assert event[0] in ("", "part", "meta")
            assert json.loads(event[1])["why"] == "restart"
            assert 2 <= json.loads(event[1])["wait"] <= 5
            with pytest.raises(EOFError):
                await each.event()
        async with site.watch() as late:
            assert (late.answer.status, (await late.answer.json())["error"]["code"]) == (503, "draining")


@pytest.mark.item(72)
async def test_one_address_has_ten_places(site: Site) -> None:
    """The eleventh viewer of an address is refused with a time to come back; the others go on."""
    streams = [site.watch() for _ in range(10)]
    opened_ones = [await stream.__aenter__() for stream in streams]
    async with site.watch() as late:
        assert late.answer.status == 503
        assert 1 <= int(late.answer.headers["Retry-After"]) <= 30
        assert (await late.answer.json())["error"]["code"] == "overloaded"
    async with site.watch("", "", **{"X-Forwarded-For": "10.1.2.3"}) as elsewhere:
        assert elsewhere.answer.status == 200
    await opened(site, opened_ones[0])
    await streams[0].__aexit__(None, None, None)
    async with asyncio.timeout(10):
        while True:  # the server notices the free place when it reads the end of the connection
            async with site.watch() as again:
                if again.answer.status == 200:
                    break
    for stream in streams[1:]:
        await stream.__aexit__(None, None, None)


async def test_no_line_can_be_added_to_an_event(site: Site) -> None:
    """A model's name with line ends in it stays within the data of its part."""
    row = replace(site.queue.view.running[0], model="a\r\rb\n\nevent: bye\rdata: x")
    site.queue.view = replace(site.queue.view, running=(row,))
    async with site.watch() as stream:
        parts, _ = await opened(site, stream)
    assert "a b event: bye data: x" in parts["queue"]


@pytest.mark.parametrize("who", ["", *PEOPLE])
async def test_a_key_is_never_shown(site: Site, who: str) -> None:
    """No part of any key leaves with the stream."""
    async with site.watch("", who) as stream:
        parts, meta = await opened(site, stream)
    text = json.dumps([parts, meta])
    assert not [key for key in KEYS.values() if key.rpartition("_")[2] in text]
