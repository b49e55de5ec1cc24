"""What can go wrong, and how each error looks over HTTP in each dialect.

Rules: code raises one of these types; nobody outside this module writes a status number, an error body or
an error sentence.  A sentence says what happened, why, and what to do next.  ``render`` is used before the
first byte of an answer, ``render_event`` after it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gpushare.core.model import Dialect, Framing, Outcome

_PICTURE_BYTES = 4_000_000  # a route with a smaller limit takes no pictures
RETRY_AFTER_MAX_S = 30.0  # two widely used SDKs sleep for whatever they are told


class GpushareError(Exception):
    """Base of every error a caller can be shown.

    Class attributes give the public ``code``, the HTTP ``status``, the type words of the OpenAI and
    Anthropic error objects, and the ``outcome`` the call is recorded with.  ``retry`` is False where a
    client must not repeat the call although its status invites it to (Ollama may have done the work).
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


class InvalidRequest(GpushareError):
    """400: the request is understood and wrong."""

    code = "malformed_body"
    status = 400
    openai_type = "invalid_request_error"
    anthropic_type = "invalid_request_error"
    outcome = Outcome.INVALID


class BadJson(InvalidRequest):
    """400: the body is not one JSON object."""

    code = "bad_json"


class TwoKeys(InvalidRequest):
    """400: one request carries two different keys, so it has no one identity."""

    code = "two_keys"

    def __init__(self) -> None:
        super().__init__("The request carries two different gpushare keys. Send one of them.")


class UnsupportedMedia(InvalidRequest):
    """415: a body in a form that is not read here."""

    code = "unsupported_media"
    status = 415


class BodyTooLarge(InvalidRequest):
    """413: more bytes than ``server.max_body``."""

    code = "body_too_large"
    status = 413
    anthropic_type = "request_too_large"

    def __init__(self, limit: int, declared: int | None = None) -> None:
        size = f"The request is {_size(declared)}" if declared else "The request is too large"
        why = " Pictures are the usual reason." if limit > _PICTURE_BYTES else ""
        super().__init__(f"{size}; the limit here is {_size(limit)}.{why}")


class MalformedRequest(InvalidRequest):
    """400: not a request of the HTTP that is understood here; what was sent is never quoted."""

    code = "malformed_request"

    def __init__(self, what: str = "request") -> None:
        super().__init__(f"The HTTP {what} is not valid here. The connection is closed.")


class RequestTimeout(InvalidRequest):
    """408: the headers or the body did not arrive in time."""

    code = "request_timeout"
    status = 408
    outcome = Outcome.CLIENT_GONE_BODY

    def __init__(self, seconds: float, part: str = "body") -> None:
        super().__init__(f"The request {part} did not arrive within {seconds:.0f} s. Send it again.")


class ExpectationFailed(InvalidRequest):
    """417: an ``Expect`` header other than ``100-continue``."""

    code = "expectation_failed"
    status = 417

    def __init__(self) -> None:
        super().__init__('Only "Expect: 100-continue" is understood. Leave the header out.')


class KeyProblem(GpushareError):
    """401: no key, or none that is valid here."""

    code = "key_unknown"
    status = 401
    openai_type = "authentication_error"
    anthropic_type = "authentication_error"
    outcome = Outcome.INVALID

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.headers["WWW-Authenticate"] = 'Bearer realm="gpushare"'


class KeyMissing(KeyProblem):
    """401: no key at all."""

    code = "key_missing"

    def __init__(self, base_url: str) -> None:
        super().__init__(
            'This GPU is shared and needs a key. Send it as "Authorization: Bearer gs_…"; '
            f"how for your tool: {base_url}/connect"
        )


class KeyUnknown(KeyProblem):
    """401: malformed, unknown or wrong: one text for all three, which never repeats what was sent."""

    code = "key_unknown"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"This key is not valid here. It may have been replaced; ask whoever runs {host} for a new one."
        )


