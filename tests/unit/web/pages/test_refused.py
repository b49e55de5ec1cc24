"""Refusals as pages: for whoever looks at them in a browser; programs get what they can read."""

from dataclasses import dataclass, field

import pytest

from gpushare.core.errors import Overloaded
from gpushare.web.pages.render import PAGE_HEADERS
from tests.unit.web.browser import PAGE, browser
from tests.unit.web.site import KEYS, Site, tags


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A request that is refused, and how."""

    path: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    status: int
    code: str
    heading: str


REFUSED = {
    "no page": Refused(
        path="/nowhere?<b>", status=404, code="unknown_endpoint", heading="There is no such page"
    ),
    "no file": Refused(
        path="/static/nowhere.css", status=404, code="unknown_endpoint", heading="There is no such page"
    ),
    "a form's address": Refused(
        path="/logout", status=405, code="method_not_allowed", heading="This cannot be opened"
    ),
    "another method": Refused(
        path="/status",
        method="DELETE",
        status=405,
        code="method_not_allowed",
        heading="This cannot be opened",
    ),
    "a download": Refused(
        path="/gpushare/v1/usage?format=csv", status=401, code="key_missing", heading="This needs a key"
    ),
    "another name": Refused(
        path="/status",
        headers={"Host": "evil.example"},
        status=421,
        code="wrong_host",
        heading="This name is not known here",
    ),
    "a foreign page": Refused(
        path="/status",
        headers={"Sec-Fetch-Site": "cross-site"},
        status=403,
        code="origin_denied",
        heading="Not done",
    ),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
async def test_a_refusal_is_a_page(site: Site, refused: Refused) -> None:
    """It has a page's look and headers, the error's status, a sentence, and nothing that was asked for."""
    before = site.parts.stats.errors[refused.code]
    headers = {"Accept": PAGE, **refused.headers}
    async with site.client.request(refused.method, refused.path, headers=headers) as answer:
        text = await answer.text()
        assert answer.status == refused.status
        assert PAGE_HEADERS.items() <= dict(answer.headers).items()
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert f"<h1>{refused.heading}</h1>" in text
    assert ("/static/style" in text) == (refused.code != "wrong_host")
    assert "nowhere" not in text
    assert site.parts.stats.errors[refused.code] == before + 1


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream", ""])
async def test_a_program_gets_its_error(site: Site, accept: str) -> None:
    """Whoever does not ask for a page gets text or the error object, as before."""
    for path, status in (("/none", 404), ("/events?view=me", 401), ("/gpushare/v1/usage", 401)):
        async with site.client.get(path, headers={"Accept": accept}) as answer:
            assert answer.status == status
            assert answer.content_type in ("text/plain", "application/json")


@pytest.mark.parametrize("path", ["/api/none", "/v1/none", "/v1/messages", "/api/tags/x"])
async def test_the_api_speaks_its_dialect(site: Site, path: str) -> None:
    """A browser that opens an address of the tools is answered as they are."""
    async with site.client.get(path, headers={"Accept": PAGE}) as answer:
        assert answer.status in (404, 405)
        assert answer.content_type == "application/json"


@pytest.mark.parametrize(("path", "status"), [("/status", 421), ("/a..b", 404), ("/static/x", 421)])
async def test_a_name_that_is_not_ours_learns_nothing(site: Site, path: str, status: int) -> None:
    """A page that comes by another name reads neither this machine's name nor where its pages are."""
    async with site.client.get(path, headers={"Accept": PAGE, "Host": "evil.example"}) as answer:
        text = await answer.text()
        assert answer.status == status
    assert site.parts.host not in text
    assert "<h1>" in text
    assert [(tag, attrs) for tag, attrs in tags(text) if {"href", "src"} & attrs.keys()] == []


async def test_when_to_come_back_is_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What programs are told in headers stays in them."""

    async def full(*_args: object, **_options: object) -> None:
        raise Overloaded("place", 7)

    monkeypatch.setattr(site.parts.ledger, "usage", full)
    async with browser(site.url) as person:
        await person.sign_in(KEYS["alice"])
        shown = await person.get("/gpushare/v1/usage?format=csv")
    assert (shown.status, shown.headers["Retry-After"]) == (503, "7")
    assert "<h1>Not now</h1>" in shown.text


async def test_a_fault_of_ours_is_told_plainly(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more is tried then: the page might be what failed."""

    async def fail(*_args: object, **_options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(site.parts.ledger, "usage", fail)
    async with browser(site.url) as person:
        await person.sign_in(KEYS["alice"])
        shown = await person.get("/gpushare/v1/usage?format=csv")
    assert (shown.status, shown.headers["Content-Type"]) == (500, "application/json; charset=utf-8")
