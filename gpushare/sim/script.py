"""What the simulated Ollama is told to do: its models, its pace, and the faults it plays.

A test scripts one request with a marker in its prompt, which survives whatever rebuilds the body
(``#sim:tokens=50,delay_ms=20,ttft_ms=300,fault=reset@5``), or from outside with a ``Plan``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

END = -1
"""A fault position: after the last record."""

_MARKER = re.compile(r"#sim:([\w=,@.:-]+)")


class FaultKind(StrEnum):
    """What goes wrong.

    ``@k`` means after k records of a stream, or in the middle of a single answer; ``@end`` after the last;
    without a place, before any byte of the answer.
    """

    # the connection
    RESET = "reset"  # RST
    CLOSE = "close"  # FIN without the end of the message
    STALL = "stall"  # nothing more until Entry.resume()
    DEAF = "deaf"  # the body is never read; nothing is answered
    HANGUP = "hangup"  # RST after k bytes of the body
    # the records
    ERROR = "error"  # the model fails: 500 before the first record, Ollama's in-band form after it
    EOF = "eof"  # a proper end of the message without the final record
    GARBAGE = "garbage"  # a line that is not JSON
    HUGE = "huge"  # a line of Plan.size bytes
    TRAILING = "trailing"  # one more record after the final one
    COUNTS = "counts"  # absurd numbers in the final record
    # the framing
    BADCHUNK = "badchunk"  # a chunk size that is no number
    UNFRAMED = "unframed"  # no length, no chunks: the end of the connection ends the body
    SHORT = "short"  # Content-Length larger than the body
    LONG = "long"  # Content-Length smaller than the body
    BOTH = "both"  # Content-Length and chunks
    # the head
    GZIP = "gzip"  # claims Content-Encoding: gzip
    HTML = "html"  # status 200 and a page
    BADSTATUS = "badstatus"  # a status line that is none
    BIGHEAD = "bighead"  # a header of Plan.size bytes
    INTERIM = "interim"  # 103 in front of the answer


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and its place: None before the head, k after k records, ``END`` after the last."""

    kind: FaultKind
    at: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Returns the fault of ``kind``, ``kind@k`` or ``kind@end``."""
        kind, _, place = text.partition("@")
        at = END if place == "end" else int(place) if place else None
        return cls(FaultKind(kind), at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one request is answered.

    ``tokens`` None leaves the number to the request's own limit.  ``pieces`` replaces the invented words.
    ``status`` answers an error at once.  ``split`` writes so many bytes at a time, ``gather`` so many
    records at a time.  ``linger_ms`` keeps the slot after the client has left, as an unstoppable prompt
    batch does.  ``context`` is the number of token ids in the final ``/api/generate`` record.
    """

    tokens: int | None = None
    delay_ms: float | None = None
    ttft_ms: float | None = None
    linger_ms: float = 0.0
    thinking: int = 0
    pieces: tuple[str, ...] = ()
    tool: str = ""
    tool_args: Mapping[str, object] = field(default_factory=dict)
    context: int = 3
    status: int = 0
    message: str = ""
    split: int = 0
    gather: int = 1
    size: int = 1 << 20
    fault: Fault | None = None

    def has(self, *kinds: FaultKind) -> bool:
        """Tells whether the fault is one of ``kinds``."""
        return self.fault is not None and self.fault.kind in kinds


_ITEMS: Mapping[str, Callable[[str], object]] = {
    "tokens": int,
    "delay_ms": float,
    "ttft_ms": float,
    "linger_ms": float,
    "thinking": int,
    "tool": str,
    "context": int,
    "status": int,
    "split": int,
    "gather": int,
    "size": int,
    "fault": Fault.parse,
}


def read_marker(text: str, default: Plan) -> Plan:
    """Returns ``default`` with what the last ``#sim:`` marker in ``text`` changes.

    Raises:
        ValueError: the marker names an unknown item or a bad value; a test with a typo must not pass.
    """
    found = _MARKER.findall(text)
    if not found:
        return default
    changes: dict[str, Any] = {}
    for item in found[-1].rstrip(".,").split(","):
        name, _, value = item.partition("=")
        if name not in _ITEMS:
            raise ValueError(f"unknown item in a #sim marker: {name}")
        changes[name] = _ITEMS[name](value)
    return replace(default, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimModel:
    """An installed model.  Zero speeds mean "no time at all", the default for tests."""

    name: str
    size: int = 4_000_000_000
    load_s: float = 0.0
    tokens_per_s: float = 0.0
    prompt_per_s: float = 0.0
    embedding: bool = False
    thinking: bool = False
    family: str = "llama"
    parameters: str = "8.0B"
    context: int = 4096


@dataclass(slots=True, kw_only=True)
class Script:
    """The server's whole behaviour; fields may be changed while it runs.

    ``memory`` bounds the sizes of the models resident together, which is what makes swaps.  ``plans`` are
    standing plans by path, for routes without a prompt.
    """

    models: tuple[SimModel, ...] = (
        SimModel(name="m:latest"),
        SimModel(name="n:latest"),
        SimModel(name="embed:latest", size=300_000_000, embedding=True, family="nomic-bert"),
    )
    slots: int = 1
    memory: int = 6_000_000_000
    max_queue: int = 512
    keep_alive_s: float = 300.0
    version: str = "0.33.0"
    dimensions: int = 8
    default: Plan = field(default_factory=Plan)
    tokens: int = 8
    plans: dict[str, Plan] = field(default_factory=dict)
    keep_bodies: bool = True
    log_size: int = 50_000