class KeyExpired(KeyProblem):
    """401: the secret matched, but the key has expired, was revoked or is disabled."""

    code = "key_expired"

    def __init__(self, name: str, state: str) -> None:
        super().__init__(f"The key of {name} {state}. Ask for a new one.")


class KeyRevoked(KeyProblem):
    """In-band, or while waiting: the key of a call that was let in has been withdrawn since."""

    code = "key_expired"
    outcome = Outcome.REVOKED

    def __init__(self) -> None:
        super().__init__(
            "The key of this request was withdrawn and the request was ended. Ask for a new one."
        )


class TooManyBadKeys(GpushareError):
    """429: an address that tried many wrong keys waits."""

    code = "too_many_bad_keys"
    status = 429
    openai_type = "rate_limit_error"
    anthropic_type = "rate_limit_error"
    outcome = Outcome.INVALID

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            f"Too many wrong keys came from this address. Try again in {max(1, round(retry_after_s))} s.",
            retry_after_s=retry_after_s,
        )


class Denied(GpushareError):
    """403: the key is good and may not do this."""

    code = "role_denied"
    status = 403
    openai_type = "permission_error"
    anthropic_type = "permission_error"
    outcome = Outcome.INVALID


class OriginDenied(Denied):
    """403: a web page that is not listed tries to use the API from somebody's browser."""

    code = "origin_denied"

    def __init__(self) -> None:
        super().__init__(
            "Web pages of this origin may not use this server. "
            "If the page is yours, add its origin to server.allowed_origins."
        )


class NetworkDenied(Denied):
    """403: a page that only some networks may read."""

    code = "network_denied"

    def __init__(self) -> None:
        super().__init__(
            "Metrics are not for this network. Add it to metrics.allow if whoever reads them is there."
        )


class NotAdmin(Denied):
    """403: an admin route with a person's key."""

    code = "not_admin"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Changing models is for admins of this server (your key: {name}). Ask an admin to do it."
        )


class RouteRefused(Denied):
    """403: a route that is closed to everybody here."""

    code = "route_refused"

    def __init__(self) -> None:
        super().__init__("This route acts on the operator's ollama.com account and is closed on this server.")


class CloudModel(Denied):
    """403: a model that would run on ollama.com, not on this GPU."""

    code = "model_denied"

    def __init__(self, model: str) -> None:
        super().__init__(f"{model} runs on ollama.com, not on this GPU, and is closed on this server.")


class WebSearchClosed(Denied):
    """403: a call that lets the model search the web through Ollama."""

    code = "route_refused"

    def __init__(self) -> None:
        super().__init__(
            "Web search acts on the operator's ollama.com account and is closed on this server. "
            "Send the request without the web search tool."
        )


class UnloadDenied(Denied):
    """403: a person asks to unload a model that others may be using."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"Unloading {model} affects everybody here, so it is for admins. "
            "It unloads by itself when nobody has used it for a while."
        )


class ModelUnknown(GpushareError):
    """404: no such model, or none this key may see; the text is Ollama's own, clients match on it."""

    code = "model_unknown"
    status = 404
    openai_type = "not_found_error"
    anthropic_type = "not_found_error"
    outcome = Outcome.INVALID

    def __init__(self, model: str) -> None:
        super().__init__(f"model '{model}' not found")


class UnknownEndpoint(GpushareError):
    """404: a path outside the route table."""

    code = "unknown_endpoint"
    status = 404
    openai_type = "not_found_error"
    anthropic_type = "not_found_error"
    outcome = Outcome.INVALID

    def __init__(self) -> None:
        super().__init__("404 page not found")


class MethodNotAllowed(GpushareError):
    """405: a known path with another method."""

    code = "method_not_allowed"
    status = 405
    openai_type = "invalid_request_error"
    anthropic_type = "invalid_request_error"
    outcome = Outcome.INVALID

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__("405 method not allowed")
        self.headers["Allow"] = ", ".join(allowed)


