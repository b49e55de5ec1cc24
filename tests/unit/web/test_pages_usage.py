"""``/gpushare/v1/usage``: people see their own, an admin all."""

import csv
import io
import json
import time
from typing import Any, cast

import pytest
from msgspec.structs import replace

from gpushare.edge.store import Store
from tests.unit.records import CALL
from tests.unit.web.site import Site

PATH = "/gpushare/v1/usage"


@pytest.fixture
async def used(site: Site) -> Site:
    """A site whose people have asked: alice twice, bob once, with a model of a hostile name."""
    store = cast("Store", site.parts.ledger)
    for number, (who, slot_s, tool) in enumerate(
        [("alice", 1, "curl"), ("alice", 2, "zed"), ("bob", 9, "=1+1")]
    ):
        record = replace(
            CALL,
            request_id=f"r_{number}",
            person=who,
            owner=site.owners[who],
            key_id=site.owners[who],
            slot_s=float(slot_s),
            tool=tool,
            ended_at=time.time(),
        )
        store.append(record)
    await store.flush()
    return site


async def rows(site: Site, query: str, who: str) -> list[tuple[str, int, float]]:
    """Returns names, counts and slot-seconds of a report."""
    status, headers, text = await site.get(f"{PATH}{query}", who)
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert headers["Cache-Control"] == "no-store"
    found: dict[str, Any] = json.loads(text)
    assert found["schema"] == "gpushare.usage/1"
    return [(row["name"], row["requests"], row["slot_s"]) for row in found["rows"]]


async def test_people_see_their_own_and_an_admin_all(used: Site) -> None:
    """Whatever they are told apart by."""
    assert await rows(used, "", "alice") == [("alice", 2, 3.0)]
    assert await rows(used, "", "bob") == [("bob", 1, 9.0)]
    assert await rows(used, "", "carol") == [("bob", 1, 9.0), ("alice", 2, 3.0)]
    assert await rows(used, "?of=me", "carol") == []
    assert await rows(used, "?of=me", "alice") == [("alice", 2, 3.0)]
    assert await rows(used, "?by=tool", "alice") == [("zed", 1, 2.0), ("curl", 1, 1.0)]
    assert await rows(used, "?by=model", "carol") == [("qwen3:8b", 3, 12.0)]


async def test_a_report_begins_where_it_is_told(used: Site) -> None:
    """A day ago unless something else is asked for."""
    store = cast("Store", used.parts.ledger)
    store.append(
        replace(CALL, request_id="r_old", owner=used.owners["alice"], ended_at=time.time() - 2 * 86_400)
    )
    await store.flush()
    assert (await rows(used, "?by=model", "alice"))[0][1] == 2
    assert (await rows(used, "?by=model&since=3d", "alice"))[0][1] == 3
    assert (await rows(used, "?by=model&since=2001-01-01", "alice"))[0][1] == 3


async def test_a_spreadsheet_gets_no_formula(used: Site) -> None:
    """P34: a table to keep, with every name inert."""
    status, headers, text = await used.get(f"{PATH}?by=tool&format=csv", "carol")
    assert (status, headers["Content-Type"]) == (200, "text/csv; charset=utf-8")
    assert headers["Content-Disposition"].startswith('attachment; filename="gpushare-usage-by-tool-20')
    table = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[0] for row in table] == ["tool", "'=1+1", "zed", "curl"]


@pytest.mark.parametrize("query", ["?by=key", "?since=soon", "?format=xml", "?by="])
async def test_a_question_that_is_none_is_400(used: Site, query: str) -> None:
    """With what can be asked."""
    status, _, text = await used.get(f"{PATH}{query}", "alice")
    error = json.loads(text)["error"]
    assert (status, error["code"]) == (400, "bad_query")
    assert " or " in error["message"]


async def test_usage_needs_a_key(used: Site) -> None:
    """Nobody learns it without one."""
    status, _, text = await used.get(PATH)
    assert (status, json.loads(text)["error"]["code"]) == (401, "key_missing")


async def test_a_ledger_that_cannot_be_read_is_503(used: Site) -> None:
    """With a time to come back."""
    store = cast("Store", used.parts.ledger)
    kept = store.path.rename(store.path.with_name("kept.db"))
    store.path.mkdir()
    status, headers, text = await used.get(PATH, "alice")
    assert (status, json.loads(text)["error"]["code"]) == (503, "ledger_unavailable")
    assert headers["Retry-After"] == "5"
    store.path.rmdir()
    kept.rename(store.path)
