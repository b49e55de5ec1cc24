"""Learning from an answer's bytes, as they pass, whether it is complete and what it cost.

Called by: ``engine.relay``.

Rules:
- Streams are fed whole records (``core.framing``); single documents are fed as read.
- The tap watches: it never changes a byte, never raises, never guesses an end mark.  Each piece is searched
  for a few byte patterns; only a record that contains one is parsed, and only a top-level match counts.
  Within a JSON string every quote is escaped, so text that a model writes cannot contain a pattern.
- The result does not depend on where the input was cut.
"""

import re
from collections.abc import Callable, Iterator

import msgspec

from gpushare.core.model import Framing, Usage

TAIL_BYTES = 64 * 1024
"""What is kept of a single document: one that is no longer is parsed whole, of others the end is read."""

COUNT_MAX = 10_000_000
"""More tokens than any model's context: a count beyond it is absurd and is clamped."""

_LOAD_MAX_NS = 3600 * 10**9
_BLANK_LINE = re.compile(rb"\n\r?\n")
_USAGE = b'"usage":'


class _Answer(msgspec.Struct):
    """The top-level fields of a record or document that say how it ended and what it cost."""

    done: object = None
    status: object = None
    type: object = None
    error: object = None
    usage: object = None
    response: msgspec.Raw = msgspec.Raw()
    prompt_eval_count: object = None
    eval_count: object = None
    load_duration: object = None


class _Completed(msgspec.Struct):
    """The ``response`` object of a ``response.completed`` event."""

    usage: object = None


_Judge = Callable[[_Answer], bool]

_NATIVE: tuple[bytes, _Judge] = (b'"done":true', lambda answer: answer.done is True)
_PROGRESS: tuple[bytes, _Judge] = (b'"success"', lambda answer: answer.status == "success")
_CHAT: tuple[bytes, _Judge] = (b"[DONE]", lambda _: False)  # the mark is no JSON: judged before parsing
_END_MARKS: dict[str, tuple[bytes, _Judge]] = {
    "/api/pull": _PROGRESS,
    "/api/push": _PROGRESS,
    "/api/create": _PROGRESS,
    "/v1/chat/completions": _CHAT,
    "/v1/completions": _CHAT,
    "/v1/responses": (b"response.completed", lambda answer: answer.type == "response.completed"),
    "/v1/messages": (b"message_stop", lambda answer: answer.type == "message_stop"),
}