class WrongHost(GpushareError):
    """421: a name in ``Host`` that a rebinding page could have chosen."""

    code = "wrong_host"
    status = 421
    openai_type = "invalid_request_error"
    anthropic_type = "invalid_request_error"
    outcome = Outcome.INVALID

    def __init__(self) -> None:
        super().__init__(
            "This server does not answer to the name in the Host header. "
            "If the name is right, add it to server.allowed_hosts."
        )


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
            f"The queue is full ({waiting} waiting). {_again(retry_after_s)}", retry_after_s=retry_after_s
        )


class PersonLimit(Refused):
    """429: this person already has as many waiting as one person may have."""

    code = "person_limit"
    outcome = Outcome.REJECTED_KEY_LIMIT

    def __init__(self, waiting: int, limit: int, retry_after_s: float) -> None:
        super().__init__(
            f"You already have {waiting} requests waiting; one person may have {limit} here. "
            f"{_again(retry_after_s)}",
            retry_after_s=retry_after_s,
        )


class WouldWaitTooLong(Refused):
    """429: the estimate says the call could not start within its wait limit."""

    code = "would_wait_too_long"
    outcome = Outcome.REJECTED_QUEUE_FULL

    def __init__(self, estimate_s: float, limit_s: float, retry_after_s: float) -> None:
        super().__init__(
            f"A request sent now would start in about {_span(estimate_s)}; the limit is {_span(limit_s)}. "
            f"{_again(retry_after_s)}",
            retry_after_s=retry_after_s,
        )


class WaitedTooLong(Refused):
    """429: ``queue.max_wait`` is over."""

    code = "waited_too_long"
    outcome = Outcome.QUEUE_TIMEOUT

    def __init__(self, waited_s: float, ahead: int, retry_after_s: float) -> None:
        still = "there was still 1 request" if ahead == 1 else f"there were still {ahead} requests"
        super().__init__(
            f"Gave up after waiting {_span(waited_s)}; {still} ahead. {_again(retry_after_s)}",
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
            f"The queue is paused by an admin. {_again(retry_after_s)}", retry_after_s=retry_after_s
        )


class Draining(Unavailable):
    """503: the server is closing down."""

    code = "draining"
    outcome = Outcome.DRAINED

    def __init__(self, retry_after_s: float = 5.0) -> None:
        super().__init__(
            f"This server is closing down for maintenance. {_again(retry_after_s)}",
            retry_after_s=retry_after_s,
        )


class Overloaded(Unavailable):
    """503: a shared budget (body memory, connections) is used up."""

    code = "overloaded"
    outcome = Outcome.REJECTED_OVERLOAD

    def __init__(self, what: str, retry_after_s: float) -> None:
        super().__init__(
            f"The server has no {what} left for another request. {_again(retry_after_s)}",
            retry_after_s=retry_after_s,
        )


