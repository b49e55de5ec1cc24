"""The pages over a real socket, with a queue and an Ollama made up for the test."""

import json
import re
from dataclasses import replace

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpushare.core.openapi import description
from gpushare.core.picture import OllamaView
from gpushare.core.views import Delay, Reason
from tests.unit import records
from tests.unit.source import ROOT
from tests.unit.web.site import HOSTILE, PEOPLE, Site, tags, text_of

CALL = msgspec.structs.replace(
    records.CALL,
    key_id="aaaaaa",
    person="alice",
    model="qwen3-coder:30b",
    first_s=None,
    load_s=None,
    input_tokens=None,
    output_tokens=None,
    bytes_out=0,
)


async def test_page_shows_the_queue(site: Site) -> None:
    """The first line answers what is going on, the card where one is, the tables tell who and when."""
    status, _, page = await site.get("/status", "alice")
    shown = text_of(page)
    assert status == 200
    for words in (
        "(you: 2) Busy · gpushare on",
        "Busy: 1 running, 2 waiting A new request would start in about 1 min 30 s · host",
        "You, alice 2nd in line, about 25 s",
        "bob qwen3-coder:30b 31 s",
        "1. carol",
        "2. alice (you)",
        "loads the model first about 25 s waited",
    ):
        assert words in shown


async def test_page_offers_to_sign_in(site: Site) -> None:
    """Without a key the card is a form with one field, which no address and no history keeps."""
    _, _, page = await site.get("/status")
    form, field = (next(attrs for tag, attrs in tags(page) if tag == name) for name in ("form", "input"))
    assert (form["method"], form["action"]) == ("post", "/login")
    assert (field["type"], field["autocomplete"]) == ("password", "current-password")
    assert "Your key Show my place" in text_of(page)


async def test_page_says_why_an_estimate_grew(site: Site) -> None:
    """The reason stands in the row, with the name as this viewer sees it."""
    row = replace(site.queue.view.waiting[0], reason=Reason(delay=Delay.LONGER, owner=site.owners["bob"]))
    site.queue.view = replace(site.queue.view, waiting=(row,))
    _, _, own = await site.get("/status", "alice")
    _, _, anonymous = await site.get("/status")
    assert "bob&#39;s answer is longer than usual" in own
    assert "somebody&#39;s answer is longer than usual" in anonymous


async def test_page_without_a_key_names_nobody(site: Site) -> None:
    """The anonymous page and document hold no person's name and no key id."""
    for path in ("/status", "/gpushare/v1/status"):
        _, _, text = await site.get(path)
        assert "somebody" in text
        assert not [word for word in (*PEOPLE, *site.owners.values()) if word in text]


@pytest.mark.item(75)
async def test_page_escapes_what_it_shows(site: Site) -> None:
    """P34: a hostile name is text, not markup."""
    _, _, page = await site.get("/status")
    assert HOSTILE not in page
    assert "&lt;img src=x" in page
    assert not [attrs for tag, attrs in tags(page) if tag == "img" or any(n.startswith("on") for n in attrs)]


@pytest.mark.parametrize("path", ["/status", "/connect", "/connect/zed?key=own"])
async def test_pages_carry_the_security_headers(site: Site, path: str) -> None:
    """Every page forbids scripts of others, frames and caching, and needs nothing from elsewhere."""
    _, headers, page = await site.get(path)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    for tag, attrs in tags(page):
        assert tag != "style"
        assert tag != "script" or "src" in attrs
        assert "style" not in attrs
        address = attrs.get("href") or attrs.get("src") or "/"
        assert address.startswith(("/", "#", "?"))


async def test_page_has_the_landmarks(site: Site) -> None:
    """A page has one heading of the first level, a language, a skip link and real table headers."""
    _, _, page = await site.get("/status", "alice")
    found = tags(page)
    assert [tag for tag, _ in found].count("h1") == 1
    assert {"main", "nav", "header", "footer"} <= {tag for tag, _ in found}
    assert next(attrs for tag, attrs in found if tag == "html")["lang"] == "en"
    assert next(attrs for tag, attrs in found if tag == "a")["href"] == "#main"
    assert all("scope" in attrs for tag, attrs in found if tag == "th")


async def test_page_renews_itself_until_paused(site: Site) -> None:
    """Without a script the page reloads every ten seconds, and a link stops that."""
    _, _, page = await site.get("/status")
    assert '<noscript><meta http-equiv="refresh" content="10; url=/status"></noscript>' in page
    _, _, page = await site.get("/status?paused")
    assert "http-equiv" not in page


