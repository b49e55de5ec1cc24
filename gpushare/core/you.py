"""The "You" card: what a person's own requests come to, before any table is read.

Called by: the pages and their live stream.
"""

from dataclasses import dataclass
from typing import Literal

from gpushare.core.document import LastRequest, Running, Waiting, You
from gpushare.core.status import Rows
from gpushare.core.wording import ordinal

MOST = 3  # own waiting requests that are listed
_WORDS = ("", "next", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")

State = Literal["keyless", "stranger", "new", "nothing", "waiting", "running"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What the card shows.  ``waiting`` holds at most the first three of ``waits`` requests."""

    state: State
    who: str = ""
    running: tuple[Running, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    waits: int = 0
    share: float | None = None
    last: LastRequest | None = None

    @property
    def place(self) -> int | None:
        """The place in line of the first waiting request."""
        return self.waiting[0].position if self.waiting else None

    @property
    def sentence(self) -> str:
        """What a screen reader says when it changes."""
        if self.running:
            return "Your request is running."
        if self.place is None:
            return "You have nothing waiting."
        word = _WORDS[self.place] if self.place < len(_WORDS) else ordinal(self.place)
        return f"You are now {word} in line."


STRANGER = Card(state="stranger")
KEYLESS = Card(state="keyless")
"""What a stranger sees of a server that nobody has a key for yet."""


def card(rows: Rows, you: You | None) -> Card:
    """Returns the card of the viewer whose rows and last day these are; None is somebody without a key."""
    if you is None:
        return STRANGER
    running = tuple(row for row in rows.running if row.you)
    waiting = tuple(row for row in rows.waiting if row.you)
    state: State = "running" if running else "waiting" if waiting else "nothing"
    if state == "nothing" and not you.requests and you.last is None:
        state = "new"
    return Card(
        state=state,
        who=you.who,
        running=running,
        waiting=waiting[:MOST],
        waits=len(waiting),
        share=you.share,
        last=you.last,
    )
