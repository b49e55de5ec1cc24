"""The pages over a real socket, with a queue and an Ollama made up for the test."""

import re

import pytest

from gpushare.core.openapi import description
from tests.unit.source import ROOT
from tests.unit.web.site import Site, tags


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
