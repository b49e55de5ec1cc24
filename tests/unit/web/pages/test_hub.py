"""Who is told what and when: the hub with connections made up for the test."""

import asyncio
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import cast

import aiohttp_jinja2
import msgspec
import pytest
from markupsafe import Markup

from gpushare.core.config import Status
from gpushare.core.errors import Overloaded
from gpushare.core.model import Principal
from gpushare.web.pages import hub
from gpushare.web.pages.hub import Viewer
from gpushare.web.pages.sections import RENDERER, Renderer, Section
from gpushare.web.transport import ResponseSink
from tests.unit.web.site import Site


@dataclass
class MadeUpSink:
    """A connection that remembers what was written; ``unread`` of it lies in our process."""

    written: list[bytes] = field(default_factory=list)
    unread: int = 0
    finished: bool = False
    aborted: bool = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def finish(self) -> None:
        self.finished = True

    def abort(self) -> None:
        self.aborted = True

    def backlog(self) -> int:
        return self.unread

    def news(self) -> list[str]:
        """Returns the ids of the parts written since the last call."""
        text = b"".join(self.written).decode()
        self.written.clear()
        return [event.split("data: ")[1].strip() for event in text.split("\n\n") if "event: part" in event]

    def said(self) -> list[str]:
        """Returns the sentences for screen readers written since the last call."""
        text = b"".join(self.written).decode()
        self.written.clear()
        metas = [event.split("data: ")[1] for event in text.split("\n\n") if "event: meta" in event]
        return [said for meta in metas if (said := json.loads(meta)["say"])]


def principal(site: Site, name: str) -> Principal:
    """Returns whose key a person's is."""
    who = site.parts.ring.principal(site.owners[name], datetime.now(UTC))
    assert who is not None
    return who


def join(site: Site, name: str = "", **options: object) -> tuple[MadeUpSink, Viewer]:
    """Adds a viewer of the status page."""
    sink = MadeUpSink()
    who = principal(site, name) if name else None
    given = {
        "view": "status",
        "rev": "",
        "by_session": False,
        "as_json": False,
        "address": "10.0.0.1",
        **options,
    }
    return sink, site.hub.join(cast("ResponseSink", sink), who=who, **given)  # type: ignore[arg-type]


def leave_only(site: Site, names: str) -> None:
    """Lets everybody else's calls leave the queue."""
    owners = {site.owners[name] for name in names.split()}
    waiting = tuple(row for row in site.queue.view.waiting if row.owner in owners)
    site.queue.view = replace(site.queue.view, waiting=waiting)


class CountedRenders(Renderer):
    """Remembers which sections are rendered."""

    names: list[str]

    def render(self, section: Section, content: object, now: datetime | None = None) -> Markup:
        self.names.append(section.name)
        return super().render(section, content, now)

    def taken(self) -> list[str]:
        """Returns the sections rendered since the last call."""
        names, self.names = self.names, []
        return names


@pytest.fixture
def renders(site: Site) -> CountedRenders:
    """The renderer of the site's hub, counted."""
    renderer = site.app[RENDERER]
    counted = CountedRenders(site.app[aiohttp_jinja2.APP_KEY])
    counted.names = []
    renderer.render = counted.render  # type: ignore[method-assign]
    return counted


async def test_nobody_watches_nothing_happens(site: Site, renders: CountedRenders) -> None:
    """Without viewers the server is not even looked at; the first wakes the hub, the last lets it rest."""
    looks = 0
    snapshot = site.queue.snapshot

    def counted() -> object:
        nonlocal looks
        looks += 1
        return snapshot()

    site.queue.snapshot = counted  # type: ignore[assignment, method-assign]
    task = asyncio.create_task(site.hub.run())
    try:
        for _ in range(10):
            await asyncio.sleep(0)
        assert (looks, renders.names) == (0, [])
        sink, viewer = join(site)
        async with asyncio.timeout(10):
            while not sink.written:
                await asyncio.sleep(0)
        site.hub.leave(viewer)
        seen = looks
        await asyncio.sleep(2 * hub.TICK_S)
        assert looks == seen
    finally:
        task.cancel()


