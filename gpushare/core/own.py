"""What people are told of their own calls and terms, in words.

Called by: ``web.pages.me``.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime

from msgspec import Struct

from gpushare.core.model import Outcome, Phase, Principal, Record, Service
from gpushare.core.usage import Refusal, UsageRow, add_up

MOST_CALLS = 100  # rows of a list that somebody may read

OUTCOMES: dict[Outcome, str] = {
    Outcome.OK: "answered",
    Outcome.INVALID: "the request was wrong",
    Outcome.CLIENT_GONE_BODY: "the tool left before it had sent everything",
    Outcome.CLIENT_GONE_QUEUED: "the tool left while it waited",
    Outcome.CLIENT_GONE_RUNNING: "the tool left during the answer",
    Outcome.CLIENT_SLOW: "the tool stopped reading the answer",
    Outcome.REJECTED_QUEUE_FULL: "the queue was full, or the wait too long",
    Outcome.REJECTED_KEY_LIMIT: "you had as many waiting as one person may have",
    Outcome.REJECTED_OVERLOAD: "the server had no memory or connection left",
    Outcome.QUEUE_TIMEOUT: "it had waited as long as a request may",
    Outcome.BREAKER_OPEN: "Ollama did not answer",
    Outcome.UPSTREAM_REFUSED: "Ollama could not be reached",
    Outcome.UPSTREAM_RESET: "Ollama broke off",
    Outcome.UPSTREAM_TRUNCATED: "Ollama stopped in the middle of the answer",
    Outcome.UPSTREAM_PROTOCOL: "Ollama sent something that is no answer",
    Outcome.UPSTREAM_ERROR: "Ollama answered with an error",
    Outcome.UPSTREAM_BUSY: "Ollama was busy with work from elsewhere",
    Outcome.TIMEOUT_FIRST_BYTE: "Ollama did not begin to answer in time",
    Outcome.TIMEOUT_IDLE: "Ollama fell silent during the answer",
    Outcome.TIMEOUT_TOTAL: "the answer took longer than one may",
    Outcome.DRAINED: "the server closed down",
    Outcome.REVOKED: "the key was withdrawn",
    Outcome.CANCELLED: "cancelled",
    Outcome.LOST_CRASH: "the server stopped",
    Outcome.INTERNAL_ERROR: "a fault of gpushare",
}


def outcome(record: Record) -> str:
    """Returns how a call ended, in words."""
    if record.outcome is Outcome.OK and not record.delivered:
        return "answered, but the tool left before it had everything"
    return OUTCOMES[record.outcome]


def share(who: Principal, background_weight: float) -> str:
    """Returns what a person's weight and class are worth while others wait."""
    if who.service is Service.BACKGROUND:
        part = f"{100 * who.weight * background_weight:.0f} %"
        return f"Your key is a background key: while others wait it gets {part} of a normal share."
    if who.weight == 1:
        return "Your weight is 1: you get a normal share when others wait."
    times = {2.0: "twice", 0.5: "half"}.get(who.weight, f"{who.weight:g} times")
    return f"Your weight is {who.weight:g}: you get {times} a normal share when others wait."


class OwnCall(Struct, frozen=True, kw_only=True):
    """One call of the viewer's that ended; times that it did not get to are None."""

    ended: datetime
    tool: str
    model: str
    waited_s: float | None
    ran_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    outcome: str


class OwnRefusal(Struct, frozen=True, kw_only=True):
    """All calls of the viewer's that were turned away for one reason; ``last`` is the newest of them."""

    last: datetime
    count: int
    reason: str


class OwnDay(Struct, frozen=True, kw_only=True):
    """What was used on a day; ``part`` is its GPU time as a part of the busiest day's."""

    name: str
    slot_s: float
    requests: int
    part: float


class OwnUse(Struct, frozen=True, kw_only=True):
    """What a person used: today and in the days before, and each call of the last 24 hours.

    ``days`` has the newest first; ``since`` is the first day.  ``older`` is how many calls of the last 24
    hours are not listed.
    """

    since: str
    today: UsageRow
    week: UsageRow
    days: tuple[OwnDay, ...]
    calls: tuple[OwnCall, ...]
    older: int
    refusals: tuple[OwnRefusal, ...]


def use(days: Sequence[UsageRow], calls: Sequence[Record], refusals: Iterable[Refusal]) -> OwnUse:
    """Returns what a page shows of a person's use.

    Args:
        days: today last.
        calls: newest first.
        refusals: newest first.
    """
    most = max(row.slot_s for row in days) or 1.0
    return OwnUse(
        since=days[0].name,
        today=days[-1],
        week=add_up(days),
        days=tuple(_day(row, most) for row in reversed(days)),
        calls=tuple(_call(record) for record in calls[:MOST_CALLS]),
        older=len(calls[MOST_CALLS:]),
        refusals=tuple(_sums(refusals)),
    )


def _day(row: UsageRow, most: float) -> OwnDay:
    day = date.fromisoformat(row.name)
    return OwnDay(
        name=f"{day:%a} {day.day} {day:%b}", slot_s=row.slot_s, requests=row.requests, part=row.slot_s / most
    )


def _call(record: Record) -> OwnCall:
    started = record.phase not in (Phase.REQUEST, Phase.QUEUE)
    return OwnCall(
        ended=_instant(record.ended_at),
        tool=record.tool,
        model=record.model,
        waited_s=record.waited_s,
        ran_s=record.total_s - (record.waited_s or 0.0) if started else None,
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        outcome=outcome(record),
    )


def _sums(refusals: Iterable[Refusal]) -> Iterator[OwnRefusal]:
    """Yields one row for each reason, the one that was met last first."""
    by_reason: dict[Outcome, list[Refusal]] = {}
    for row in refusals:
        by_reason.setdefault(row.outcome, []).append(row)
    for reason, rows in by_reason.items():
        yield OwnRefusal(
            last=_instant(rows[0].at), count=sum(row.count for row in rows), reason=OUTCOMES[reason]
        )


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
