"""The pages without scripts: everything can be read, and every form works."""

from datetime import UTC, datetime

from playwright.async_api import expect

from gpushare.core.keys import key_id, link_token, offered
from tests.browser.conftest import Visit
from tests.browser.tools import IN_CHROMIUM, live, sign_in, waiting
from tests.harness import Gate, chat

pytestmark = IN_CHROMIUM

KEY = r"gs_[0-9a-f]{6}_\w{32}"
TOKEN = link_token(b"a token for the browser's tests")


async def test_the_queue_is_readable(gate: Gate, visit: Visit) -> None:
    """Headline, own place and queue are in the page as it comes, and the browser renews it by itself."""
    async with waiting(gate, "bob", "alice"):
        page = await visit(who="alice", java_script_enabled=False)
        await expect(page.locator("h1")).to_have_text("Busy: 1 running, 2 waiting")
        await expect(page.locator("#you .big")).to_contain_text("2nd in line")
        rows = page.locator("#queue tbody tr")
        await expect(rows.nth(0)).to_contain_text("carol")
        await expect(rows.nth(1)).to_contain_text("1. bob")
        await expect(rows.nth(2)).to_contain_text("2. alice (you)")
        assert await page.locator("meta[http-equiv=refresh]").get_attribute("content") == "10; url=/status"
        tools = page.locator("noscript .tools")
        await expect(tools).to_be_visible()
        assert "Renewed every 10 s" in await tools.inner_text()
        await expect(page.locator("#live")).to_be_hidden()
        await tools.locator("a").click()
        await page.wait_for_url("**/status?paused")
        assert "Paused at" in await tools.inner_text()
        assert await page.locator("meta[http-equiv=refresh]").count() == 0


async def test_every_live_page_is_renewed(visit: Visit) -> None:
    """The own page and the admins' are kept up to date without scripts, too, unless somebody pauses them."""
    for path, who in (("/me", "alice"), ("/admin", "root")):
        page = await visit(path, who=who, java_script_enabled=False)
        refresh = page.locator("meta[http-equiv=refresh]")
        assert await refresh.get_attribute("content") == f"10; url={path}"
        await page.get_by_role("link", name="Pause").click()
        await page.wait_for_url(f"**{path}?paused")
        assert await refresh.count() == 0
        await page.get_by_role("link", name="Go on").click()
        await page.wait_for_url(f"**{path}")


async def test_signing_in_and_out(gate: Gate, visit: Visit) -> None:
    """A wrong key is told so at the field; a right one leads to the own place; signing out ends it."""
    page = await visit(java_script_enabled=False)
    await page.get_by_label("Your key").fill("gs_wrong")
    await page.get_by_role("button", name="Show my place").click()
    field = page.get_by_label("Your key")
    assert await field.get_attribute("aria-describedby") == "login-problem"
    await expect(page.locator("#login-problem")).to_contain_text("This key is not known here.")
    await field.fill(gate.keys["alice"])
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.locator("#you h2")).to_have_text("You, alice")
    await page.goto("/me")
    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url("**/status")
    await expect(page.locator("#you").get_by_label("Your key")).to_be_visible()


async def test_a_call_is_cancelled(gate: Gate, visit: Visit) -> None:
    """The button on one's own page ends a call that waits; what came of it is said for a while."""
    async with waiting(gate, "alice"):
        page = await visit("/me", who="alice", java_script_enabled=False)
        await page.get_by_role("button", name="Cancel this request").click()
        await expect(page.locator(".notice.info")).to_have_text("The request is cancelled.")
        await gate.waiting(0)
        await expect(page.locator(".notice.info")).to_be_hidden()


async def test_a_key_is_replaced(gate: Gate, visit: Visit) -> None:
    """The new key is shown once and works; the old one, ended at once, does not."""
    page = await visit("/me", who="alice", java_script_enabled=False)
    await page.get_by_label("The old key ends at once").check()
    await page.get_by_role("button", name="New key").click()
    new = await page.get_by_label("Your key, to copy").input_value()
    gate.keys["new"] = new
    assert (await gate.post("/api/chat", chat(), who="new"))[0] == 200
    assert (await gate.post("/api/chat", chat(), who="alice"))[0] == 401
    await page.goto("/me")
    await expect(page.locator("h1")).to_have_text("My usage")
    assert new not in await page.content()


async def test_a_key_is_seen_whole(visit: Visit) -> None:
    """What is shown once is not cut off, on the narrowest screen either."""
    page = await visit("/me", who="alice", viewport={"width": 320, "height": 640})
    await page.get_by_role("button", name="New key").click()
    field = page.get_by_label("Your key, to copy")
    hidden = "field => [field.scrollHeight - field.clientHeight, field.scrollWidth - field.clientWidth]"
    assert await field.evaluate(hidden) == [0, 0]


async def test_a_link_is_opened_once(gate: Gate, visit: Visit) -> None:
    """It shows a key, signs the browser in, and is used up for the next one."""
    gate.key_file.edit(lambda ring: offered(ring, key_id(gate.keys["bob"]), TOKEN, datetime.now(UTC)))
    await gate.until(lambda: any(record.link for record in gate.parts.ring.records))
    page = await visit(f"/welcome/{TOKEN}", java_script_enabled=False)
    await page.get_by_role("button", name="Show my key").click()
    gate.keys["new"] = await page.get_by_label("Your key, to copy").input_value()
    assert (await gate.post("/api/chat", chat(), who="new"))[0] == 200
    await page.get_by_role("link", name="see the queue").click()
    await expect(page.locator("#you h2")).to_have_text("You, bob")
    second = await visit(f"/welcome/{TOKEN}", java_script_enabled=False)
    await expect(second.locator("h1")).to_have_text("This link is used up")
    assert await second.get_by_role("button", name="Show my key").count() == 0


async def test_a_page_that_lives_is_not_renewed(gate: Gate, visit: Visit) -> None:
    """Where scripts run, the browser renews nothing by itself."""
    page = await visit()
    await live(page)
    assert await page.locator("meta[http-equiv=refresh]").count() == 0
    await sign_in(page, gate.keys["alice"])
    await expect(page.locator("#you h2")).to_have_text("You, alice")
