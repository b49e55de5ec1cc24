"""How numbers, times and states are put into words, the same on the page and in the terminal.

Called by: the pages and the terminal; ``static/live.js`` repeats ``estimate``, ``within``, ``duration`` and
``left`` for what it counts.  Rules: an estimate is coarse on purpose, because a precise one that is wrong is
worse than none; the steps are those a person would say.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from gpushare.core.document import Document, Ollama, Running, State
from gpushare.core.views import Delay, Reason

UNKNOWN = "\N{EN DASH}"
NO_ESTIMATE = "no estimate yet"
NEWCOMER = "A new request would start"
TOOL_NAMES = {
    "ai-sdk": "AI SDK",
    "anthropic": "Anthropic SDK",
    "browser": "a browser",
    "claude-code": "Claude Code",
    "cline": "Cline",
    "codex": "Codex",
    "continue": "Continue",
    "copilot": "Copilot",
    "curl": "curl",
    "go": "Go",
    "home-assistant": "Home Assistant",
    "java": "Java",
    "litellm": "LiteLLM",
    "node": "Node.js",
    "ollama": "ollama",
    "ollama-js": "ollama-js",
    "ollama-python": "ollama-python",
    "open-webui": "Open WebUI",
    "openai": "OpenAI SDK",
    "opencode": "OpenCode",
    "other": "another tool",
    "python": "Python",
    "zed": "Zed",
}
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The page's first line.

    ``lead`` is the line without its "(for 2 min)", which counts from ``since`` on.  ``icon`` is ``idle``,
    ``busy`` or ``down``, ``word`` what a narrow tab has room for.
    """

    lead: str
    icon: str
    word: str
    since: datetime | None = None


def estimate(seconds: float | None) -> str:
    """Returns when something starts: ``about 25 s``, or that nobody knows."""
    if seconds is None:
        return NO_ESTIMATE
    if seconds <= 0:
        return "any moment"
    if seconds < 8:
        return "in a few seconds"
    if seconds < 57.5:
        return f"about {5 * _nearest(seconds / 5)} s"
    if seconds < 10 * _MINUTE_S:
        return f"about {duration(30 * _nearest(seconds / 30))}"
    return "more than 10 min"


def newcomer(seconds: float | None, *, told: bool) -> str:
    """Returns when a new request would start, as a sentence.

    Args:
        seconds: from now; None where nobody knows.
        told: an instant was told, which may have passed; without one it starts at once.
    """
    if seconds is None:
        return "There is no estimate yet for a new request"
    return f"{NEWCOMER} {within(estimate(seconds)) if told else 'at once'}"


def reason(why: Reason, whose: str) -> str:
    """Returns why something starts later than was told; ``whose`` is as in "bob's"."""
    match why.delay:
        case Delay.IN_FRONT:
            return f"{whose} request came back in front" + (" (has used less)" if why.used_less else "")
        case Delay.LOAD:
            return "loads the model first"
        case Delay.LONGER:
            return f"{whose} answer is longer than usual"