class UsageTap:
    """Watches one answer.

    Attributes:
        records: data records seen: lines that hold an object, events that hold data, whole documents.
        done: whether the dialect's own end mark was seen.
        failed: whether Ollama's own error record was seen.

    Args:
        path: the route, which decides the end mark.
        framing: how the answer is divided.
    """

    __slots__ = (
        "_framing",
        "_judge",
        "_last",
        "_line",
        "_mark",
        "_size",
        "_tail",
        "done",
        "failed",
        "records",
    )

    def __init__(self, path: str, framing: Framing) -> None:
        self._framing = framing
        self._mark, self._judge = _END_MARKS.get(path, _NATIVE)
        self._line = b"data:" if framing is Framing.SSE else b"{"
        self._tail = b""  # the end of a single document
        self._size = 0
        self._last: _Answer | None = None  # what holds the counts
        self.records = 0
        self.done = False
        self.failed = False

    def feed(self, data: bytes) -> int:
        """Takes the next piece; returns how much of it belongs to the answer.

        That is all of it, unless a record in it ended the answer: nothing may follow that.
        """
        if self._framing is Framing.SINGLE:
            self._size += len(data)
            self._tail = (self._tail + data)[-TAIL_BYTES:]
            return len(data)
        if self._mark in data or b'"error":' in data or b"response.failed" in data:
            data = data[: self._inspect(data)]
        self.records += data.count(b"\n" + self._line) + data.startswith(self._line)
        if self._framing is Framing.SSE and _USAGE in data:
            self._note_usage(data)
        return len(data)

    def close(self) -> None:
        """Judges a single document, once its message ended properly."""
        if self._framing is not Framing.SINGLE or not self._size:
            return
        self.records = 1
        if self._size > TAIL_BYTES:
            self._last = _decode_end(self._tail)
            self.done = True
            return
        self._last = _decode(self._tail)
        self.failed = self._last is not None and self._last.error is not None
        self.done = self._last is not None and not self.failed

    def usage(self) -> Usage:
        """Returns what the answer said of its cost so far."""
        return Usage() if self._last is None else _read(self._last)

    def _inspect(self, data: bytes) -> int:
        """Parses the records that contain a pattern; returns the end of the one that ended the answer."""
        for start, end in self._spans(data):
            record = data[start:end]
            if self._mark in record or b'"error":' in record or b"response.failed" in record:
                self._judge_record(record)
            if self.done or self.failed:
                return end
        return len(data)

    def _judge_record(self, record: bytes) -> None:
        payload = self._payload(record)
        if payload == b"[DONE]":
            self.done = self._mark == payload
            return
        answer = _decode(payload)
        if answer is None:
            return
        self.failed = answer.error is not None or answer.type in ("error", "response.failed")
        self.done = not self.failed and self._judge(answer)
        if self.done and self._framing is Framing.NDJSON:
            self._last = answer

    def _spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yields where each record begins and ends."""
        start = 0
        if self._framing is Framing.SSE:
            for match in _BLANK_LINE.finditer(data):
                yield start, match.end()
                start = match.end()
        else:
            while end := data.find(b"\n", start) + 1:
                yield start, end
                start = end
        if start < len(data):
            yield start, len(data)

    def _payload(self, record: bytes) -> bytes:
        """Returns the JSON text of a record."""
        if self._framing is not Framing.SSE:
            return record
        lines = (line for line in record.splitlines() if line.startswith(b"data:"))
        return b"\n".join(line[5:].strip() for line in lines)

    def _note_usage(self, data: bytes) -> None:
        """Keeps the last event that has a usage object of its own; a few come early and are estimates."""
        for start, end in reversed(list(self._spans(data))):
            answer = _decode(self._payload(data[start:end]))
            if answer is not None and answer.type == "response.completed":
                answer.usage = _decode_usage(answer.response)
            if answer is not None and isinstance(answer.usage, dict):
                self._last = answer
                return


def is_object(text: bytes) -> bool:
    """Whether ``text`` is one JSON object."""
    return _decode(text) is not None


def _decode(text: bytes) -> _Answer | None:
    """Returns the interesting fields of a JSON object; None if it is none."""
    try:
        return msgspec.json.decode(text, type=_Answer)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _decode_usage(text: msgspec.Raw) -> object:
    try:
        return msgspec.json.decode(text, type=_Completed).usage
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _decode_end(tail: bytes) -> _Answer | None:
    """Returns the last top-level fields of an object whose beginning is not at hand.

    The text from a key to the end of the document, with a brace in front, is JSON only if the key belongs to
    the outermost object: a key inside an inner one leaves a closing brace too many.
    """
    for key in (b'"total_duration":', _USAGE, b'"prompt_eval_count":'):
        start = tail.rfind(key)
        answer = _decode(b"{" + tail[start:]) if start >= 0 else None
        if answer is not None:
            return answer
    return None


def _read(answer: _Answer) -> Usage:
    """Returns the counts of either naming, each clamped."""
    counts = answer.usage if isinstance(answer.usage, dict) else {}
    reported = (
        (
            _first(answer.prompt_eval_count, counts.get("input_tokens"), counts.get("prompt_tokens")),
            COUNT_MAX,
        ),
        (_first(answer.eval_count, counts.get("output_tokens"), counts.get("completion_tokens")), COUNT_MAX),
        (_first(answer.load_duration), _LOAD_MAX_NS),
    )
    clamped = [None if value is None else min(max(value, 0), limit) for value, limit in reported]
    input_tokens, output_tokens, load_ns = clamped
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        load_s=None if load_ns is None else load_ns / 1e9,
        suspect=clamped != [value for value, _ in reported],
    )


def _first(*values: object) -> int | None:
    """Returns the first that is a whole number."""
    return next((value for value in values if type(value) is int), None)
