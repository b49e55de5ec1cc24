"""What of the head of Ollama's answer is acceptable, and what of it the client gets.

Called by: ``engine.relay``.  Rules: Ollama is trusted for content, not for framing; of its headers only the
ones named here pass.
"""

from collections.abc import Mapping
from functools import lru_cache

from gpushare.core.model import Call, Kind

_MEDIA_TYPES = ("application/json", "application/x-ndjson", "text/event-stream")
_BUSY = b"server busy, please try again."


def objection(call: Call, status: int, headers: Mapping[str, str]) -> str | None:
    """Returns what is wrong with the head of an answer, as the middle of a sentence; None if nothing is.

    Which of the known content types it is does not matter: some routes of Ollama send the wrong one.
    """
    if status not in (200, 201):
        return f"answered with status {status}"
    if headers.get("content-encoding", "identity") != "identity":
        return "sent a compressed answer"
    if "content-type" not in headers and call.endpoint.kind is not Kind.QUEUED:
        return None  # a change to the model store answers 200 and nothing else
    known = _known_type(headers.get("content-type", ""), multipart=call.endpoint.multipart)
    return None if known else "sent something that is not its API"


def passed_headers(call: Call, headers: Mapping[str, str]) -> dict[str, str]:
    """Returns the headers of the client's answer that depend on Ollama's."""
    passed = {"Cache-Control": "no-cache"} if headers.get("cache-control") == "no-cache" else {}
    content_type = headers.get("content-type", "")
    if _known_type(content_type, multipart=call.endpoint.multipart):
        passed["Content-Type"] = content_type
    if call.streaming:
        passed["X-Accel-Buffering"] = "no"
    return passed


def is_busy(status: int, body: bytes) -> bool:
    """Whether Ollama refused because of work that did not come through the queue."""
    return status == 503 and _BUSY in body


@lru_cache(maxsize=64)
def _known_type(content_type: str, *, multipart: bool) -> bool:
    """Whether a content type is one the route may send."""
    media = content_type.partition(";")[0].strip().lower()
    known = media in _MEDIA_TYPES or (multipart and media == "text/plain")
    return known and content_type.isascii() and content_type.isprintable()
