"""The request itself is wrong: 4xx before anything waits.

A sentence says what happened, why, and what to do next.
"""

from gpushare.core.errors.base import GpushareError, again_text, size_text
from gpushare.core.model import Outcome

_PICTURE_BYTES = 4_000_000  # a route with a smaller limit takes no pictures


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


class BadQuery(InvalidRequest):
    """400: what stands behind the ``?`` of an address of ours asks for what there is not."""

    code = "bad_query"


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
        size = f"The request is {size_text(declared)}" if declared else "The request is too large"
        why = " Pictures are the usual reason." if limit > _PICTURE_BYTES else ""
        super().__init__(f"{size}; the limit here is {size_text(limit)}.{why}")


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
    """401: no key, or none that is valid here; Claude Code would send it again for minutes, in silence."""

    code = "key_unknown"
    status = 401
    retry = False
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
            f"Too many wrong keys came from this address. {again_text(retry_after_s)}",
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


class ForeignForm(Denied):
    """403: a form of a page of ours that was not sent from one."""

    code = "origin_denied"

    def __init__(self) -> None:
        super().__init__(
            "This form was not sent from a page of this server. Open the page here and send it again."
        )


class NetworkDenied(Denied):
    """403: a page that only some networks may read."""

    code = "network_denied"

    def __init__(self) -> None:
        super().__init__(
            "Metrics are not for this network. Add it to metrics.allow if whoever reads them is there."
        )


class KeyReplaced(Denied):
    """403: a key that was replaced, and lives on for a while, makes no further key."""

    code = "key_replaced"

    def __init__(self) -> None:
        super().__init__(
            "This key has been replaced by a newer one. Sign in with that one to make another, "
            "or ask an admin if it never reached you."
        )


class TooManyNewKeys(Denied):
    """403: a holder replaces a key again and again."""

    code = "too_many_keys"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} keys were made for you within a day, which is the limit. Ask an admin for another."
        )


class NotAdmin(Denied):
    """403: an admin route with a person's key."""

    code = "not_admin"

    def __init__(self, name: str, what: str = "Changing models") -> None:
        super().__init__(f"{what} is for admins of this server (your key: {name}). Ask an admin to do it.")


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


class LinkGone(GpushareError):
    """410: a one-time link that opens nothing: used, run out, or never made."""

    code = "link_gone"
    status = 410
    openai_type = "not_found_error"
    anthropic_type = "not_found_error"
    outcome = Outcome.INVALID

    def __init__(self) -> None:
        super().__init__(
            "This link does not open a key any more. A link opens once, within 24 hours. "
            "Ask whoever sent it for a new one."
        )


class RequestUnknown(GpushareError):
    """404: no request of this id that the caller may end; somebody else's looks like none."""

    code = "request_unknown"
    status = 404
    openai_type = "not_found_error"
    anthropic_type = "not_found_error"
    outcome = Outcome.INVALID

    def __init__(self) -> None:
        super().__init__("No request of yours with this id waits or runs. It may have ended already.")


class UnknownEndpoint(GpushareError):
    """404: a path outside the route table; ``lacking`` or ``surplus``: what a base address got wrong."""

    code = "unknown_endpoint"
    status = 404
    openai_type = "not_found_error"
    anthropic_type = "not_found_error"
    outcome = Outcome.INVALID

    def __init__(self, *, lacking: str = "", surplus: str = "") -> None:
        remedy = f". Put {lacking} at the end of the base address." if lacking else ""
        remedy = f". Take {surplus} off the end of the base address." if surplus else remedy
        super().__init__(f"404 page not found{remedy}")


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
