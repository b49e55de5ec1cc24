"""The events of the live stream, as bytes.

Called by: ``web.pages.hub``.  Rules: a line of data holds no line end, whatever a name or a model holds, so
nothing that is shown can become a field of the stream.
"""

import re

import msgspec

_ENDS = re.compile(r"[\r\n]+")


def opening(retry_ms: int) -> bytes:
    """Returns the first bytes of a stream: how soon a browser tries again by itself."""
    return b"retry: %d\n\n" % retry_ms


def data(text: str) -> bytes:
    """Returns one line of data."""
    if "\n" in text or "\r" in text:
        text = _ENDS.sub(" ", text)
    return b"data: %b\n" % text.encode()


def part(rev: str, name: str, line: bytes) -> bytes:
    """Returns the new inside of an element; ``line`` comes from ``data``."""
    return b"id: %b\nevent: part\n%b%b\n" % (rev.encode(), data(name), line)


def meta(rev: str, fields: dict[str, object]) -> bytes:
    """Returns what the page itself should know."""
    text = msgspec.json.encode({**fields, "rev": rev}).decode()
    return b"id: %b\nevent: meta\n%b\n" % (rev.encode(), data(text))


def state(rev: str, line: bytes) -> bytes:
    """Returns the whole status document; ``line`` comes from ``data``."""
    return b"id: %b\nevent: state\n%b\n" % (rev.encode(), line)


def bye(why: str, wait_s: float) -> bytes:
    """Returns the last event: why the stream ends, and when to come back."""
    return b"event: bye\n%b\n" % data(msgspec.json.encode({"why": why, "wait": round(wait_s, 1)}).decode())