def duration(seconds: float) -> str:
    """Returns a length of time in at most two units: ``31 s``, ``2 min 30 s``, ``1 h 12 min``."""
    whole = max(0, int(seconds))
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return _two(whole // _MINUTE_S, "min", whole % _MINUTE_S, "s")
    if whole < 2 * _DAY_S:
        return _two(whole // _HOUR_S, "h", whole % _HOUR_S // _MINUTE_S, "min")
    return f"{whole // _DAY_S} days"


def spent(seconds: float) -> str:
    """Returns a time that was used: a little is not nothing."""
    return "under 1 s" if 0 < seconds < 1 else duration(seconds)


def left(seconds: float) -> str:
    """Returns when something ends that nobody has to wait for."""
    if seconds <= 0:
        return "any moment"
    if seconds < _MINUTE_S:
        return f"in {duration(seconds)}"
    if seconds < _HOUR_S:
        return f"in {int(seconds // _MINUTE_S)} min"
    return f"in {int(seconds // _HOUR_S)} h" if seconds < 2 * _DAY_S else "not by itself"


def at_most(seconds: float) -> str:
    """Returns a measured length of time, rounded up to what it is under."""
    return duration(math.ceil(seconds))


def waits_by_hour(hours: Sequence[float | None]) -> list[str]:
    """Returns what each hour's bar says, the current hour last; empty for an hour without waits."""
    ages = range(len(hours) - 1, -1, -1)
    when = ["this hour" if not age else f"{age} h ago" for age in ages]
    return [
        "" if wait is None else f"{at_most(wait)} ({then})" for wait, then in zip(hours, when, strict=True)
    ]


def size(count: int) -> str:
    """Returns bytes as graphics cards are sold, so that a card of 24 GB has 24.0: ``19.8 GB``."""
    return f"{count / 1024**3:.1f} GB"


def number(count: int) -> str:
    """Returns a whole number with its thousands set apart by narrow spaces that do not break."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def tool(name: str) -> str:
    """Returns what people call a tool that ``core.credentials`` has told apart."""
    return TOOL_NAMES.get(name, name)


def scaled(counts: Sequence[int | None]) -> list[str]:
    """Returns the counts of a column, all in the unit that suits the largest: ``9.1 M``, ``0.4 M``."""
    largest = max((count for count in counts if count is not None), default=0)
    if largest < 10_000:
        return [counted(count) for count in counts]
    unit, sign = (1e6, "M") if largest >= 1_000_000 else (1e3, "k")
    return [UNKNOWN if count is None else f"{count / unit:.1f} {sign}" for count in counts]


def counted(count: int | None) -> str:
    """Returns a count that may be unknown."""
    return UNKNOWN if count is None else number(count)


def worked(seconds: float) -> str:
    """Returns a sum of times for a column: hours do not become days, and minutes stand in line."""
    whole = int(seconds)
    if whole < _HOUR_S:
        return spent(seconds if whole < _MINUTE_S else whole - whole % _MINUTE_S)
    return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S:2} min"


def energy(joules: float) -> str:
    """Returns an amount of energy: ``2.6 kWh``."""
    return f"{joules / 3.6e6:.1f} kWh"


def cost(joules: float, price_per_kwh: float, currency: str) -> str:
    """Returns what an amount of energy costs: ``≈ 1.77 €``."""
    return f"≈ {joules / 3.6e6 * price_per_kwh:.2f} {currency}".rstrip()


def percent(part: float) -> str:
    """Returns a part of 1 in percent."""
    return f"{100 * part:.0f}\N{NARROW NO-BREAK SPACE}%"


def ordinal(count: int) -> str:
    """Returns a place in a line: ``2nd``."""
    last = "th" if count % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"{count}{last}"


def opening(status: Document) -> str:
    """Returns the headline as one text, for a terminal."""
    line = headline(status.state, status.running, waiting=len(status.waiting), ollama=status.ollama)
    return f"{line.lead}{ago(line.since, status.now)}"


def ago(since: datetime | None, now: datetime) -> str:
    """Returns for how long something has been so, as the end of a line."""
    return f" (for {duration((now - since).total_seconds())})" if since else ""


def headline(state: State, running: Sequence[Running], *, waiting: int, ollama: Ollama) -> Headline:
    """Returns the sentence that answers "what is going on" before any table does."""
    queue = f"{waiting} waiting" if waiting else "nobody waiting"
    match state:
        case State.FREE:
            return Headline(lead="Free: a request starts at once", icon="idle", word="Free")
        case State.STARTING:
            return Headline(lead="Starting", icon="idle", word="Starting")
        case State.BUSY:
            return Headline(lead=f"Busy: {len(running)} running, {queue}", icon="busy", word="Busy")
        case State.SWAP:
            model = next(row.model for row in running if row.swap)
            return Headline(lead=f"Loading {model}, {queue}", icon="busy", word="Loading")
        case State.FULL:
            full = f"Full: {waiting} waiting, new requests are turned away for now"
            return Headline(lead=full, icon="down", word="Full")
        case State.PAUSED:
            return Headline(lead="Paused by an admin: requests wait", icon="down", word="Paused")
        case State.DRAINING:
            closing = "Closing down: running requests finish, new ones are turned away"
            return Headline(lead=closing, icon="down", word="Closing down")
        case State.OLLAMA_DOWN:
            silent = "Ollama does not answer"
            return Headline(lead=silent, icon="down", word=silent, since=ollama.since)


def title(line: Headline, host: str, *, waiting: int, own_place: int | None = None) -> str:
    """Returns the text of the browser's tab: the viewer's place in line, else how many wait, comes first."""
    count = f"({waiting}) " if waiting else ""
    return f"{count if own_place is None else f'(you: {own_place}) '}{line.word} · gpushare on {host}"


def within(words: str) -> str:
    """Returns an estimate as the end of a sentence."""
    return f"in {words}" if words.startswith(("about", "more")) else words


def _nearest(value: float) -> int:
    """Returns the nearest whole number, halves up as a browser rounds them."""
    return math.floor(value + 0.5)


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    head = f"{large} {large_unit}"
    return f"{head} {small} {small_unit}" if small else head
