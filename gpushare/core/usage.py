"""What was used, by whom and for what: the figures of the ledger, put together and written down.

Called by: ``edge.store``, which fills these types; the pages and commands, which show them.  Rules: what
nobody measured is None and never zero; times are seconds, energy is joules; a cell that a spreadsheet would
take for a formula is made inert.
"""

import re
from collections.abc import Iterable
from datetime import date, datetime
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from gpushare.core.forms import span
from gpushare.core.model import Outcome

FORMATS = ("json", "csv")
COLUMNS = ("requests", "slot_s", "share", "tokens_in", "tokens_out", "waited_s", "energy_j")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_YEARS = range(1971, 9999)  # whatever the zone, instants of these can be written down
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class By(StrEnum):
    """What usage is told apart by."""

    PERSON = "person"
    MODEL = "model"
    DAY = "day"
    TOOL = "tool"


class Since(Struct, frozen=True, kw_only=True):
    """Where a report begins: so many seconds ago, or with a day (as in ``2026-11-20``) of the server."""

    seconds: float | None = None
    day: str = ""


class UsageRow(Struct, frozen=True, kw_only=True):
    """What one person, model, day or tool used, or all together.

    ``share`` is the part of all slot-seconds of the report, None where there were none.  ``tokens_in``,
    ``tokens_out`` and ``energy_j`` are sums over the calls of which they are known, None where there were
    calls and they are known of none: Ollama counts tokens at the end, so nobody knows those of an answer that
    broke off.
    """

    name: str
    requests: int = 0
    slot_s: float = 0.0
    share: float | None = None
    tokens_in: int | None = 0
    tokens_out: int | None = 0
    waited_s: float = 0.0
    energy_j: float | None = None


class Usage(Struct, frozen=True, kw_only=True):
    """``gpushare.usage/1``: a report, for one person or for all.

    Only calls that had a place in the queue count, those that gave up waiting included.  ``price_per_kwh`` is
    None where none is configured.
    """

    schema: str = "gpushare.usage/1"
    now: datetime
    since: datetime
    by: By
    rows: tuple[UsageRow, ...]
    total: UsageRow
    price_per_kwh: float | None = None
    currency: str = ""


class KeyUse(Struct, frozen=True, kw_only=True):
    """What a key used since some instant, and when it was last used at all (seconds since 1970)."""

    slot_s: float
    last_used: float


class Refusal(Struct, frozen=True, kw_only=True):
    """So many calls of a person that were turned away alike in a minute; ``at`` is seconds since 1970."""

    at: float
    outcome: Outcome
    count: int


class DayLoad(Struct, frozen=True, kw_only=True):
    """How a day went: what 95 % waited at most, and how much of the busy time went into loading models."""

    day: str
    requests: int
    wait_p95_s: float | None
    busy_s: float
    load_s: float


def parse_since(text: str) -> Since:
    """Reads ``24h``, ``7d`` or a day such as ``2026-11-20``.

    Raises:
        ValueError: it is none of these, or no day that any ledger could know.
    """
    if _DAY.fullmatch(text):
        day = date.fromisoformat(text)
        if day.year not in _YEARS:
            raise ValueError(text)
        return Since(day=day.isoformat())
    return Since(seconds=span(text))


def report(rows: Iterable[UsageRow], *, by: By, since: datetime, now: datetime) -> Usage:
    """Returns a report with shares and a total: days in their order, all else by slot-seconds."""
    total = add_up(rows := tuple(rows))
    shared = [
        replace(row, share=round(row.slot_s / total.slot_s, 4) if total.slot_s else None) for row in rows
    ]
    ordered = sorted(shared, key=lambda row: (0.0 if by is By.DAY else -row.slot_s, row.name))
    return Usage(now=now, since=since, by=by, rows=tuple(ordered), total=total)


def priced(usage: Usage, price_per_kwh: float, currency: str) -> Usage:
    """Returns a report that also says what energy costs; 0 is no price."""
    return replace(usage, price_per_kwh=price_per_kwh, currency=currency) if price_per_kwh else usage


def add_up(rows: Iterable[UsageRow]) -> UsageRow:
    """Returns what these used together."""
    rows = tuple(row for row in rows if row.requests)
    energy = [row.energy_j for row in rows if row.energy_j is not None]
    return UsageRow(
        name="total",
        requests=sum(row.requests for row in rows),
        slot_s=sum(row.slot_s for row in rows),
        tokens_in=_tokens(row.tokens_in for row in rows),
        tokens_out=_tokens(row.tokens_out for row in rows),
        waited_s=sum(row.waited_s for row in rows),
        energy_j=sum(energy) if energy else None,
    )


def _tokens(counts: Iterable[int | None]) -> int | None:
    """Returns the sum of those that are known, None if none of them is."""
    counts = tuple(counts)
    known = [count for count in counts if count is not None]
    return sum(known) if known or not counts else None


def csv(usage: Usage) -> str:
    """Returns a report as comma-separated values; what nobody knows is empty."""
    lines = [",".join((usage.by.value, *COLUMNS))]
    lines += [
        ",".join((_text(row.name), *(_number(getattr(row, column)) for column in COLUMNS)))
        for row in usage.rows
    ]
    return "".join(f"{line}\r\n" for line in lines)


def _text(value: str) -> str:
    """Returns a quoted cell; an apostrophe keeps spreadsheets from computing it."""
    inert = f"'{value}" if value.startswith(_FORMULA) else value
    return '"{}"'.format(inert.replace('"', '""'))


def _number(value: float | None) -> str:
    return "" if value is None else str(round(value, 3))
