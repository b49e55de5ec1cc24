"""What to type into which tool, over a real socket."""

import gzip
import json
from collections.abc import AsyncIterator

import msgspec
import pytest

from gpushare.core.config import Auth, Config, Server
from gpushare.core.tools import EXAMPLE_KEY, TOOLS
from gpushare.edge.files import asset
from tests.unit.web.site import HOSTILE, Site, open_site, tags

LARGEST_SCRIPT = 600  # bytes, compressed: all scripts of all pages have 3,000 together


@pytest.fixture
async def proxied() -> AsyncIterator[Site]:
    """A server behind a proxy whose public address is a loopback one, by mistake."""
    server = Server(public_url="http://127.0.0.1:11435", trusted_proxies=("127.0.0.1",))
    async for each in open_site(Config(server=server)):
        yield each


@pytest.fixture
async def discreet() -> AsyncIterator[Site]:
    """A server that does not list its models without a key."""
    async for each in open_site(Config(auth=Auth(anonymous_models=False))):
        yield each


def blocks(page: str) -> list[str]:
    """Returns the texts to copy of a page."""
    return [piece.partition(">")[2].partition("</textarea>")[0] for piece in page.split("<textarea")[1:]]


async def test_every_tool_is_a_plain_link(site: Site) -> None:
    """The list works without a script, and each of its links leads to steps."""
    _, _, page = await site.get("/connect")
    links = [attrs["href"] for tag, attrs in tags(page) if tag == "a"]
    for slug in TOOLS:
        assert f"/connect/{slug}" in links
        assert (await site.get(f"/connect/{slug}"))[0] == 200


async def test_steps_hold_the_address_people_type_and_the_loaded_model(site: Site) -> None:
    """Nothing is left to fill in but the key, for which an example stands."""
    _, _, page = await site.get("/connect/openai-python")
    exports, program = blocks(page)
    assert exports.split("\n") == [
        f"export OPENAI_BASE_URL=http://127.0.0.1:{site.port}/v1",
        f"export OPENAI_API_KEY={EXAMPLE_KEY}",
    ]
    assert "qwen3-coder:30b" in program
    assert "model_context_window = 32768" in blocks((await site.get("/connect/codex"))[2])[0]


async def test_a_block_is_as_high_as_its_text(site: Site) -> None:
    """Without a script a block is a text field that shows all its lines and cannot be changed."""
    _, _, page = await site.get("/connect/continue")
    (block,) = blocks(page)
    (field,) = [attrs for tag, attrs in tags(page) if tag == "textarea"]
    assert field["rows"] == str(len(block.split("\n")))
    assert "readonly" in field


async def test_a_pasted_key_cannot_leave_the_page(site: Site) -> None:
    """The field for it has no name and no form; it is offered to people with a key, and by a link."""
    for path, who in (("/connect/zed?key=own", ""), ("/connect/zed", "alice")):
        _, _, page = await site.get(path, who)
        found = tags(page)
        (field,) = [attrs for tag, attrs in found if tag == "input"]
        assert "name" not in field
        assert not [tag for tag, _ in found if tag == "form"]
        assert field["data-example"] == EXAMPLE_KEY
    for path, who in (("/connect/zed", ""), ("/connect/zed?key=example", "alice")):
        assert "<input" not in (await site.get(path, who))[2]


async def test_an_unknown_tool_is_404_with_the_list(site: Site) -> None:
    """Somebody who guessed an address finds the tools there are."""
    status, headers, page = await site.get("/connect/emacs")
    assert (status, headers["Content-Type"].split(";")[0]) == (404, "text/html")
    assert "no tool of this name" in page
    assert "/connect/zed" in page


async def test_a_loopback_address_is_not_given_to_others_without_a_word(proxied: Site) -> None:
    """Somebody at another machine would reach their own machine with it."""
    _, _, page = await proxied.get("/connect/zed", **{"X-Forwarded-For": "10.1.2.3"})
    assert "works only on" in page
    assert "server.public_url" in page
    assert "works only on" not in (await proxied.get("/connect/zed"))[2]


async def test_models_are_named_to_those_who_may_see_them(discreet: Site, site: Site) -> None:
    """Where lists need a key, so do the steps; a hostile name is never put into one."""
    assert "No model is known here" in (await discreet.get("/connect/zed"))[2]
    assert "No model is known here" not in (await discreet.get("/connect/zed", "alice"))[2]
    (loaded,) = site.parts.monitor.view.loaded
    hostile = msgspec.structs.replace(loaded, name=HOSTILE)
    site.parts.monitor.view = site.parts.monitor.view.changed(loaded=(hostile,))
    _, _, page = await site.get("/connect/zed")
    assert "No model is known here" in page
    assert "onerror" not in page


async def test_the_facts_come_as_json_for_the_command_line(site: Site) -> None:
    """The terminal fills in what the page does."""
    _, headers, text = await site.get("/gpushare/v1/connecting")
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert json.loads(text) == {
        "schema": "gpushare.connecting/1",
        "base_url": f"http://127.0.0.1:{site.port}",
        "model": "qwen3-coder:30b",
        "context": 32768,
    }


async def test_the_script_is_served_and_small(site: Site) -> None:
    """It comes from this server alone, within its part of what all scripts may weigh."""
    _, _, page = await site.get("/connect/zed")
    scripts = [attrs["src"] or "" for tag, attrs in tags(page) if tag == "script"]
    status, headers, text = await site.get(next(script for script in scripts if "connect" in script))
    assert (status, headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
    assert len(gzip.compress(text.encode())) < LARGEST_SCRIPT
    assert text == (asset("static") / "connect.js").read_text()