async def test_what_is_alike_is_rendered_once(site: Site, renders: CountedRenders) -> None:
    """Twenty viewers of three kinds cost what three do; the card alone is each person's own."""
    leave_only(site, "")
    for name in ("", "alice", "carol"):
        for _ in range(7):
            join(site, name)
    await site.round()
    assert sorted(renders.taken()) == sorted(
        [*["notice"] * 3, *["head"] * 3, *["you"] * 3, *["queue"] * 3, "gpu", *["models"] * 3, *["day"] * 2]
    )
    leave_only(site, "")
    await site.round()
    assert renders.taken() == []


async def test_only_those_with_rows_have_their_own(site: Site, renders: CountedRenders) -> None:
    """A change of the queue is rendered once for each kind, and once more for each viewer who is in it."""
    for name in ("", "alice", "bob", "carol"):
        join(site, name)
    await site.round()
    renders.taken()
    site.queue.view = replace(site.queue.view, running=())
    await site.round()
    assert renders.taken().count("queue") == 4
    leave_only(site, "")
    await site.round()
    assert renders.taken().count("queue") == 3  # alice and bob see the same now


async def test_time_alone_changes_nothing(site: Site, renders: CountedRenders) -> None:
    """P38: two looks three seconds apart show the same: nothing is rendered and nothing sent."""
    sinks = [join(site, name)[0] for name in ("", "alice", "bob", "carol")]
    sinks += [join(site, "alice", view="me")[0], join(site, "carol", view="admin")[0]]
    await site.round()
    for sink in sinks:
        assert sink.news()
    renders.taken()
    await site.round(3.0)
    assert renders.taken() == []
    assert [sink.written for sink in sinks] == [[]] * 6


async def test_every_section_looks_as_often_as_it_says(site: Site) -> None:
    """P38: the queue is looked at every half second, the models every five, the day every fifteen."""
    sink, _ = join(site, "alice")
    await site.round()
    sink.news()
    site.parts.monitor.view = site.parts.monitor.view.changed(loaded=())
    await site.round(0.5)
    assert sink.news() == []
    await site.round(4.5)
    assert sink.news() == ["models"]


async def test_a_place_is_the_same_in_every_part(site: Site) -> None:
    """The card and "Why you wait" tell of one queue, so they are told together."""
    sink, _ = join(site, "alice", view="me")
    await site.round()
    sink.news()
    waiting = tuple(replace(row, position=row.position + 3) for row in site.queue.view.waiting)
    site.queue.view = replace(site.queue.view, waiting=waiting)
    await site.round(0.5)
    assert sink.news() == ["you", "why"]


async def test_a_living_stream_is_never_silent_for_long(site: Site) -> None:
    """A viewer hears something at least every ten seconds, and only then when nothing changes."""
    sink, _ = join(site)
    await site.round()
    sink.written.clear()
    await site.round(9.0)
    assert sink.written == []
    await site.round(1.0)
    assert len(sink.written) == 1
    assert b"event: meta" in sink.written[0]
    assert b"event: part" not in sink.written[0]


@pytest.mark.item(73)
async def test_a_slow_viewer_gets_the_newest_state(site: Site) -> None:
    """While what it was told lies unread nothing is added; then it is told what differs by then."""
    sink, _ = join(site)
    await site.round()
    sink.news()
    sink.unread = 4000
    leave_only(site, "alice")
    await site.round()
    leave_only(site, "")
    await site.round()
    assert sink.written == []
    sink.unread = 0
    await site.round()
    text = sink.written[0]
    assert sink.news() == ["head", "queue"]
    assert b"Nobody is waiting" in text


