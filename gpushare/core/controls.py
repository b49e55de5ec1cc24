"""What admins do to the queue: each control, and what it means for whom, told before and after.

Called by: the admin page and ``gpushare queue``, so that both say the same.
"""

from enum import StrEnum

from msgspec import Struct


class Control(StrEnum):
    """One thing to do to the whole queue."""

    PAUSE = "pause"
    RESUME = "resume"
    DRAIN = "drain"


class Controls(Struct, frozen=True, kw_only=True):
    """``gpushare.controls/1``: how the queue stands, in requests."""

    schema: str = "gpushare.controls/1"
    paused: bool
    draining: bool
    running: int
    waiting: int


def before(control: Control, *, running: int, people: int) -> str:
    """Returns what a control will do to whom.

    Args:
        control: what somebody thinks of doing.
        running: requests that run.
        people: persons who wait.
    """
    finish = "Nothing is running." if not running else f"{_requests(running)} running and will finish."
    match control:
        case Control.PAUSE:
            stay = f"{_waiting(people)}; {_they(people)} waiting." if people else _waiting(people) + "."
            return f"{stay} {finish} Nothing else starts until you resume."
        case Control.DRAIN:
            whose = "their requests are" if people > 1 else "that person's requests are"
            away = f"{_waiting(people)}; {whose} turned away now." if people else _waiting(people) + "."
            return f"{away} {finish} New requests are turned away until you resume."
        case Control.RESUME:
            return "Waiting requests start again, and new ones are taken."


def unloading(model: str, running: int) -> str:
    """Returns what unloading a model will do; ``running`` requests use it."""
    first = f"{_requests(running)} running on {model} and will finish first. " if running else ""
    return f"{first}The next request for {model} loads it again, which takes a while."


def standing(controls: Controls) -> str:
    """Returns how the queue stands."""
    word = "Draining" if controls.draining else "Paused" if controls.paused else "Open"
    return f"{word}: {controls.running} running, {controls.waiting} waiting."


def _requests(count: int) -> str:
    return "1 request is" if count == 1 else f"{count} requests are"


def _waiting(people: int) -> str:
    return {0: "Nobody is waiting", 1: "1 person is waiting"}.get(people, f"{people} people are waiting")


def _they(people: int) -> str:
    return "that person keeps" if people == 1 else "they keep"
