"""What ``gpushare top`` knows, and how keys change it.

Rules: nothing is drawn, read or sent here, and the time is an argument; so every key is tested without a
terminal.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeVar

from gpushare.cli.feed import Lost
from gpushare.core.document import Document, Running, Waiting

INTERVALS_S = (1.0, 2.0, 5.0, 10.0)
SORTS = ("order", "who", "model", "time")
HISTORY = 300  # values kept of how many requests wait

R = TypeVar("R", Running, Waiting)


class Quit(NamedTuple):
    """The person has seen enough."""


class Cancel(NamedTuple):
    """The request of this id is to end."""

    id: str


@dataclass(slots=True, kw_only=True)
class State:
    """Everything that decides what is on the screen.

    ``document`` is what is shown and ``newest`` what was last heard; they differ while the display is paused
    or the interval is not over.  ``selected`` is the id of a request.  ``typing`` tells that keys go into
    ``filter``; ``asks`` is the id of a request that an admin is asked about.
    """

    document: Document | None = None
    newest: Document | None = None
    shown_at: float = 0.0
    lost: Lost | None = None
    paused: bool = False
    selected: str = ""
    sort: str = SORTS[0]
    reverse: bool = False
    filter: str = ""
    typing: bool = False
    models: bool = False
    help: bool = False
    asks: str = ""
    said: str = ""
    is_admin: bool = False
    interval_s: float = INTERVALS_S[0]
    history: deque[int] = field(default_factory=lambda: deque(maxlen=HISTORY))

    def hear(self, document: Document, now: float) -> None:
        """Takes a new document in, and shows it if it is time."""
        self.newest, self.lost = document, None
        self.history.append(len(document.waiting))
        self.tick(now)

    def tick(self, now: float) -> None:
        """Shows the newest document once the interval is over."""
        early = self.document is not None and now - self.shown_at < self.interval_s - 0.1
        if self.newest is not None and self.newest is not self.document and not self.paused and not early:
            self.document, self.shown_at = self.newest, now

    def age_s(self, now: float) -> float:
        """Returns how long ago the shown document was taken; it stands still where the picture does."""
        return 0.0 if self.paused or self.lost else max(0.0, now - self.shown_at)

    @property
    def running(self) -> list[Running]:
        """The running requests, in the order of the screen."""
        return self._sorted(self.document.running) if self.document else []

    @property
    def waiting(self) -> list[Waiting]:
        """The waiting requests, in the order of the screen."""
        return self._sorted(self.document.waiting) if self.document else []

    @property
    def rows(self) -> list[Running | Waiting]:
        """All requests, in the order of the screen."""
        return [*self.running, *self.waiting]

    def _sorted(self, rows: Iterable[R]) -> list[R]:
        wanted = self.filter.lower()
        fitting = [row for row in rows if wanted in f"{row.who} {row.model}".lower()]
        order = sorted(
            range(len(fitting)),
            key=lambda index: (_worth(fitting[index], self.sort), index),
            reverse=self.reverse,
        )
        return [fitting[index] for index in order]


def press(state: State, key: str) -> Quit | Cancel | None:
    """Changes the state as a key asks for, and returns what is left to do.

    ``key`` is a character, or one of ``up``, ``down``, ``enter``, ``backspace`` and ``escape``.
    """
    state.said = ""
    if state.typing:
        _type(state, key)
    elif state.asks:
        asked, state.asks = state.asks, ""
        return Cancel(asked) if key in ("y", "Y") else None
    elif key in ("q", "Q", "escape"):
        if key == "escape" and (state.help or state.filter):
            state.help, state.filter = False, ""
            return None
        return Quit()
    elif key == "c":
        return _cancel(state)
    else:
        _look(state, key)
    return None


def _type(state: State, key: str) -> None:
    if key == "escape":
        state.filter, state.typing = "", False
    elif key == "enter":
        state.typing = False
    elif key == "backspace":
        state.filter = state.filter[:-1]
    elif len(key) == 1:
        state.filter += key


def _cancel(state: State) -> Cancel | None:
    row = next((row for row in state.rows if row.id == state.selected), None)
    if row is None:
        state.said = "Select a request first, with the arrow keys."
    elif row.you:
        return Cancel(row.id)
    elif state.is_admin:
        state.asks = row.id
    else:
        state.said = "Only your own requests can be cancelled."
    return None


def _look(state: State, key: str) -> None:
    """Changes what is looked at, and how."""
    match key:
        case "up" | "k":
            _move(state, -1)
        case "down" | "j":
            _move(state, 1)
        case "p":
            state.paused = not state.paused
        case "s":
            state.sort = SORTS[(SORTS.index(state.sort) + 1) % len(SORTS)]
        case "r":
            state.reverse = not state.reverse
        case "/":
            state.typing, state.filter = True, ""
        case "d":
            state.models = not state.models
        case "+" | "-":
            step = 1 if key == "+" else -1
            index = INTERVALS_S.index(state.interval_s) + step
            state.interval_s = INTERVALS_S[min(max(index, 0), len(INTERVALS_S) - 1)]
        case "?" | "h":
            state.help = not state.help


def _move(state: State, step: int) -> None:
    """Selects the next row; the first one or the last one where none is."""
    ids = [row.id for row in state.rows]
    if not ids:
        return
    if state.selected in ids:
        index = min(max(ids.index(state.selected) + step, 0), len(ids) - 1)
    else:
        index = 0 if step > 0 else -1
    state.selected = ids[index]


def _worth(row: Running | Waiting, sort: str) -> str | datetime:
    """Returns what a row is sorted by."""
    match sort:
        case "who":
            return row.who.lower()
        case "model":
            return row.model
        case "time":
            return row.started if isinstance(row, Running) else row.since
    return ""
