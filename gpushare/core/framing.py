"""Cutting a body into whole records, however the network cut it.

Called by: ``engine.relay``.

Rules:
- Bytes are never changed, dropped or reordered: what ``feed`` returned, in order, and then ``rest`` are
  exactly what was fed, as long as ``too_long`` is false.
- ``feed`` returns only whole records, so that a record of our own may follow at any time.
- What is held back is bounded by the longest record allowed and one read.
"""

from gpushare.core.model import Framing

LINE_MAX = 8 * 1024 * 1024
"""Longest record, in bytes: the last line of ``/api/generate`` lists every token of the conversation."""

_ENDS = {Framing.SINGLE: b"", Framing.NDJSON: b"\n", Framing.SSE: b"\n\n"}


class RecordCutter:
    """Holds back the unfinished record at the end of what was fed.

    ``too_long`` turns true when an unfinished record exceeds the limit; it is dropped and nothing may be fed
    after that.

    Args:
        framing: how the body is divided; ``SINGLE`` passes as read.
        line_max: longest unfinished record, in bytes.
    """

    __slots__ = ("_end", "_held", "_line_max", "too_long")

    def __init__(self, framing: Framing, *, line_max: int = LINE_MAX) -> None:
        self._end = _ENDS[framing]
        self._line_max = line_max
        self._held = bytearray()
        self.too_long = False

    def feed(self, data: bytes) -> bytes:
        """Returns the whole records that ``data`` completes; empty if it completes none."""
        if not self._held and data.endswith(self._end):
            return data  # Ollama sends a record per chunk: nearly every read takes this way, uncopied
        searched = max(0, len(self._held) - 2)  # a blank line may straddle two pieces
        self._held += data
        cut = self._last_end(searched)
        ready = bytes(self._held[:cut])
        del self._held[:cut]
        if len(self._held) > self._line_max:
            self.too_long = True
            self._held.clear()
        return ready

    def rest(self) -> bytes:
        """Returns the unfinished record and forgets it."""
        held = bytes(self._held)
        self._held.clear()
        return held

    def _last_end(self, start: int) -> int:
        """Returns where the last whole record ends, looking from ``start``; 0 if none is whole."""
        held = self._held
        if len(self._end) == 1:
            return held.rfind(b"\n", start) + 1
        bare, returned = held.rfind(b"\n\n", start), held.rfind(b"\n\r\n", start)
        if bare >= 0 or returned >= 0:
            return max(bare + 2, returned + 3)
        if held.startswith(b"\n"):  # a blank line where a record would begin is a record of its own
            return 1
        return 2 if held.startswith(b"\r\n") else 0
