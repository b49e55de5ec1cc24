"""Learning from an answer's bytes, as they pass, whether it is complete and what it cost.

Called by: ``engine.relay``.

Rules:
- Streams are fed whole records (``core.framing``); single documents are fed as read.
- The tap watches: it never changes a byte, never raises, never guesses an end mark.  Each piece is searched
  for one byte pattern; only a record that contains it is parsed, and only a top-level match counts.  Within
  a JSON string every quote is escaped, so text that a model writes cannot contain the pattern of a field.
- Everything else is learnt at the end, from the last few records: counts come just before the end mark or
  in it, and an error of Ollama's is the last record of its stream.
"""

import re
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from gpushare.core.model import Framing, Usage

TAIL_BYTES = 64 * 1024
"""What is kept of a single document: one that is no longer is parsed whole, of others the end is read."""

COUNT_MAX = 10_000_000
"""More tokens than any model's context: a count beyond it is absurd and is clamped."""

_LOAD_MAX_NS = 3600 * 10**9
_NO_COUNTS: dict[str, object] = {}
_LAST_RECORDS = 4
_PIECE_BYTES = 4 * 1024  # kept of each of the last pieces; the records that matter are far shorter
_BLANK_LINE = re.compile(rb"\n\r?\n")


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
_SEPARATORS = {Framing.SINGLE: b"", Framing.NDJSON: b"\n", Framing.SSE: b"\n\n"}


class UsageTap:
    """Watches one answer.

    Attributes:
        records: records seen: lines, events, or the one document.
        done: whether the dialect's own end mark was seen.

    Args:
        path: the route, which decides the end mark.
        framing: how the answer is divided.
    """

    __slots__ = ("_counts", "_judge", "_mark", "_recent", "_separator", "_size", "_sse", "done", "records")

    def __init__(self, path: str, framing: Framing) -> None:
        self._mark, self._judge = _END_MARKS.get(path, _NATIVE)
        self._sse = framing is Framing.SSE
        self._separator = _SEPARATORS[framing]
        self._recent: deque[bytes] = deque(maxlen=_LAST_RECORDS)  # of a document: its end, in one piece
        self._counts: _Answer | None = None
        self._size = 0
        self.records = 0
        self.done = False

    def feed(self, data: bytes) -> int:
        """Takes the next piece; returns how much of it belongs to the answer.

        That is all of it, unless the end mark is in it: nothing may follow that.
        """
        if not self._separator:
            self._keep_end(data)
            return len(data)
        if self._mark in data:
            data = data[: self._inspect(data)]
        self.records += data.count(self._separator)
        if data and not data.isspace():  # blank lines would push out the record with the counts
            self._recent.append(data if len(data) <= _PIECE_BYTES else data[-_PIECE_BYTES:])
        return len(data)

    def failed(self) -> bool:
        """Returns whether Ollama ended the answer with an error of its own."""
        last = None if self.done else next(self._last_payloads(), None)
        answer = None if last is None else _decode(last)
        return answer is not None and _is_error(answer)

    def close(self) -> None:
        """Judges a single document, once its message ended properly."""
        if self._separator or not self._size:
            return
        self.records = 1
        document = self._recent[0]
        whole = self._size == len(document)
        self._counts = _decode(document) if whole else _decode_end(document)
        self.done = not whole or (self._counts is not None and not _is_error(self._counts))

    def usage(self) -> Usage:
        """Returns what a complete answer said of its cost."""
        if self.done and self._sse and self._counts is None:
            answers = map(_decode, self._last_payloads())
            self._counts = next((a for a in answers if a is not None and isinstance(a.usage, dict)), None)
        return Usage() if self._counts is None or not self.done else _read(self._counts)

    def _keep_end(self, data: bytes) -> None:
        kept = self._recent.pop() if self._recent else b""
        self._recent.append((kept + data)[-TAIL_BYTES:])
        self._size += len(data)

    def _inspect(self, data: bytes) -> int:
        """Parses the records that contain the pattern; returns the end of the one that ends the answer."""
        for start, end in self._spans(data):
            record = data[start:end]
            if self._mark in record and self._is_end(self._payload(record)):
                self.done = True
                return end
        return len(data)

    def _is_end(self, payload: bytes) -> bool:
        if payload == b"[DONE]":
            return self._mark == payload
        answer = _decode(payload)
        if answer is None or not self._judge(answer) or _is_error(answer):
            return False
        if answer.type == "response.completed":
            answer.usage = _decode_usage(answer.response)
        if not self._sse or isinstance(answer.usage, dict):
            self._counts = answer
        return True

    def _last_payloads(self) -> Iterator[bytes]:
        """Yields the JSON texts of the last records, last first."""
        data = b"".join(self._recent)
        spans = list(self._spans(data)) if self._separator else [(0, len(data))]
        for start, end in spans[: -_LAST_RECORDS - 1 : -1]:
            yield self._payload(data[start:end])

    def _spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yields where each record begins and ends."""
        start = 0
        for match in _BLANK_LINE.finditer(data) if self._sse else re.finditer(b"\n", data):
            yield start, match.end()
            start = match.end()
        if start < len(data):
            yield start, len(data)

    def _payload(self, record: bytes) -> bytes:
        """Returns the JSON text of a record."""
        if not self._sse:
            return record
        lines = (line for line in record.splitlines() if line.startswith(b"data:"))
        return b"\n".join(line[5:].strip() for line in lines)


def is_object(text: bytes) -> bool:
    """Whether ``text`` is one JSON object."""
    return _decode(text) is not None


def _decode(text: bytes) -> _Answer | None:
    """Returns the interesting fields of a JSON object; None if it is none."""
    try:
        return msgspec.json.decode(text, type=_Answer)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _is_error(answer: _Answer) -> bool:
    return answer.error is not None or answer.type in ("error", "response.failed")


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
    for key in (b'"total_duration":', b'"usage":', b'"prompt_eval_count":'):
        start = tail.rfind(key)
        answer = _decode(b"{" + tail[start:]) if start >= 0 else None
        if answer is not None:
            return answer
    return None


def _read(answer: _Answer) -> Usage:
    """Returns the counts of either naming, each clamped."""
    counts = answer.usage if isinstance(answer.usage, dict) else _NO_COUNTS
    asked = (answer.prompt_eval_count, counts.get("input_tokens"), counts.get("prompt_tokens"))
    made = (answer.eval_count, counts.get("output_tokens"), counts.get("completion_tokens"))
    input_tokens, absurd_input = _clamped(asked, COUNT_MAX)
    output_tokens, absurd_output = _clamped(made, COUNT_MAX)
    load_ns, absurd_load = _clamped((answer.load_duration,), _LOAD_MAX_NS)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        load_s=None if load_ns is None else load_ns / 1e9,
        suspect=absurd_input or absurd_output or absurd_load,
    )


def _clamped(values: tuple[object, ...], limit: int) -> tuple[int | None, bool]:
    """Returns the first that is a whole number, brought within the limit, and whether that changed it."""
    for value in values:
        if type(value) is int:
            return (value, False) if 0 <= value <= limit else (min(max(value, 0), limit), True)
    return None, False
