"""What people are told of their own calls and terms, in words.

Called by: ``web.pages.me``.
"""

from gpushare.core.model import Outcome, Principal, Record, Service

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

TURNED_AWAY = frozenset(
    {
        Outcome.REJECTED_QUEUE_FULL,
        Outcome.REJECTED_KEY_LIMIT,
        Outcome.REJECTED_OVERLOAD,
        Outcome.QUEUE_TIMEOUT,
        Outcome.BREAKER_OPEN,
    }
)
"""Ends of calls that never had a turn, for a reason that is not the caller's."""


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
