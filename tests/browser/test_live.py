"""The page while it lives: it changes without being loaded again, and leaves alone what a person holds."""

import asyncio
import re

from playwright.async_api import Page, Route, expect

from gpushare.sim import State
from tests.browser.conftest import Visit
from tests.browser.tools import IN_CHROMIUM, is_the_same, live, waiting
from tests.conformance.tools import busy
from tests.harness import Gate, chat

pytestmark = IN_CHROMIUM

HOLD_NAME = """() => getSelection().selectAllChildren(document.querySelector("#queue tbody th"))"""
COUNT_STREAMS = """
window.streams = [];
window.EventSource = class extends EventSource {
  constructor(address) { super(address); window.streams.push(this); }
};
"""
NO_STORAGE = """
Object.defineProperty(window, "localStorage", {get() { throw new Error("denied"); }});
Object.defineProperty(window, "sessionStorage", {get() { throw new Error("denied"); }});
"""
HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


async def open_streams(page: Page) -> int:
    """Returns how many of a page's streams are open; needs ``COUNT_STREAMS``."""
    return int(await page.evaluate("() => window.streams.filter((one) => one.readyState < 2).length"))


async def test_what_happens_is_shown(gate: Gate, visit: Visit) -> None:
    """A call that begins, waits and ends is on the page, in its title and its icon, without a reload."""
    page = await visit(who="alice")
    await live(page)
    await expect(page.locator("h1")).to_have_text("Free: a request starts at once")
    idle = await page.locator("#icon").get_attribute("href")
    async with waiting(gate, "bob", "alice") as running:
        await expect(page.locator("h1")).to_have_text("Busy: 1 running, 2 waiting")
        await expect(page.locator("#queue tbody tr.own")).to_contain_text("2. alice (you)")
        await expect(page.locator("#you .big")).to_contain_text("2nd in line")
        await expect(page).to_have_title("(you: 2) Busy · gpushare on " + gate.parts.host)
        await expect(page.locator("#say")).not_to_be_empty()
        assert await page.locator("#icon").get_attribute("href") != idle
        running.resume()
        await expect(page.locator("h1")).to_have_text("Free: a request starts at once")
    await expect(page.locator("#you .big")).to_have_text("You have nothing waiting")
    assert await is_the_same(page)


async def test_time_is_counted_by_the_page(gate: Gate, visit: Visit) -> None:
    """Seconds go on between two events."""
    async with busy(gate):
        page = await visit(who="carol")
        await live(page)
        await page.route("**/events*", lambda route: route.abort())
        shown = page.locator("#queue tbody td.lead")
        before = await shown.inner_text()
        await expect(shown).not_to_have_text(before)


