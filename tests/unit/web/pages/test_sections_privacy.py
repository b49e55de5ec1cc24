"""Who may see what, in the page, in the stream and in the document: one table for all three."""

import json
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace

import msgspec
import pytest

from gpushare.core.config import Status
from tests.unit import records
from tests.unit.web.pages.test_live import opened
from tests.unit.web.site import PEOPLE, Site


async def of_page(site: Site, who: str) -> str:
    """Returns the page's HTML."""
    return (await site.get("/status", who))[2]


async def of_document(site: Site, who: str) -> str:
    """Returns the document's JSON."""
    return (await site.get("/gpushare/v1/status", who))[2]


async def of_stream(site: Site, who: str) -> str:
    """Returns all that the stream says."""
    async with site.watch("", who) as stream:
        return json.dumps(await opened(site, stream), ensure_ascii=False)


async def of_json_stream(site: Site, who: str) -> str:
    """Returns what the stream for scripts says."""
    async with site.watch("?format=json", who) as stream:
        await stream.event()
        await site.round()
        return (await stream.event())[1]


Reader = Callable[[Site, str], Awaitable[str]]
READERS: Iterable[Reader] = (of_page, of_document, of_stream, of_json_stream)


@pytest.fixture
def busy(site: Site) -> Site:
    """A site where each call came from a tool named after its person, and the last day had everybody."""
    site.go_live()
    for name in PEOPLE:
        owner = site.owners.get(name, name)
        done = msgspec.structs.replace(records.CALL, owner=owner, person=name, ended_at=time.time())
        site.parts.stats.record(done)
    return site


@pytest.fixture
def alone(busy: Site) -> Site:
    """The same without a call of alice's."""
    others = tuple(row for row in busy.queue.view.waiting if row.owner != busy.owners["alice"])
    busy.queue.view = replace(busy.queue.view, waiting=others)
    return busy


TOKENS = ("1204", "1\u202f204")


@pytest.mark.parametrize("read", READERS)
async def test_without_a_key_nobody_is_named(busy: Site, read: Reader) -> None:
    """Counts, models and times, and no name, tool, token count or key id of anybody."""
    text = await read(busy, "")
    assert "qwen3-coder:30b" in text
    hidden = [*PEOPLE, *busy.owners.values(), "tool-of", *TOKENS, "Last 24 hours"]
    assert [word for word in hidden if word in text] == []


@pytest.mark.parametrize("read", READERS)
async def test_a_person_sees_names_and_own_details(busy: Site, read: Reader) -> None:
    """Names of others, and of their own calls the tool; nobody else's tools and tokens."""
    text = await read(busy, "alice")
    assert all(name in text for name in PEOPLE)
    assert "tool-of-alice" in text
    assert [word for word in ("tool-of-bob", "tool-of-carol", *TOKENS) if word in text] == []


@pytest.mark.parametrize("read", READERS)
async def test_another_person_sees_other_details(busy: Site, read: Reader) -> None:
    """The tokens of the running call are for the one whose call it is."""
    text = await read(busy, "bob")
    assert "tool-of-bob" in text
    assert any(word in text for word in TOKENS)
    assert [word for word in ("tool-of-alice", "tool-of-carol") if word in text] == []


@pytest.mark.parametrize("read", READERS)
async def test_a_person_without_calls_sees_no_details(alone: Site, read: Reader) -> None:
    """Whoever waits for nothing sees the names alone."""
    text = await read(alone, "alice")
    assert "bob" in text
    assert [word for word in ("tool-of", *TOKENS) if word in text] == []


@pytest.mark.parametrize("read", READERS)
async def test_an_admin_sees_everything(busy: Site, read: Reader) -> None:
    """Every name, every token count, and every tool."""
    text = await read(busy, "carol")
    assert all(name in text for name in PEOPLE)
    assert any(word in text for word in TOKENS)
    assert all(f"tool-of-{name}" in text for name in PEOPLE)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("people", ["initials", "hidden"])
async def test_people_may_be_hidden_from_one_another(busy: Site, read: Reader, people: str) -> None:
    """``status.people`` holds everywhere; one's own name stays, and an admin sees all."""
    busy.parts.config = msgspec.structs.replace(
        busy.parts.config, status=msgspec.convert({"people": people}, Status)
    )
    text = await read(busy, "alice")
    assert "alice" in text
    assert ("bob" in text, "carol" in text) == (False, False)
    assert ("B." in text) == (people == "initials")
    assert "bob" in await read(busy, "carol")


async def test_viewers_beside_each_other_see_their_own(busy: Site) -> None:
    """In one round, each of four viewers gets what the table gives them, and only that."""
    async with AsyncExitStack() as stack:
        streams = {
            who: await stack.enter_async_context(busy.watch("", who)) for who in ("", "alice", "bob", "carol")
        }
        for stream in streams.values():
            await stream.event()
        await busy.round()
        parts = {who: (await stream.update())[0] for who, stream in streams.items()}
    assert [who for who in parts if "alice (you)" in parts[who]["queue"]] == ["alice"]
    assert [who for who in parts if "bob (you)" in parts[who]["queue"]] == ["bob"]
    assert [who for who in parts if "carol (you)" in parts[who]["queue"]] == ["carol"]
    assert [who for who in parts if "somebody" in parts[who]["queue"]] == [""]
    assert [who for who in parts if "1\u202f204 tokens" in parts[who]["queue"]] == ["bob", "carol"]
    assert [who for who in parts if "bob (you)" in parts[who].get("day", "")] == ["bob"]
    assert "day" not in parts[""]
