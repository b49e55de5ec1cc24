"""What every error has, and the wording they share."""

import math
from typing import ClassVar

from gpushare.core.model import Outcome

RETRY_AFTER_MAX_S = 30.0  # two widely used SDKs sleep for whatever they are told


class GpushareError(Exception):
    """Base of every error a caller can be shown.

    Class attributes give the public ``code``, the HTTP ``status``, the type words of the OpenAI and
    Anthropic error objects, and the ``outcome`` the call is recorded with.  ``retry`` is False where a
    client must not repeat the call although its status invites it to: Ollama may have done the work, or it
    would be in vain.
    """

    code: ClassVar[str] = "internal"
    status: int = 500
    openai_type: ClassVar[str] = "server_error"
    anthropic_type: ClassVar[str] = "api_error"
    outcome: Outcome = Outcome.INTERNAL_ERROR
    retry: ClassVar[bool] = True

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.headers: dict[str, str] = {}


class Fault(Exception):
    """An upstream failure, translated by the edge: nothing above it sees a socket exception.

    ``outcome`` is one of the ``upstream_*`` words; ``sent`` tells whether any byte of the request may have
    reached Ollama (then it is never sent again); ``why`` is a short phrase without input in it.
    """

    def __init__(self, outcome: Outcome, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.outcome = outcome
        self.why = why
        self.sent = sent


def spread_retry_s(base_s: float, jitter: float) -> int:
    """Returns whole seconds in [1, 30] for a base estimate.

    ``jitter`` in [0, 1) spreads the answer over 0.8 to 1.3 of the base, so that clients refused together do
    not return together.
    """
    return whole_retry_s(base_s * (0.8 + 0.5 * jitter))


def whole_retry_s(seconds: float) -> int:
    """Returns a ``Retry-After`` that every known client obeys: whole seconds in [1, 30]."""
    return int(min(RETRY_AFTER_MAX_S, max(1.0, math.ceil(seconds))))


def size_text(count: int) -> str:
    """Returns a size to read; rounded up, so that what is over a limit never reads as the limit."""
    unit, name = (1_000_000, "MB") if count >= 1_000_000 else (1000, "kB")
    return f"{math.ceil(10 * count / unit) / 10:g} {name}"


def span_text(seconds: float) -> str:
    """Returns a time to read, as in "45 s", "4 min" or "5 min 30 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 2:
        return f"{round(seconds)} s"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def again_text(seconds: float) -> str:
    """Returns the sentence that agrees with the header."""
    return f"Try again in about {whole_retry_s(seconds)} s."
