"""The JSON of the controls over a real socket: who may, and what is noted."""

import json
from typing import Any, cast

import pytest

from gpushare.core.ledger import Action
from gpushare.edge.store import Store
from tests.unit.web.browser import browser
from tests.unit.web.site import HOSTILE, KEYS, Site

CONTROLS = ("/gpushare/v1/queue/pause", "/gpushare/v1/queue/drain", "/gpushare/v1/queue/resume")
UNLOAD = "/gpushare/v1/models/unload"


async def post(site: Site, path: str, who: str, body: Any = None) -> tuple[int, Any]:
    """Sends JSON and returns status and answer."""
    headers = {"Authorization": f"Bearer {KEYS[who]}"} if who else {}
    async with site.client.post(path, headers=headers, data=json.dumps(body)) as answer:
        return answer.status, await answer.json()


async def actions(site: Site) -> list[Action]:
    """Returns what the ledger holds of the admins' acts."""
    store = cast("Store", site.parts.ledger)
    await store.flush()
    return await store.actions(100)


@pytest.mark.parametrize("path", [*CONTROLS, UNLOAD])
async def test_admins_alone(site: Site, path: str) -> None:
    """Neither a person nor somebody without a key; a session is no key, and nothing is noted."""
    assert (await post(site, path, ""))[0] == 401
    status, refusal = await post(site, path, "alice")
    assert (status, refusal["error"]["code"]) == (403, "not_admin")
    assert refusal["error"]["message"].startswith("Controlling the queue is for admins")
    async with browser(site.url) as admin:
        await admin.sign_in(KEYS["carol"])
        assert (await admin.post(path)).status == 401
    assert (site.queue.paused, site.queue.draining, await actions(site)) == (False, False, [])


async def test_each_control_acts_and_is_noted(site: Site) -> None:
    """The answer is how the queue stands; the ledger knows who did what."""
    stands = [(await post(site, path, "carol"))[1] for path in CONTROLS]
    assert [(each["paused"], each["draining"]) for each in stands] == [
        (True, False),
        (True, True),
        (False, False),
    ]
    assert {(each["running"], each["waiting"]) for each in stands} == {(1, 2)}
    noted = [(act.name, act.what) for act in await actions(site)]
    assert noted == [("carol", "queue resume"), ("carol", "queue drain"), ("carol", "queue pause")]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "nobody:7b"}, 404, "model_unknown"),
        ({"model": 7}, 400, "malformed_body"),
        ({"model": "m", "keep_alive": 1}, 400, "malformed_body"),
        ([], 400, "malformed_body"),
        ({"model": "m" * 5000}, 413, "body_too_large"),
    ],
)
async def test_what_is_no_unload_is_refused(site: Site, body: object, status: int, code: str) -> None:
    """Nothing goes to Ollama, and nothing is noted."""
    found, refusal = await post(site, UNLOAD, "carol", body)
    assert (found, refusal["error"]["code"]) == (status, code)
    assert await actions(site) == []


async def test_an_ollama_that_is_away_is_told(site: Site) -> None:
    """Then nothing was done, so nothing is noted."""
    status, refusal = await post(site, UNLOAD, "carol", {"model": "QWEN3-coder:30b"})
    assert (status, refusal["error"]["code"]) == (502, "ollama_down")
    assert await actions(site) == []


async def test_models_are_listed_as_the_caller_may_see_them(site: Site) -> None:
    """In memory first; a limited key sees its own models alone, nobody without a key any."""
    site.parts.monitor.view = site.parts.monitor.view.changed(models=(HOSTILE, "qwen3-coder:30b"))
    assert (await site.get("/gpushare/v1/models"))[0] == 401
    _, _, text = await site.get("/gpushare/v1/models", "alice")
    rows = json.loads(text)["models"]
    assert [(row["name"], row["loaded"]) for row in rows] == [("qwen3-coder:30b", True), (HOSTILE, False)]
    ring = site.parts.ring
    site.parts.ring = ring.changed([site.owners["alice"]], models=("other",))
    _, _, text = await site.get("/gpushare/v1/models", "alice")
    assert json.loads(text)["models"] == []