class OllamaDown(Unavailable):
    """502 for a failed dial, 503 while the breaker is open."""

    code = "ollama_down"
    outcome = Outcome.UPSTREAM_REFUSED

    def __init__(self, why: str, *, breaker_open: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(
            f"Ollama does not answer ({why}). Nothing to fix on your side.", retry_after_s=retry_after_s
        )
        self.status = 503 if breaker_open else 502
        if breaker_open:
            self.outcome = Outcome.BREAKER_OPEN


class OllamaBusy(Unavailable):
    """503: something else is using Ollama around the queue."""

    code = "ollama_busy"
    outcome = Outcome.UPSTREAM_BUSY

    def __init__(self, retry_after_s: float = 2.0) -> None:
        super().__init__(
            f"Ollama is busy with work that did not come through this queue. {_again(retry_after_s)}",
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
            what = f"The answer was not finished after {_span(seconds)} and the request was ended."
        else:
            what = f"Ollama sent nothing for {_span(seconds)} and the request was ended."
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
        super().__init__(f"The client read nothing for {_span(seconds)} and the request was ended.")


class Restarting(Unavailable):
    """In-band: a running answer cut by the end of the shutdown grace."""

    code = "draining"
    outcome = Outcome.DRAINED

    def __init__(self) -> None:
        super().__init__("The server is restarting and the answer was cut off. Send the request again.")


class Internal(GpushareError):
    """500: a fault of ours; what was done before it is not known, so no automatic retry."""

    code = "internal"
    retry = False

    def __init__(self, request_id: str) -> None:
        super().__init__(f"Something went wrong inside gpushare. Tell the admin: [{request_id}]")


@dataclass(frozen=True, slots=True)
class Rendered:
    """An error as an HTTP answer: status, headers (content type included) and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def render(error: GpushareError, dialect: Dialect, *, request_id: str, hide_401: bool = False) -> Rendered:
    """Returns the answer for an error before any body byte.

    Args:
        error: what happened.
        dialect: whose error object to use.
        request_id: our id for the request, repeated in the Anthropic object.
        hide_401: send 403 instead of 401, for callers that throw the body of a 401 away.
    """
    status, headers = error.status, {**error.headers, **_retry_headers(error)}
    if hide_401 and status == 401:
        status = 403
        headers.pop("WWW-Authenticate", None)
    if dialect is Dialect.GPUSHARE and isinstance(error, UnknownEndpoint | MethodNotAllowed):
        headers["Content-Type"] = "text/plain; charset=utf-8"
        return Rendered(status, headers, error.message.encode())
    headers["Content-Type"] = "application/json; charset=utf-8"
    return Rendered(status, headers, _dump(error_object(error, dialect, request_id)))


def render_event(error: GpushareError, dialect: Dialect, framing: Framing, *, request_id: str) -> bytes:
    """Returns the error as one record of a stream that has already begun."""
    body = _dump(error_object(error, dialect, request_id))
    if framing is Framing.SSE:
        named = dialect in {Dialect.ANTHROPIC, Dialect.GPUSHARE}
        return (b"event: error\n" if named else b"") + b"data: " + body + b"\n\n"
    return body + b"\n"


def error_object(error: GpushareError, dialect: Dialect, request_id: str) -> dict[str, object]:
    """Returns the dialect's error object, ready for JSON."""
    # For what the person who asks cannot mend, the sentence carries the number the admin can look up.
    message = f"{error.message} [{request_id}]" if error.status in {502, 504} else error.message
    if dialect is Dialect.OPENAI:
        return {"error": {"message": message, "type": error.openai_type, "param": None, "code": error.code}}
    if dialect is Dialect.ANTHROPIC:
        detail = {"type": error.anthropic_type, "message": message}
        return {"type": "error", "error": detail, "request_id": request_id}
    if dialect is Dialect.GPUSHARE:
        return {"error": {"code": error.code, "message": message, "request_id": request_id}}
    return {"error": message}


def spread_retry_s(base_s: float, jitter: float) -> int:
    """Returns whole seconds in [1, 30] for a base estimate.

    ``jitter`` in [0, 1) spreads the answer over 0.8 to 1.3 of the base, so that clients refused together do
    not return together.
    """
    return _retry_s(base_s * (0.8 + 0.5 * jitter))


def _retry_s(seconds: float) -> int:
    return int(min(RETRY_AFTER_MAX_S, max(1.0, math.ceil(seconds))))


def _retry_headers(error: GpushareError) -> dict[str, str]:
    """Returns the headers that tell a client whether and when to try again."""
    if not error.retry:
        return {"x-should-retry": "false"}
    if error.status not in {429, 503}:
        return {}
    seconds = _retry_s(error.retry_after_s or 1.0)
    return {"Retry-After": str(seconds), "retry-after-ms": str(seconds * 1000)}


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()


def _size(count: int) -> str:
    """Returns a size to read; rounded up, so that what is over a limit never reads as the limit."""
    unit, name = (1_000_000, "MB") if count >= 1_000_000 else (1000, "kB")
    return f"{math.ceil(10 * count / unit) / 10:g} {name}"


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 2:
        return f"{round(seconds)} s"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def _again(seconds: float) -> str:
    return f"Try again in about {_retry_s(seconds)} s."
