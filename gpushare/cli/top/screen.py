"""How ``gpushare top`` looks: a state and a size in, lines out.

Rules: a pure function of its arguments; every line fits the width, all lines the height; the selected row is
never out of sight; nothing that came from a server reaches the terminal with its control characters.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from rich.cells import cell_len, set_cell_size
from rich.console import Group
from rich.text import Text

from gpushare.cli.status import newcomer, progress, remark, who
from gpushare.cli.top.state import State
from gpushare.core import wording
from gpushare.core.document import Document, LastDay, Running, Waiting
from gpushare.core.gpu_status import line as gpu_line
from gpushare.core.problems import printable

HELP = (
    ("q Esc", "quit"),
    ("up down k j", "select a request"),
    ("c", "cancel the selected request: your own; admins any, once asked"),
    ("p", "pause the display, and go on"),
    ("s", "sort by the next column: order of the queue, who, model, time"),
    ("r", "reverse the order"),
    ("/", "only rows that hold a text; Enter: done, Esc: all rows again"),
    ("d", "people or models below"),
    ("+ -", "slower, quicker: every 1, 2, 5 or 10 seconds"),
    ("?", "this help"),
)
BARS = "▁▂▃▄▅▆▇█"
GREY = "bright_black"
_TAKING = ("busy", "swap")  # states of the server in which a new request would start after a while


def render(state: State, *, width: int, height: int, now: float) -> Group:
    """Returns the whole screen, exactly ``height`` lines.

    Args:
        state: what is known.
        width: columns of the terminal.
        height: lines of the terminal.
        now: monotonic seconds.
    """
    if state.help:
        body = [_line(f"  {keys:<13}{what}", width) for keys, what in (("", ""), *HELP)]
    elif state.document is None:
        body = [_line("Waiting for the first answer", width, GREY)]
    else:
        body = _Picture(state, state.document, width, now).lines(height - 1)
    shown = [*body, *[Text("")] * height][: height - 1]
    if state.lost and not state.help:
        shown = [shown[0], *(Text(line.plain, GREY) for line in shown[1:])]
    for line in shown:
        line.truncate(width)
    return Group(*shown, _foot(state, width))


class _Picture:
    """One document at one moment, in a window of one width."""

    def __init__(self, state: State, document: Document, width: int, now: float) -> None:
        self._state = state
        self._document = document
        self._width = width
        self._now = document.now + timedelta(seconds=state.age_s(now))

    def lines(self, height: int) -> list[Text]:
        """Returns what there is to see; only its first ``height`` lines count."""
        head = list(self._head())[: max(1, height - 6)]
        running, waiting = self._state.running, self._state.waiting
        # Two tables, each with a blank line and a header; what is below takes what they leave.
        room = max(2, height - len(head) - 4)
        for_running = min(len(running), max(1, room // 3, room - len(waiting)))
        lines = [*head, Text(""), *self._running(running, for_running)]
        if waiting:
            lines += [Text(""), *self._waiting(waiting, max(1, room - for_running))]
        return [*lines, Text(""), *self._below()]

    def _head(self) -> Iterator[Text]:
        """Yields the headline, when a new request would start, notices, and how busy it was."""
        document, width = self._document, self._width
        yield _two(printable(wording.opening(document)), printable(self._corner()), width)
        if document.state in _TAKING:  # at other times the headline says it, or none is taken
            yield _line(newcomer(document, self._left(document.new_request_starts_in_s)), width, GREY)
        for notice in document.notices:
            yield _line(f"! {notice.text}", width, "red" if notice.level == "bad" else "yellow")
        gpus = document.gpus or ()
        for gpu in gpus:
            text = printable(gpu_line(gpu, alone=len(gpus) == 1))
            busy = sparkline(gpu.busy_history, width - cell_len(text) - 2, top=1.0)
            yield _line(f"{text}  {busy}", width, GREY if gpu.lost else "")
        if not gpus:
            text = f"Waiting {len(document.waiting)}"
            yield _line(f"{text}  {sparkline(self._state.history, width - len(text) - 2)}", width)

    def _corner(self) -> str:
        """Returns host and time, or why the picture stands still and since when."""
        taken = f"{self._now.astimezone():%H:%M:%S}"
        if self._state.lost:
            return f"No connection since {taken}, try {self._state.lost.tries}"
        return f"Paused at {taken}" if self._state.paused else f"{self._document.host} · {taken}"

    def _running(self, rows: Sequence[Running], count: int) -> list[Text]:
        cells = [(">", who(row), row.model, self._since(row.started), *progress(row)) for row in rows]
        return self._table(("", "who", "model", "running", "tokens", "speed"), rows, cells, count)

    def _waiting(self, rows: Sequence[Waiting], count: int) -> list[Text]:
        cells = [
            (
                str(row.position),
                who(row),
                row.model,
                self._since(row.since),
                wording.estimate(self._left(row.starts_in_s)),
                self._remark(row),
            )
            for row in rows
        ]
        return self._table(("#", "who", "model", "waited", "starts in", ""), rows, cells, count)

    def _table(
        self,
        headers: Sequence[str],
        rows: Sequence[Running | Waiting],
        cells: Sequence[Sequence[str]],
        count: int,
    ) -> list[Text]:
        """Returns a header and ``count`` rows, the selected one among them."""
        widths = _widths(self._width, remarks=not headers[-1])
        head = _row([header.upper() for header in headers], widths, headers, GREY)
        if len(rows) > count:
            head = _two(head.plain, f"{len(rows) - count} more", self._width, style=GREY)
        chosen = next((index for index, row in enumerate(rows) if row.id == self._state.selected), -1)
        start = max(0, chosen - count + 1)
        lines = [head]
        for row, line in list(zip(rows, cells, strict=True))[start : start + count]:
            style = "bold" if row.you else ""
            selected = row.id == self._state.selected
            lines.append(_row(line, widths, headers, f"{style} reverse".strip() if selected else style))
        return lines

    def _below(self) -> Iterator[Text]:
        """Yields the last day's people, or the models in memory."""
        document, width = self._document, self._width
        if self._state.models:
            yield _line(f"{'MODEL IN MEMORY':<40}{'MEMORY':>10}{'CONTEXT':>12}", width, GREY)
            for model in document.models:
                context = wording.number(model.context) if model.context else ""
                size = wording.size(model.vram_bytes)
                yield _line(f"{set_cell_size(printable(model.name), 40)}{size:>10}{context:>12}", width)
        elif isinstance(document.day, LastDay):
            yield _line(f"{'LAST 24 HOURS':<24}{'GPU TIME':>14}{'SHARE':>8}{'REQUESTS':>10}", width, GREY)
            for person in document.day.people:
                name = f"{person.who} (you)" if person.you else person.who
                share = "" if person.share is None else wording.percent(person.share)
                requests = wording.number(person.requests)
                cells = f"{wording.spent(person.slot_s):>14}{share:>8}{requests:>10}"
                style = "bold" if person.you else ""
                yield _line(f"{set_cell_size(printable(name), 24)}{cells}", width, style)

    def _since(self, instant: datetime) -> str:
        return wording.duration((self._now - instant).total_seconds())

    def _remark(self, row: Waiting) -> str:
        """Returns why a request starts late, in one word where there is no room for more."""
        room = _widths(self._width, remarks=True)[-1]
        text = remark(row)
        return text if cell_len(text) <= room else "later" if row.reason else "loads"

    def _left(self, seconds: float | None) -> float | None:
        """Returns the time that is left of an estimate; it never counts below zero."""
        passed_s = (self._now - self._document.now).total_seconds()
        return None if seconds is None else max(0.0, seconds - passed_s)