@pytest.mark.item(73)
async def test_a_viewer_that_never_reads_is_dropped(site: Site) -> None:
    """After 15 s without a byte taken; one that takes a little keeps its place."""
    stuck, gone = join(site)
    slow, stays = join(site)
    await site.round()
    stuck.unread, slow.unread = 9000, 9000
    for _ in range(16):
        slow.unread -= 100
        assert not stuck.aborted
        await site.round()
    assert (stuck.aborted, gone.ended.is_set()) == (True, True)
    assert (slow.aborted, stays.ended.is_set()) == (False, False)
    assert len(stuck.written) == 1


async def test_a_screen_reader_hears_own_changes(site: Site) -> None:
    """What changed for the viewer is a sentence; the queue of others is not, and not the first state."""
    alice, bob = (join(site, name)[0] for name in ("alice", "bob"))
    await site.round()
    assert alice.said() == []
    site.queue.view = replace(
        site.queue.view, waiting=tuple(replace(row, position=1) for row in site.queue.view.waiting[1:])
    )
    await site.round()
    assert alice.said() == ["You are now next in line."]
    assert bob.said() == []


async def test_a_screen_reader_is_not_flooded(site: Site) -> None:
    """Within ten seconds only the newest of several sentences is said, and once."""
    sink, _ = join(site, "alice")
    await site.round()
    said = []
    for place in (5, 4, 3, 2, 1):
        rows = tuple(replace(row, position=place) for row in site.queue.view.waiting[1:])
        site.queue.view = replace(site.queue.view, waiting=rows or site.queue.view.waiting)
        site.queue.view = replace(
            site.queue.view,
            waiting=tuple(replace(row, position=place) for row in site.queue.view.waiting[-1:]),
        )
        await site.round(2.0)
        said += sink.said()
    assert said == ["You are now fifth in line."]
    await site.round(2.0)
    assert sink.said() == ["You are now next in line."]
    await site.round(20.0)
    assert sink.said() == []


async def test_who_comes_back_is_not_flooded(site: Site) -> None:
    """A sentence may have been the last that was heard before; the next one waits, and is not lost."""
    sink, viewer = join(site, "alice")
    await site.round()
    site.hub.leave(viewer)
    sink, _ = join(site, "alice", rev=viewer.seat.rev)
    site.queue.view = replace(
        site.queue.view, waiting=tuple(replace(row, position=1) for row in site.queue.view.waiting[1:])
    )
    await site.round(9.0)
    assert sink.said() == []
    await site.round(1.0)
    assert sink.said() == ["You are now next in line."]


async def test_documents_are_sent_once_a_second(site: Site) -> None:
    """Scripts get the whole document when it changed, at most once a second, else every ten seconds."""
    sink, _ = join(site, "alice", as_json=True)
    await site.round()
    assert len(sink.written) == 1
    await site.round(0.5)
    assert len(sink.written) == 1
    await site.round(0.5)
    assert len(sink.written) == 2  # the time left has become less
    site.queue.view = replace(site.queue.view, running=(), waiting=())
    await site.round()
    sink.written.clear()
    for _ in range(9):
        await site.round()
    assert sink.written == []
    await site.round()
    assert len(sink.written) == 1


@pytest.mark.item(72)
async def test_places_are_limited(site: Site) -> None:
    """Both limits refuse, and a viewer who leaves makes room, however often it is said to leave."""
    site.parts.config = msgspec.structs.replace(
        site.parts.config, status=Status(max_viewers=3, max_viewers_per_address=2)
    )
    _, first = join(site)
    join(site)
    with pytest.raises(Overloaded):
        site.hub.check_room("10.0.0.1")
    site.hub.check_room("10.0.0.2")
    join(site, address="10.0.0.2")
    with pytest.raises(Overloaded):
        site.hub.check_room("10.0.0.3")
    site.hub.leave(first)
    site.hub.leave(first)
    site.hub.check_room("10.0.0.1")
    join(site)
    with pytest.raises(Overloaded):
        site.hub.check_room("10.0.0.3")


