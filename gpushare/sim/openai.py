"""How the OpenAI routes write a generation: chat/completions, completions and their error object."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpushare.sim import gojson
from gpushare.sim.asks import Ask
from gpushare.sim.records import Final, Piece

DONE = b"data: [DONE]\n\n"


def error(status: int, text: str) -> dict[str, object]:
    """Returns the OpenAI error object; the type follows the status."""
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
    return {"error": {"message": text, "type": kind, "param": None, "code": None}}


def usage(final: Final) -> dict[str, int]:
    """Returns the OpenAI token counts."""
    total = final.prompt_tokens + final.tokens
    return {"prompt_tokens": final.prompt_tokens, "completion_tokens": final.tokens, "total_tokens": total}


def tool_calls(piece: Piece) -> list[dict[str, object]]:
    """Returns the calls with their arguments as a JSON string."""
    return [
        {
            "id": call["id"],
            "index": index,
            "type": "function",
            "function": {"name": call["name"], "arguments": gojson.dump(call["args"]).decode()},
        }
        for index, call in enumerate(piece.calls)
    ]


def frame(value: object) -> bytes:
    """Returns one SSE frame without an event name."""
    return b"data: " + gojson.dump(value) + b"\n\n"


@dataclass(slots=True)
class _Stream:
    """What the two routes share."""

    ask: Ask
    number: int
    stream_headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})
    single_type: str = "application/json"
    created: int = field(default_factory=lambda: int(time.time()))


@dataclass(slots=True)
class ChatCompletions(_Stream):
    """``/v1/chat/completions``."""

    begun: bool = False
    called: bool = False

    def piece(self, piece: Piece) -> list[bytes]:
        """Returns one frame; only the first names the role."""
        self.called = self.called or bool(piece.calls)
        return [frame(self._chunk([self._choice(_delta(piece), None)]))]

    def final(self, final: Final) -> list[bytes]:
        """Returns the finish frame, the usage frame if it was asked for, and the end mark, in one flush."""
        reason = "tool_calls" if self.called else final.reason
        frames = frame(self._chunk([self._choice({}, reason)]))
        if self.ask.usage:
            frames += frame({**self._chunk([]), "usage": usage(final)})
        return [frames + DONE]

    def whole(self, piece: Piece, final: Final) -> bytes:
        """Returns one object and a newline."""
        message = {"role": "assistant", "content": piece.text, **_extras(piece)}
        reason = "tool_calls" if piece.calls else final.reason
        head = {**self._head("chat.completion"), "model": self.ask.model, "system_fingerprint": "fp_ollama"}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return gojson.dump({**head, "choices": [choice], "usage": usage(final)}) + b"\n"

    def broken(self, text: str) -> list[bytes]:  # noqa: ARG002 - the text is lost, as it is in Ollama
        """Returns an ordinary empty chunk without a model: Ollama loses the text of the error."""
        return [frame({**self._chunk([self._choice({}, None)]), "model": ""})]

    def _head(self, kind: str) -> dict[str, object]:
        return {"id": f"chatcmpl-{self.number}", "object": kind, "created": self.created}

    def _chunk(self, choices: list[object]) -> dict[str, object]:
        head = self._head("chat.completion.chunk")
        return {**head, "model": self.ask.model, "system_fingerprint": "fp_ollama", "choices": choices}

    def _choice(self, delta: dict[str, object], reason: str | None) -> dict[str, object]:
        if not self.begun:
            delta = {"role": "assistant", **delta}
            self.begun = True
        return {"index": 0, "delta": delta, "finish_reason": reason}


@dataclass(slots=True)
class Completions(_Stream):
    """``/v1/completions``."""

    def piece(self, piece: Piece) -> list[bytes]:
        """Returns one frame, with a zero usage where usage was asked for."""
        return [frame(self._chunk(piece.text, None))]

    def final(self, final: Final) -> list[bytes]:
        """Returns the frame with the finish reason, the true usage if asked for, and the end mark."""
        frames = frame(self._chunk("", final.reason))
        if self.ask.usage:
            frames += frame({**self._chunk("", final.reason), "choices": [], "usage": usage(final)})
        return [frames + DONE]

    def whole(self, piece: Piece, final: Final) -> bytes:
        """Returns one object and a newline."""
        choice = {"text": piece.text, "index": 0, "finish_reason": final.reason}
        tail = {"choices": [choice], "usage": usage(final)}
        head = {**self._head(), "model": self.ask.model, "system_fingerprint": "fp_ollama"}
        return gojson.dump({**head, **tail}) + b"\n"

    def broken(self, text: str) -> list[bytes]:  # noqa: ARG002 - the text is lost, as it is in Ollama
        """Returns an ordinary empty chunk without a model."""
        return [frame({**self._chunk("", None), "model": ""})]

    def _head(self) -> dict[str, object]:
        return {"id": f"cmpl-{self.number}", "object": "text_completion", "created": self.created}

    def _chunk(self, text: str, reason: str | None) -> dict[str, object]:
        choice = {"text": text, "index": 0, "finish_reason": reason}
        tail: dict[str, object] = {"model": self.ask.model, "system_fingerprint": "fp_ollama"}
        if self.ask.usage:
            tail["usage"] = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        return {**self._head(), "choices": [choice], **tail}


def embedding_list(ask: Ask, vectors: list[list[float]], tokens: int) -> dict[str, object]:
    """Returns the answer of ``/v1/embeddings`` with plain vectors."""
    data = [
        {"object": "embedding", "embedding": vector, "index": index} for index, vector in enumerate(vectors)
    ]
    counts = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": ask.model, "usage": counts}


def _delta(piece: Piece) -> dict[str, object]:
    text = {"content": piece.text} if piece.text else {}
    return {**text, **_extras(piece)}


def _extras(piece: Piece) -> dict[str, object]:
    extras: dict[str, object] = {}
    if piece.thinking:
        extras["reasoning"] = piece.thinking
    if piece.calls:
        extras["tool_calls"] = tool_calls(piece)
    return extras
