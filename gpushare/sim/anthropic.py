"""How ``/v1/messages`` writes a generation, and its error object."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpushare.sim import gojson
from gpushare.sim.asks import Ask, tokens_of
from gpushare.sim.records import Final, Piece

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
_REASONS = {"stop": "end_turn", "length": "max_tokens"}


def error(status: int, text: str) -> dict[str, object]:
    """Returns the Anthropic error object; the type follows the status."""
    detail = {"type": _KINDS.get(status, "api_error"), "message": text}
    return {"type": "error", "error": detail, "request_id": f"req_{secrets.token_hex(12)}"}


def _sse_headers() -> dict[str, str]:
    return {"Cache-Control": "no-cache", "Connection": "keep-alive", "Content-Type": "text/event-stream"}


@dataclass(slots=True)
class Messages:
    """``/v1/messages``: every event is flushed by itself."""

    ask: Ask
    stream_headers: Mapping[str, str] = field(default_factory=_sse_headers)
    single_type: str = "application/json"
    name: str = field(default_factory=lambda: f"msg_{secrets.token_hex(12)}")
    index: int = 0
    begun: bool = False
    open_block: str = ""
    called: bool = False

    def piece(self, piece: Piece) -> list[bytes]:
        """Returns the events of a record: block starts and stops around its deltas."""
        events = self._begin()
        if piece.thinking:
            events += self._open("thinking", {"type": "thinking", "thinking": ""})
            events.append(self._delta({"type": "thinking_delta", "thinking": piece.thinking}))
        if piece.text:
            events += self._open("text", {"type": "text", "text": ""})
            events.append(self._delta({"type": "text_delta", "text": piece.text}))
        for call in piece.calls:
            self.called = True
            start = {"type": "tool_use", "id": call["id"], "name": call["name"], "input": {}}
            events += self._close()
            events += self._open("tool_use", start)
            arguments = gojson.dump(call["args"]).decode()
            events.append(self._delta({"type": "input_json_delta", "partial_json": arguments}))
            events += self._close()
        return events

    def final(self, final: Final) -> list[bytes]:
        """Returns the events that end the message, with the true counts."""
        events = self._begin() + self._close()
        reason = "tool_use" if self.called else _REASONS.get(final.reason, "stop_sequence")
        counts = {"input_tokens": final.prompt_tokens, "output_tokens": final.tokens}
        events.append(_event("message_delta", {"delta": {"stop_reason": reason}, "usage": counts}))
        events.append(_event("message_stop", {}))
        return events

    def whole(self, piece: Piece, final: Final) -> bytes:
        """Returns one object and a newline."""
        content: list[dict[str, object]] = []
        if piece.thinking:
            content.append({"type": "thinking", "thinking": piece.thinking})
        if piece.text:
            content.append({"type": "text", "text": piece.text})
        for call in piece.calls:
            block = {"type": "tool_use", "id": call["id"], "name": call["name"], "input": call["args"]}
            content.append(block)
        reason = "tool_use" if piece.calls else _REASONS.get(final.reason, "stop_sequence")
        counts = {"input_tokens": final.prompt_tokens, "output_tokens": final.tokens}
        return gojson.dump({**self._message(content), "stop_reason": reason, "usage": counts}) + b"\n"

    def broken(self, text: str) -> list[bytes]:  # noqa: ARG002 - the text is lost, as it is in Ollama
        """Returns nothing: Ollama just ends the stream."""
        return []

    def _message(self, content: list[dict[str, object]]) -> dict[str, object]:
        head = {"id": self.name, "type": "message", "role": "assistant"}
        return {**head, "model": self.ask.model, "content": content}

    def _begin(self) -> list[bytes]:
        if self.begun:
            return []
        self.begun = True
        estimate = tokens_of(self.ask.text)
        counts = {"input_tokens": estimate, "output_tokens": 0}
        return [_event("message_start", {"message": {**self._message([]), "usage": counts}})]

    def _open(self, kind: str, block: Mapping[str, object]) -> list[bytes]:
        if self.open_block == kind:
            return []
        events = self._close()
        self.open_block = kind
        events.append(_event("content_block_start", {"index": self.index, "content_block": block}))
        return events

    def _close(self) -> list[bytes]:
        if not self.open_block:
            return []
        event = _event("content_block_stop", {"index": self.index})
        self.open_block = ""
        self.index += 1
        return [event]

    def _delta(self, delta: dict[str, object]) -> bytes:
        return _event("content_block_delta", {"index": self.index, "delta": delta})


def _event(name: str, data: Mapping[str, object]) -> bytes:
    return f"event: {name}\ndata: ".encode() + gojson.dump({"type": name, **data}) + b"\n\n"