async def test_another_role_is_another_viewer(site: Site) -> None:
    """Somebody who is no admin any more is sent away at once, and comes back as a person."""
    sink, viewer = join(site, "carol")
    await site.round()
    site.parts.ring = site.parts.ring.changed([site.owners["carol"]], role="person")
    sink.written.clear()
    await site.round()
    assert b"signed-out" in b"".join(sink.written)
    assert (sink.finished, viewer.ended.is_set()) == (True, True)


async def test_a_key_that_runs_out_ends_its_streams(site: Site) -> None:
    """The clock ends a key as well as the file does."""
    sink, viewer = join(site, "alice")
    soon = datetime.now(UTC) + timedelta(milliseconds=50)
    site.parts.ring = site.parts.ring.changed([site.owners["alice"]], expires=soon)
    async with asyncio.timeout(10):
        while not viewer.ended.is_set():
            await site.round(0.5)
            await asyncio.sleep(0.01)
    assert b"signed-out" in b"".join(sink.written)
    assert datetime.now(UTC) >= soon


async def test_signing_out_ends_the_streams_of_the_sessions(site: Site) -> None:
    """Those of browsers that were signed in; a program that sends the key itself goes on."""
    sessions = [join(site, "alice", by_session=True)[0] for _ in range(2)]
    program, _ = join(site, "alice")
    await site.round()
    site.parts.ring = site.parts.ring.changed([site.owners["alice"]], sign_outs=1)
    again, _ = join(site, "alice", by_session=True)
    await site.round()
    assert [b"signed-out" in b"".join(sink.written) for sink in (*sessions, program, again)] == [1, 1, 0, 0]
    assert [sink.finished for sink in (*sessions, program, again)] == [True, True, False, False]


async def test_another_secret_ends_the_streams(site: Site) -> None:
    """A link that is opened makes a new secret under the old id: what was shown before is void."""
    streams = [join(site, "alice", **options)[0] for options in ({"by_session": True}, {})]
    await site.round()
    site.parts.ring = site.parts.ring.changed([site.owners["alice"]], sha256="0" * 64)
    await site.round()
    assert [sink.finished for sink in streams] == [True, True]


async def test_a_server_that_closes_sends_strangers_away(site: Site) -> None:
    """The setting holds for streams that are open when it changes."""
    sink, _ = join(site)
    known, _ = join(site, "alice")
    await site.round()
    site.parts.config = msgspec.structs.replace(site.parts.config, status=Status(anonymous="off"))
    await site.round()
    assert (sink.finished, known.finished) == (True, False)


async def test_a_seat_is_remembered_for_a_minute(site: Site) -> None:
    """Who comes back later than that, or after a change of what is shown, gets everything that may be new."""
    sink, viewer = join(site, "alice")
    await site.round()
    rev = b"".join(sink.written).split(b"id: ")[1].split(b"\n")[0].decode()
    site.hub.leave(viewer)
    join(site)  # somebody else keeps the hub going
    await site.round(30.0)
    back, viewer = join(site, "alice", rev=rev)
    await site.round()
    assert back.news() == []
    site.hub.leave(viewer)
    await site.round(61.0)
    await site.round()
    late, _ = join(site, "alice", rev=rev)
    await site.round()
    assert "queue" in late.news()


async def test_one_bad_round_ends_no_stream(site: Site) -> None:
    """A failure is logged, and the next round goes on."""
    sink, _ = join(site)
    good = site.queue.snapshot
    failures = [ValueError()]

    def bad() -> object:
        if failures:
            raise failures.pop()
        return good()

    site.queue.snapshot = bad  # type: ignore[assignment, method-assign]
    task = asyncio.create_task(site.hub.run())
    try:
        async with asyncio.timeout(10):
            while not sink.written:
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
    assert failures == []