async def test_cancel_reaches_ollama(gate: Gate, visit: Visit) -> None:
    """The button on the card ends a call that runs: Ollama sees it go, and the card says so."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(gate.post("/api/chat", chat("#sim:tokens=3,fault=stall@1")))
        entry = await gate.sim.arrived(0, path="/api/chat")
        await entry.reached(State.STALLED)
        page = await visit(who="alice")
        await live(page)
        await page.locator("#you").get_by_role("button", name="Cancel this request").click()
        await entry.reached(State.CANCELLED)
        await expect(page.get_by_text("The request is cancelled.")).to_be_visible()
        await expect(page.locator("#you .big")).to_have_text("You have nothing waiting")


async def test_a_selection_survives(gate: Gate, visit: Visit) -> None:
    """Who marks a name to copy it keeps it through ten changes, and sees the newest afterwards."""
    async with waiting(gate, "bob"):
        page = await visit(who="alice")
        await live(page)
        await page.evaluate(HOLD_NAME)
        marked = await page.evaluate("() => getSelection().toString()")
        assert marked.strip() == "carol"
        for number in range(5):
            call = asyncio.create_task(gate.post("/api/chat", chat()))
            await gate.waiting(2)
            await expect(page.locator("h1")).to_have_text("Busy: 1 running, 2 waiting")
            assert await page.evaluate("() => getSelection().toString()") == marked, f"lost in round {number}"
            call.cancel()
            await gate.waiting(1)
            await expect(page.locator("h1")).to_have_text("Busy: 1 running, 1 waiting")
        late = asyncio.create_task(gate.post("/api/chat", chat()))
        await expect(page.locator("h1")).to_have_text("Busy: 1 running, 2 waiting")
        assert await page.locator("#queue tr.own").count() == 0
        await page.evaluate("() => getSelection().removeAllRanges()")
        await expect(page.locator("#queue tr.own")).to_contain_text("2. alice (you)")
        assert await is_the_same(page)
    await late


async def test_focus_is_kept(gate: Gate, visit: Visit) -> None:
    """Who has walked to a button by keyboard is not thrown off it by news."""
    async with waiting(gate, "alice"):
        page = await visit(who="alice")
        await live(page)
        button = page.locator("#you").get_by_role("button", name="Cancel this request")
        await button.focus()
        late = asyncio.create_task(gate.post("/api/chat", chat()))
        await expect(page.locator("h1")).to_have_text("Busy: 1 running, 2 waiting")
        await expect(button).to_be_focused()
        await button.evaluate("button => button.blur()")
        await expect(page.locator("#you .big")).to_contain_text("2 requests waiting")
    await late


async def test_what_is_typed_is_kept(gate: Gate, visit: Visit) -> None:
    """A key that was pasted before the first news came is still there after it, and after more."""
    page = await visit("/help")
    typed = asyncio.Event()

    async def after_typing(route: Route) -> None:
        await typed.wait()
        await route.continue_()

    await page.route("**/events*", after_typing)
    await page.goto("/status")
    field = page.get_by_label("Your key")
    await field.fill(gate.keys["alice"])
    await field.evaluate("field => field.blur()")
    typed.set()
    await live(page)
    await expect(field).to_have_value(gate.keys["alice"])
    async with waiting(gate, "bob"):
        await expect(page.locator("h1")).to_have_text("Busy: 1 running, 1 waiting")
    await expect(field).to_have_value(gate.keys["alice"])
    await page.get_by_role("button", name="Show my place").click()
    await expect(page.locator("#you h2")).to_have_text("You, alice")


async def test_signing_out_ends_every_tab(gate: Gate, visit: Visit) -> None:
    """What is open elsewhere shows at once what anybody sees, and the own page asks for the key."""
    status = await visit(who="alice")
    await live(status)
    own, leaving = await status.context.new_page(), await status.context.new_page()
    await own.goto("/me")
    await live(own)
    elsewhere = await visit(who="alice")
    await live(elsewhere)
    program = asyncio.create_task(gate.request("GET", "/events?view=status&format=json", who="alice"))
    await leaving.goto("/me")
    await leaving.get_by_role("button", name="Sign out").click()
    for page in (leaving, status, elsewhere):
        await expect(page.locator("#you").get_by_label("Your key")).to_be_visible()
        assert "alice" not in await page.content()
    await expect(own.get_by_role("heading", name="Sign in")).to_be_visible()
    assert not program.done()
    program.cancel()


async def test_pause(gate: Gate, visit: Visit) -> None:
    """A paused page has no stream and stands still; going on brings the newest."""
    page = await visit(who="alice")
    await page.add_init_script(COUNT_STREAMS)
    await page.reload()
    await live(page)
    await page.get_by_role("button", name="Pause").click()
    await expect(page.locator("#link")).to_contain_text("Paused at")
    assert await open_streams(page) == 0
    async with waiting(gate, "bob"):
        await expect(page.locator("h1")).to_have_text("Free: a request starts at once")
        await page.get_by_role("button", name="Go on").click()
        await expect(page.locator("h1")).to_have_text("Busy: 1 running, 1 waiting")
        await expect(page.locator("#link")).to_have_text("Live")
        assert await is_the_same(page)


async def test_a_hidden_tab_needs_no_stream(gate: Gate, visit: Visit) -> None:
    """Half a minute after it is hidden its stream ends; shown again it is up to date."""
    page = await visit(who="alice")
    await page.clock.install()
    await page.add_init_script(COUNT_STREAMS)
    await page.reload()
    await live(page)
    await page.evaluate(HIDE, arg=True)
    await page.clock.run_for(29_000)
    assert await open_streams(page) == 1
    await page.clock.run_for(2_000)
    assert await open_streams(page) == 0
    async with waiting(gate, "bob"):
        await page.evaluate(HIDE, arg=False)
        await expect(page.locator("h1")).to_have_text("Busy: 1 running, 1 waiting")
        assert await is_the_same(page)


class Outdated:
    """Makes the pages of a browser older than the server's files; counts how often one is loaded."""

    def __init__(self) -> None:
        self.loads = 0

    async def __call__(self, route: Route) -> None:
        """Answers with the page, made of older files."""
        self.loads += 1
        answer = await route.fetch()
        text = re.sub(r'data-build="[^"]+"', 'data-build="older"', await answer.text())
        await route.fulfill(response=answer, body=text)


