"""The request is good and cannot be taken now: 429 for a limit of the caller's, 503 for the server's."""

from gpushare.core.errors.base import GpushareError, again_text, span_text
from gpushare.core.model import Outcome


class Refused(GpushareError):
    """429: the caller's own limit, a full queue, or waited too long; try again later."""

    status = 429
    openai_type = "rate_limit_error"
    anthropic_type = "rate_limit_error"


class QueueFull(Refused):
    """429: as many wait as may wait."""

    code = "queue_full"
    outcome = Outcome.REJECTED_QUEUE_FULL

    def __init__(self, waiting: int, retry_after_s: float) -> None:
        super().__init__(
            f"The queue is full ({waiting} waiting). {again_text(retry_after_s)}", retry_after_s=retry_after_s
        )


class PersonLimit(Refused):
    """429: this person already has as many waiting as one person may have."""

    code = "person_limit"
    outcome = Outcome.REJECTED_KEY_LIMIT

    def __init__(self, waiting: int, limit: int, retry_after_s: float) -> None:
        yours = "1 request" if waiting == 1 else f"{waiting} requests"
        super().__init__(
            f"You already have {yours} waiting; one person may have {limit} here. "
            f"{again_text(retry_after_s)}",
            retry_after_s=retry_after_s,
        )


class WouldWaitTooLong(Refused):
    """429: the estimate says the call could not start within its wait limit."""

    code = "would_wait_too_long"
    outcome = Outcome.REJECTED_QUEUE_FULL

    def __init__(self, estimate_s: float, limit_s: float, retry_after_s: float) -> None:
        super().__init__(
            f"A request sent now would start in about {span_text(estimate_s)}; "
            f"the limit is {span_text(limit_s)}. {again_text(retry_after_s)}",
            retry_after_s=retry_after_s,
        )


class WaitedTooLong(Refused):
    """429: ``queue.max_wait`` is over."""

    code = "waited_too_long"
    outcome = Outcome.QUEUE_TIMEOUT

    def __init__(self, waited_s: float, ahead: int, retry_after_s: float) -> None:
        still = (
            "there was still 1 request ahead" if ahead == 1 else f"there were still {ahead} requests ahead"
        )
        place = still if ahead else "this request was next"
        super().__init__(
            f"Gave up after waiting {span_text(waited_s)}; {place}. {again_text(retry_after_s)}",
            retry_after_s=retry_after_s,
        )


class Unavailable(GpushareError):
    """503: nobody's limit; the server cannot start work now."""

    status = 503
    anthropic_type = "overloaded_error"


class Paused(Unavailable):
    """503: an admin paused the queue and the wait limit passed."""

    code = "paused"
    outcome = Outcome.QUEUE_TIMEOUT

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            f"The queue is paused by an admin. {again_text(retry_after_s)}", retry_after_s=retry_after_s
        )


class Draining(Unavailable):
    """503: the server is closing down, or an admin drains it."""

    code = "draining"
    outcome = Outcome.DRAINED

    def __init__(self, retry_after_s: float = 5.0) -> None:
        super().__init__(
            f"This server is closing down for maintenance. {again_text(retry_after_s)}",
            retry_after_s=retry_after_s,
        )


class Overloaded(Unavailable):
    """503: a shared budget (body memory, connections) is used up."""

    code = "overloaded"
    outcome = Outcome.REJECTED_OVERLOAD

    def __init__(self, what: str, retry_after_s: float) -> None:
        super().__init__(
            f"The server has no {what} left for another request. {again_text(retry_after_s)}",
            retry_after_s=retry_after_s,
        )


class AddressCrowded(Overloaded):
    """503: one address has as many connections open as it may have."""

    def __init__(self, limit: int, retry_after_s: float) -> None:
        Unavailable.__init__(
            self,
            f"Your address has {limit} connections open, and may have no more. {again_text(retry_after_s)}",
            retry_after_s=retry_after_s,
        )


class PersonCrowded(Overloaded):
    """503: one person's requests hold as much memory for bodies as they may."""

    def __init__(self, retry_after_s: float) -> None:
        Unavailable.__init__(
            self,
            f"Your requests hold as much memory for bodies as one person may. {again_text(retry_after_s)}",
            retry_after_s=retry_after_s,
        )


class KeysUnwritable(Unavailable):
    """503: the key file cannot be used or written now; keys work as before."""

    code = "keys_unwritable"

    def __init__(self, retry_after_s: float = 5.0) -> None:
        super().__init__(
            f"The key file cannot be changed now; nothing was done. {again_text(retry_after_s)}",
            retry_after_s=retry_after_s,
        )


class LedgerUnavailable(Unavailable):
    """503: the figures of the past cannot be read now; calls are served all the same."""

    code = "ledger_unavailable"

    def __init__(self, retry_after_s: float = 5.0) -> None:
        super().__init__(
            f"The usage ledger cannot be read now. {again_text(retry_after_s)}", retry_after_s=retry_after_s
        )