def sparkline(values: Iterable[float | None], width: int, *, top: float = 0.0) -> str:
    """Returns the last values as a row of bars; what nobody knows is blank.

    Args:
        values: oldest first.
        width: how many bars there is room for.
        top: what the highest bar stands for; 0 for the highest value.
    """
    shown = list(values)[-width:] if width > 0 else []
    highest = top or max((value for value in shown if value), default=1.0)

    def bar(value: float | None) -> str:
        return " " if value is None else BARS[round(min(1.0, value / highest) * (len(BARS) - 1))]

    return "".join(map(bar, shown))


def _foot(state: State, width: int) -> Text:
    """Returns the bottom line: a question, an answer, the filter, or the keys."""
    if state.asks:
        return _line("Cancel somebody else's request?  y: yes   any other key: no", width, "reverse")
    if state.typing:
        return _line(f"/{state.filter}_", width, "reverse")
    if state.said:
        return _line(state.said, width, "reverse")
    only = f"only: {state.filter}  " if state.filter else ""
    order = f"{state.sort} reversed" if state.reverse else state.sort
    other = "people" if state.models else "models"
    keys = (
        f"q quit  ? help  ↑↓ select  c cancel  p pause  s {order}  / filter  d {other}  "
        f"+- {state.interval_s:g} s"
    )
    return _line(only + keys, width, GREY)


def _widths(width: int, *, remarks: bool) -> tuple[int, ...]:
    """Returns the widths of the columns; the tables share them, but for remarks, which take what is left."""
    marker, name, times, middle, speed = 2, max(12, min(24, width // 6)), 10, 16, 8
    left = width - (marker + name + times + middle) - 10
    model = max(8, min(40, left - speed))
    return (marker, name, model, times, middle, max(speed, left - model) if remarks else speed)


def _row(cells: Sequence[str], widths: Sequence[int], headers: Sequence[str], style: str) -> Text:
    right = {"running", "waited", "tokens", "speed"}
    padded = []
    for cell, width, header in zip(cells, widths, headers, strict=True):
        text = printable(cell)
        if header in right:
            text = f"{'':<{max(0, width - cell_len(text))}}{text}"
        padded.append(set_cell_size(text, width))
    return Text("  ".join(padded), style)


def _two(left: str, right: str, width: int, *, style: str = "bold") -> Text:
    """Returns a line with its two ends apart; the left one gives way."""
    right = set_cell_size(right, min(cell_len(right), width // 2))
    room = max(0, width - cell_len(right) - 2)
    return Text.assemble((set_cell_size(left, room), style), "  ", (right, GREY))


def _line(text: str, width: int, style: str = "") -> Text:
    shown = printable(text)
    return Text(set_cell_size(shown, width) if cell_len(shown) > width else shown, style)
