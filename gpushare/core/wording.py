"""How numbers, times and states are put into words, the same on the page and in the terminal.

Called by: the status page.  Rules: an estimate is coarse on purpose, because a precise one that is wrong is
worse than none; the steps are those a person would say.
"""

import math
from dataclasses import dataclass

from gpushare.core.document import Document, State
from gpushare.core.views import Delay, Reason

NO_ESTIMATE = "no estimate yet"
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The page's first line; ``icon`` is ``idle``, ``busy`` or ``down``, ``title`` the browser tab's text."""

    text: str
    icon: str
    title: str


def estimate(seconds: float | None) -> str:
    """Returns when something starts: ``about 25 s``, or that nobody knows."""
    if seconds is None:
        return NO_ESTIMATE
    if seconds <= 0:
        return "any moment"
    if seconds < 8:
        return "in a few seconds"
    if seconds < 57.5:
        return f"about {5 * round(seconds / 5)} s"
    if seconds < 10 * _MINUTE_S:
        return f"about {duration(30 * round(seconds / 30))}"
    return "more than 10 min"


def newcomer(seconds: float | None) -> str:
    """Returns when a new request would start, as a sentence."""
    if seconds is None:
        return "There is no estimate yet for a new request."
    if seconds <= 0:
        return "A new request would start at once."
    return f"A new request would start {_within(estimate(seconds))}."


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


def at_most(seconds: float) -> str:
    """Returns a measured length of time, rounded up to what it is under."""
    return duration(math.ceil(seconds))


def size(count: int) -> str:
    """Returns bytes as graphics cards are sold, so that a card of 24 GB has 24.0: ``19.8 GB``."""
    return f"{count / 1024**3:.1f} GB"


def number(count: int) -> str:
    """Returns a whole number with its thousands set apart by narrow spaces that do not break."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def percent(part: float) -> str:
    """Returns a part of 1 in percent."""
    return f"{100 * part:.0f}\N{NARROW NO-BREAK SPACE}%"


def headline(status: Document) -> Headline:
    """Returns the sentence that answers "what is going on" before any table does."""
    text, icon, word = _headline(status)
    count = f"({len(status.waiting)}) " if status.waiting else ""
    return Headline(text=text, icon=icon, title=f"{count}{word} · gpushare on {status.host}")


def _headline(status: Document) -> tuple[str, str, str]:
    """Returns the line, the icon and the one word for the tab."""
    running, waiting = len(status.running), len(status.waiting)
    match status.state:
        case State.FREE:
            return "Free: a request starts at once", "idle", "Free"
        case State.STARTING:
            return "Starting", "idle", "Starting"
        case State.BUSY:
            queue = f"{waiting} waiting" if waiting else "nobody waiting"
            return f"Busy: {running} running, {queue}", "busy", "Busy"
        case State.SWAP:
            model = next(row.model for row in status.running if row.swap)
            queue = f"{waiting} waiting" if waiting else "nobody waiting"
            return f"Loading {model}, {queue}", "busy", "Loading"
        case State.FULL:
            return f"Full: {waiting} waiting, new requests are turned away for now", "down", "Full"
        case State.PAUSED:
            return "Paused by an admin: requests wait", "down", "Paused"
        case State.DRAINING:
            closing = "Closing down: running requests finish, new ones are turned away"
            return closing, "down", "Closing down"
        case State.OLLAMA_DOWN:
            return f"Ollama does not answer{_for_how_long(status)}", "down", "Ollama does not answer"


def _for_how_long(status: Document) -> str:
    since = status.ollama.since
    return f" (for {duration((status.now - since).total_seconds())})" if since else ""


def _within(words: str) -> str:
    """Returns an estimate as the end of a sentence."""
    return f"in {words}" if words.startswith(("about", "more")) else words


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    head = f"{large} {large_unit}"
    return f"{head} {small} {small_unit}" if small else head
