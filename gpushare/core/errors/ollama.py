"""A call that was taken and went wrong: Ollama, the client, a restart, or a fault of ours."""

from gpushare.core.errors.base import GpushareError, again_text, span_text
from gpushare.core.errors.queue import Unavailable
from gpushare.core.model import Outcome


class OllamaDown(Unavailable):
    """502 for a failed dial, 503 while the breaker is open."""

    code = "ollama_down"
    outcome = Outcome.UPSTREAM_REFUSED

    def __init__(self, why: str, *, breaker_open: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(
            f"Ollama does not answer ({why}). Nothing to fix on your side.", retry_after_s=retry_after_s
        )
        self.why = why
        self.status = 503 if breaker_open else 502
        if breaker_open:
            self.outcome = Outcome.BREAKER_OPEN


class ModelFailing(Unavailable):
    """503: one model has failed several times in a row; the others run."""

    code = "model_failing"
    outcome = Outcome.BREAKER_OPEN

    def __init__(self, model: str, retry_after_s: float) -> None:
        super().__init__(
            f'Ollama keeps failing with the model "{model}"; it may not fit into GPU memory. '
            f"Other models work. {again_text(retry_after_s)}",
            retry_after_s=retry_after_s,
        )


class OllamaBusy(Unavailable):
    """503: something else is using Ollama around the queue."""

    code = "ollama_busy"
    outcome = Outcome.UPSTREAM_BUSY

    def __init__(self, retry_after_s: float = 2.0) -> None:
        super().__init__(
            f"Ollama is busy with work that did not come through this queue. {again_text(retry_after_s)}",
            retry_after_s=retry_after_s,
        )


class OllamaBroken(GpushareError):
    """502: the answer broke off or was no answer; the work may have been done, so no automatic retry."""

    code = "ollama_error"
    status = 502
    outcome = Outcome.UPSTREAM_RESET
    retry = False

    def __init__(self, what: str, outcome: Outcome = Outcome.UPSTREAM_RESET) -> None:
        super().__init__(f"Ollama {what}, and the request was ended. Send it again if you still need it.")
        self.outcome = outcome


class OllamaSilent(GpushareError):
    """504: no first byte, or no next one, or no end, in time."""

    code = "ollama_silent"
    status = 504
    outcome = Outcome.TIMEOUT_FIRST_BYTE
    retry = False

    def __init__(self, seconds: float, outcome: Outcome) -> None:
        if outcome is Outcome.TIMEOUT_TOTAL:
            what = f"The answer was not finished after {span_text(seconds)} and the request was ended."
        else:
            what = f"Ollama sent nothing for {span_text(seconds)} and the request was ended."
        if outcome is Outcome.TIMEOUT_FIRST_BYTE:
            what += " The model may not fit into GPU memory."
        super().__init__(what)
        self.outcome = outcome


class ClientSlow(GpushareError):
    """In-band only: the client stopped reading."""

    code = "client_slow"
    status = 408
    outcome = Outcome.CLIENT_SLOW
    retry = False

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The client read nothing for {span_text(seconds)} and the request was ended.")


class Restarting(Unavailable):
    """In-band: a running answer cut by the end of the shutdown grace."""

    code = "draining"
    outcome = Outcome.DRAINED

    def __init__(self) -> None:
        super().__init__("The server is restarting and the answer was cut off. Send the request again.")


class Cancelled(GpushareError):
    """410, or in-band: somebody ended the call on purpose, so nothing may send it again by itself."""

    code = "cancelled"
    status = 410
    openai_type = "invalid_request_error"  # no type that a client repeats a request for
    anthropic_type = "invalid_request_error"
    outcome = Outcome.CANCELLED
    retry = False

    def __init__(self, *, by_admin: bool = False) -> None:
        super().__init__(
            "An admin of this server cancelled this request."
            if by_admin
            else "This request was cancelled, on the status page or from a terminal."
        )


class Internal(GpushareError):
    """500: a fault of ours; what was done before it is not known, so no automatic retry."""

    code = "internal"
    retry = False

    def __init__(self, request_id: str) -> None:
        super().__init__(f"Something went wrong inside gpushare. Tell the admin: [{request_id}]")
