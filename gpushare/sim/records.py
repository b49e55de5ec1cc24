"""What a generation consists of, and how the native routes write it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gpushare.sim import gojson
from gpushare.sim.asks import Ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One record's worth of a generation."""

    text: str = ""
    thinking: str = ""
    calls: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """The end of a generation.  Durations are nanoseconds; a zero is left out on the wire."""

    reason: str
    total_ns: int = 0
    load_ns: int = 0
    prompt_tokens: int = 0
    prompt_ns: int = 0
    tokens: int = 0
    eval_ns: int = 0
    context: int = 0

    def metrics(self) -> dict[str, int]:
        """Returns the native metrics in Go's order, zeros left out."""
        values = {
            "total_duration": self.total_ns,
            "load_duration": self.load_ns,
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": self.prompt_ns,
            "eval_count": self.tokens,
            "eval_duration": self.eval_ns,
        }
        return {name: value for name, value in values.items() if value}


class Writer(Protocol):
    """Writes one answer in one dialect.  Each returned item is flushed by itself, as one HTTP chunk."""

    stream_headers: Mapping[str, str]
    single_type: str

    def piece(self, piece: Piece) -> list[bytes]:
        """Returns the chunks of a record."""

    def final(self, final: Final) -> list[bytes]:
        """Returns the chunks that end the stream."""

    def whole(self, piece: Piece, final: Final) -> bytes:
        """Returns the answer to a call that does not stream."""

    def broken(self, text: str) -> list[bytes]:
        """Returns what Ollama sends when the model fails after the first record."""


@dataclass(slots=True)
class _Native:
    """What chat and generate share."""

    ask: Ask
    stream_headers: Mapping[str, str] = field(
        default_factory=lambda: {"Content-Type": "application/x-ndjson"}
    )
    single_type: str = "application/json; charset=utf-8"

    def broken(self, text: str) -> list[bytes]:
        return [gojson.dump({"error": text}) + b"\n"]

    def _stamp(self) -> dict[str, object]:
        return {"model": self.ask.model, "created_at": gojson.now()}


class Chat(_Native):
    """``/api/chat``."""

    def piece(self, piece: Piece) -> list[bytes]:
        """Returns one line."""
        return [gojson.dump({**self._stamp(), "message": _message(piece), "done": False}) + b"\n"]

    def final(self, final: Final) -> list[bytes]:
        """Returns the ``done`` line."""
        return [self.whole(Piece(), final) + b"\n"]

    def whole(self, piece: Piece, final: Final) -> bytes:
        """Returns one object with the whole text; no newline."""
        done = {"done": True, "done_reason": final.reason}
        return gojson.dump({**self._stamp(), "message": _message(piece), **done, **final.metrics()})


class Generate(_Native):
    """``/api/generate``."""

    def piece(self, piece: Piece) -> list[bytes]:
        """Returns one line."""
        return [gojson.dump({**self._stamp(), **_response(piece), "done": False}) + b"\n"]

    def final(self, final: Final) -> list[bytes]:
        """Returns the ``done`` line."""
        return [self.whole(Piece(), final) + b"\n"]

    def whole(self, piece: Piece, final: Final) -> bytes:
        """Returns one object with the whole text; no newline."""
        done: dict[str, object] = {"done": True, "done_reason": final.reason}
        if final.context and not self.ask.raw:
            done["context"] = [1000 + number for number in range(final.context)]
        return gojson.dump({**self._stamp(), **_response(piece), **done, **final.metrics()})


def _message(piece: Piece) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": piece.text}
    if piece.thinking:
        message["thinking"] = piece.thinking
    if piece.calls:
        message["tool_calls"] = [
            {"id": call["id"], "function": {"index": index, "name": call["name"], "arguments": call["args"]}}
            for index, call in enumerate(piece.calls)
        ]
    return message


def _response(piece: Piece) -> dict[str, object]:
    response: dict[str, object] = {"response": piece.text}
    if piece.thinking:
        response["thinking"] = piece.thinking
    return response