async def change(gate: Gate, *pages: Page) -> None:
    """Lets something happen, and waits until the pages have shown it and are as before."""
    async with waiting(gate, "bob"):
        for page in pages:
            await expect(page.locator("h1")).to_have_text("Busy: 1 running, 1 waiting")
    for page in pages:
        await expect(page.locator("h1")).to_have_text("Free: a request starts at once")


async def test_a_tab_opened_behind_needs_no_stream(gate: Gate, visit: Visit) -> None:
    """A page that nobody has seen yet waits, and is live once it is looked at."""
    page = await visit("/help")
    await page.clock.install()
    await page.add_init_script(COUNT_STREAMS)
    await page.add_init_script("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    await page.goto("/status")
    await page.clock.run_for(31_000)
    assert await open_streams(page) == 0
    await page.evaluate(HIDE, arg=False)
    await live(page)
    await change(gate, page)


async def test_another_build_is_loaded_once(gate: Gate, visit: Visit) -> None:
    """A page made of older files than the server's loads itself again, in every tab, and not for ever."""
    first = await visit(who="alice")
    second = await first.context.new_page()
    outdated = Outdated()
    await first.context.route("**/status", outdated)
    for number, page in enumerate((first, second), start=1):
        async with page.expect_event("load", lambda _: outdated.loads == 2 * number):  # noqa: B023
            await page.goto("/status")
        await live(page)
    await change(gate, first, second)
    assert await is_the_same(first)
    assert await is_the_same(second)
    assert outdated.loads == 4


async def test_nothing_is_loaded_again_for_ever(gate: Gate, visit: Visit) -> None:
    """It is once where a browser keeps nothing for its pages, too."""
    page = await visit("/help")
    await page.add_init_script(NO_STORAGE)
    outdated = Outdated()
    await page.route("**/status", outdated)
    async with page.expect_event("load", lambda _: outdated.loads == 2):
        await page.goto("/status")
    await live(page)
    await change(gate, page)
    assert await is_the_same(page)
    assert outdated.loads == 2


async def test_another_build_waits_for_a_person(gate: Gate, visit: Visit) -> None:
    """What is typed is not lost to newer files; they come once the field is empty again."""
    page = await visit("/help")
    outdated, typed = Outdated(), asyncio.Event()

    async def after_typing(route: Route) -> None:
        await typed.wait()
        await route.continue_()

    await page.route("**/events*", after_typing)
    await page.route("**/status", outdated)
    await page.goto("/status")
    field = page.get_by_label("Your key")
    await field.fill("gs_")
    typed.set()
    await live(page)
    await change(gate, page)
    assert await is_the_same(page)
    await expect(field).to_have_value("gs_")
    await field.fill("")
    await field.evaluate("field => field.blur()")
    async with page.expect_event("load"), waiting(gate, "bob"):
        pass
    assert outdated.loads == 2


async def test_the_theme_is_kept(gate: Gate, visit: Visit) -> None:
    """The choice at the foot of a page holds for all pages, and from their first paint on."""
    page = await visit(color_scheme="light")
    background = "() => getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(background)
    await page.get_by_label("Theme").select_option("dark")
    dark = await page.evaluate(background)
    assert dark != light
    await page.goto("/help")
    assert await page.evaluate(background) == dark
    assert await page.get_by_label("Theme").input_value() == "dark"
    await page.get_by_label("Theme").select_option("")
    await page.goto("/status")
    assert await page.evaluate(background) == light


async def test_on_paper(gate: Gate, visit: Visit) -> None:
    """What can only be pressed or watched is left out, the time is added, and dark colours cost no ink."""
    async with waiting(gate, "alice"):
        page = await visit(who="alice", color_scheme="dark")
        await live(page)
        await page.locator("#theme select").select_option("dark")
        await page.emulate_media(media="print")
        for path in ("nav", "#live", "button", "#theme", ".skip"):
            assert await page.locator(path).count() > 0, path
            assert not [one for one in await page.locator(path).all() if await one.is_visible()], path
        await expect(page.locator("#printed")).to_be_visible()
        await expect(page.locator("#queue")).to_contain_text("1. alice (you)")
        assert (
            await page.evaluate("() => getComputedStyle(document.body).backgroundColor")
            == "rgb(246, 247, 249)"
        )
