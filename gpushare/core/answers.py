"""What of the head of Ollama's answer is acceptable, and what of it the client gets.

Called by: ``engine.relay``.  Rules: Ollama is trusted for content, not for framing; of its headers only the
ones named here pass.
"""

from collections.abc import Mapping

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
    return None if _known_type(call, headers) else "sent something that is not its API"


def passed_headers(call: Call, headers: Mapping[str, str]) -> dict[str, str]:
    """Returns the headers of the client's answer that depend on Ollama's."""
    passed = {
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache" if headers.get("cache-control") == "no-cache" else "no-store",
    }
    if content_type := _known_type(call, headers):
        passed["Content-Type"] = content_type
    if call.streaming:
        passed["X-Accel-Buffering"] = "no"
    return passed


def is_busy(status: int, body: bytes) -> bool:
    """Whether Ollama refused because of work that did not come through the queue."""
    return status == 503 and _BUSY in body


def _known_type(call: Call, headers: Mapping[str, str]) -> str | None:
    """Returns the content type if it is one the route may send, exactly as it came."""
    content_type = headers.get("content-type", "")
    media = content_type.partition(";")[0].strip().lower()
    known = media in _MEDIA_TYPES or (call.endpoint.multipart and media == "text/plain")
    return content_type if known and content_type.isascii() and content_type.isprintable() else None