async def test_assets_may_be_kept_for_ever(site: Site) -> None:
    """Style sheet, script and icon are found under the page's names for them, which change with them."""
    _, _, page = await site.get("/status")
    files = [
        attrs.get("href") or attrs.get("src") or "" for tag, attrs in tags(page) if tag in ("link", "script")
    ]
    assert len(files) == 3
    for file in files:
        assert re.fullmatch(r"/static/\w+\.[0-9a-f]{8}\.(css|js|svg)", file)
        status, headers, _ = await site.get(file)
        assert status == 200
        assert "immutable" in headers["Cache-Control"]
    assert (await site.get("/static/style.css"))[0] == 404


async def test_document_is_the_page_in_json(site: Site) -> None:
    """The JSON has the schema's name and what the viewer may see."""
    status, headers, text = await site.get("/gpushare/v1/status", "alice")
    document = json.loads(text)
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert document["schema"] == "gpushare.status/1"
    assert [row["who"] for row in document["waiting"]] == ["carol", "alice"]
    assert document["day"]["requests"] == 0


async def test_closed_server_asks_for_a_key(closed_site: Site) -> None:
    """With ``status.anonymous = "off"`` the page explains itself and the JSON is a 401; a key opens both."""
    status, _, page = await closed_site.get("/status")
    assert (status, "needs a key" in page, "qwen3" in page) == (401, True, False)
    status, _, text = await closed_site.get("/gpushare/v1/status")
    assert (status, json.loads(text)["error"]["code"]) == (401, "key_missing")
    assert (await closed_site.get("/status", "alice"))[0] == 200


async def test_wrong_key_is_refused(site: Site) -> None:
    """A key that is not valid is told so, not shown the anonymous page."""
    headers = {"Authorization": "Bearer gs_000000_wrong"}
    status, _, text = await site.get("/gpushare/v1/status", **headers)
    assert (status, json.loads(text)["error"]["code"]) == (401, "key_unknown")


async def test_root_sends_browsers_to_the_page(site: Site) -> None:
    """A browser is led to the status page; tools get what Ollama says, also to HEAD."""
    status, headers, _ = await site.get("/", Accept="text/html,application/xhtml+xml")
    assert (status, headers["Location"]) == (302, "/status")
    status, _, text = await site.get("/")
    assert (status, text) == (200, "Ollama is running")
    async with site.client.head("/") as answer:
        assert answer.status == 200


async def test_pages_are_read_only(site: Site) -> None:
    """Another method than GET and HEAD is 405 with the allowed ones."""
    async with site.client.post("/status") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_readiness_follows_ollama(site: Site) -> None:
    """P37: alive is always ok; ready is 503 with one word while a call would not be admitted."""
    assert (await site.get("/readyz"))[::2] == (200, "ok")
    site.parts.monitor.view = site.parts.monitor.view.changed(up=False)
    assert (await site.get("/readyz"))[::2] == (503, "ollama-down")
    site.parts.monitor.view = OllamaView()
    assert (await site.get("/readyz"))[::2] == (503, "starting")
    site.queue.draining = True
    assert (await site.get("/readyz"))[::2] == (503, "draining")
    assert (await site.get("/healthz"))[::2] == (200, "ok")


async def test_metrics_parse(site: Site) -> None:
    """Prometheus reads the page, with the counts of what ended."""
    site.parts.stats.record(CALL)
    status, headers, text = await site.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/plain")
    assert families["gpushare_requests"].samples[0].value == 1


async def test_metrics_are_for_listed_networks(far_site: Site, closed_site: Site) -> None:
    """Another network gets a 403 that says what to change; without metrics there is no such page."""
    status, _, text = await far_site.get("/metrics")
    assert (status, json.loads(text)["error"]["code"]) == (403, "network_denied")
    status, _, _ = await far_site.get("/metrics", **{"X-Forwarded-For": "10.1.2.3"})
    assert status == 200
    assert (await closed_site.get("/metrics"))[0] == 404


async def test_every_address_for_programs_is_described(site: Site) -> None:
    """What is under ``/gpushare``, the metrics and the probes: each of them, and no other."""
    routed = {resource.canonical for resource in site.app.router.resources()}
    ours = {path for path in routed if path.startswith("/gpushare/")} | {"/metrics", "/healthz", "/readyz"}
    assert set(description("x")["paths"]) == ours


async def test_every_address_is_in_the_documents(site: Site) -> None:
    """The table of ``docs/api.md`` has each address of our own, and no other."""
    table = (ROOT / "docs" / "api.md").read_text().partition("\n## Own addresses\n")[2].partition("\n### ")[0]
    shown = set(re.findall(r"^\| `(?:[A-Z]+ )?(/[^`]*)` \|", table, re.MULTILINE))
    routed = {resource.canonical for resource in site.app.router.resources()} - {"/{path}"}
    assert shown == routed
