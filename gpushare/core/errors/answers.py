"""An error as an HTTP answer, or as a record of a stream, in the caller's dialect."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from gpushare.core.errors.base import GpushareError, whole_retry_s
from gpushare.core.errors.request import MethodNotAllowed, UnknownEndpoint
from gpushare.core.model import Dialect, Endpoint, Framing


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


def render_event(error: GpushareError, endpoint: Endpoint, framing: Framing, *, request_id: str) -> bytes:
    """Returns the error as one record of a stream that has already begun."""
    body = error_object(error, endpoint.dialect, request_id)
    if framing is not Framing.SSE:
        return _dump(body) + b"\n"
    name = b""
    if endpoint.path == "/v1/responses":
        name, body = b"event: response.failed\n", _failed_response(error, body, request_id)
    elif endpoint.dialect is Dialect.ANTHROPIC:
        name = b"event: error\n"
    return name + b"data: " + _dump(body) + b"\n\n"


def _failed_response(error: GpushareError, body: Mapping[str, object], request_id: str) -> dict[str, object]:
    """Returns the last event of a response: what agents read, and beside it the object that libraries raise.

    The code is one of OpenAI's; for ``invalid_prompt`` no agent sends the request again.
    """
    in_vain = error.status < 500 and not error.retry
    detail = {
        "code": "invalid_prompt" if in_vain else "server_error",
        "message": _sentence(error, request_id),
    }
    response = {"id": request_id, "object": "response", "status": "failed", "error": detail, "output": []}
    return {"type": "response.failed", "sequence_number": 0, "response": response, **body}


def error_object(error: GpushareError, dialect: Dialect, request_id: str) -> dict[str, object]:
    """Returns the dialect's error object, ready for JSON."""
    message = _sentence(error, request_id)
    if dialect is Dialect.OPENAI:
        return {"error": {"message": message, "type": error.openai_type, "param": None, "code": error.code}}
    if dialect is Dialect.ANTHROPIC:
        detail = {"type": error.anthropic_type, "message": message}
        return {"type": "error", "error": detail, "request_id": request_id}
    if dialect is Dialect.GPUSHARE:
        return {"error": {"code": error.code, "message": message, "request_id": request_id}}
    return {"error": message}


def _sentence(error: GpushareError, request_id: str) -> str:
    """Returns the message; what the person who asks cannot mend has the number that the admin can look up."""
    return f"{error.message} [{request_id}]" if error.status in {502, 504} else error.message


def _retry_headers(error: GpushareError) -> dict[str, str]:
    """Returns the headers that tell a client whether and when to try again."""
    if not error.retry:
        return {"x-should-retry": "false"}
    if error.status not in {429, 503}:
        return {}
    seconds = whole_retry_s(error.retry_after_s or 1.0)
    return {"Retry-After": str(seconds), "retry-after-ms": str(seconds * 1000)}


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()
