"""How ``/v1/responses`` writes a generation: Go maps, so keys are sorted in events."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpushare.sim import gojson
from gpushare.sim.asks import Ask
from gpushare.sim.openai import tool_calls
from gpushare.sim.records import Final, Piece

Item = dict[str, object]


def _sse_headers() -> dict[str, str]:
    return {"Cache-Control": "no-cache", "Connection": "keep-alive", "Content-Type": "text/event-stream"}


def _number() -> int:
    return secrets.randbelow(999_999)


@dataclass(slots=True)
class Responses:
    """``/v1/responses``: every event is flushed by itself; there is no ``[DONE]``."""

    ask: Ask
    stream_headers: Mapping[str, str] = field(default_factory=_sse_headers)
    single_type: str = "application/json"
    name: str = field(default_factory=lambda: f"resp_{_number()}")
    item: str = field(default_factory=lambda: f"msg_{_number()}")
    thought: str = field(default_factory=lambda: f"rs_{_number()}")
    sequence: int = 0
    index: int = 0
    text: str = ""
    thinking: str = ""
    open_item: str = ""
    output: list[Item] = field(default_factory=list)

    def piece(self, piece: Piece) -> list[bytes]:
        """Returns the events of a record."""
        events = self._begin()
        if piece.thinking:
            events += self._think(piece.thinking)
        if piece.text:
            events += self._say(piece.text)
        if piece.calls:
            events += self._close()
            for call in tool_calls(piece):
                events += self._call(call)
        return events

    def final(self, final: Final) -> list[bytes]:
        """Returns the closing events; the last repeats the whole output."""
        events = self._begin() + self._close()
        response = self._response("completed", self.output, _usage(final))
        response["completed_at"] = int(time.time())
        return [*events, self._event("response.completed", {"response": response})]

    def whole(self, piece: Piece, final: Final) -> bytes:
        """Returns one object in struct order and a newline."""
        output: list[Item] = []
        if piece.thinking:
            output.append(_reasoning(f"rs_{self.name}", piece.thinking))
        for number, call in enumerate(tool_calls(piece)):
            output.append({"id": f"fc_{self.name}_{number}", **_function_call(call, "completed")})
        if not piece.calls:
            output.append(_message(self.item, "completed", [_part(piece.text)]))
        response = self._response("completed", output, _usage(final))
        response["completed_at"] = int(time.time())
        return gojson.dump(response) + b"\n"

    def broken(self, text: str) -> list[bytes]:  # noqa: ARG002 - the text is lost, as it is in Ollama
        """Returns nothing: Ollama just ends the stream."""
        return []

    def _begin(self) -> list[bytes]:
        if self.sequence:
            return []
        names = ("response.created", "response.in_progress")
        return [self._event(name, {"response": self._response("in_progress", [], None)}) for name in names]

    def _think(self, text: str) -> list[bytes]:
        events = []
        if self.open_item != "reasoning":
            self.open_item = "reasoning"
            item = {"id": self.thought, "type": "reasoning", "summary": []}
            events.append(self._event("response.output_item.added", {**self._place(), "item": item}))
        self.thinking += text
        delta = {"item_id": self.thought, **self._place(), "summary_index": 0, "delta": text}
        return [*events, self._event("response.reasoning_summary_text.delta", delta)]

    def _say(self, text: str) -> list[bytes]:
        events = []
        if self.open_item != "message":
            events += self._close()
            self.open_item = "message"
            item = _message(self.item, "in_progress", [])
            events.append(self._event("response.output_item.added", {**self._place(), "item": item}))
            events.append(self._event("response.content_part.added", {**self._spot(), "part": _part("")}))
        self.text += text
        delta = {**self._spot(), "delta": text, "logprobs": []}
        return [*events, self._event("response.output_text.delta", delta)]

    def _call(self, call: Item) -> list[bytes]:
        name = f"fc_{_number()}_{call['index']}"
        done = {"id": name, **_function_call(call, "completed")}
        begun = {"id": name, **_function_call(call, "in_progress"), "arguments": ""}
        place = self._place()
        text = {"item_id": name, **place}
        events = [
            self._event("response.output_item.added", {**place, "item": begun}),
            self._event("response.function_call_arguments.delta", {**text, "delta": done["arguments"]}),
            self._event("response.function_call_arguments.done", {**text, "arguments": done["arguments"]}),
            self._event("response.output_item.done", {**place, "item": done}),
        ]
        self.output.append(done)
        self.index += 1
        return events

    def _close(self) -> list[bytes]:
        """Ends the open item, if there is one."""
        kind, self.open_item = self.open_item, ""
        if not kind:
            return []
        if kind == "reasoning":
            item = _reasoning(self.thought, self.thinking)
            text = {"item_id": self.thought, **self._place(), "summary_index": 0, "text": self.thinking}
            events = [self._event("response.reasoning_summary_text.done", text)]
        else:
            item = _message(self.item, "completed", [_part(self.text)])
            said = {**self._spot(), "text": self.text, "logprobs": []}
            part = {**self._spot(), "part": _part(self.text)}
            events = [
                self._event("response.output_text.done", said),
                self._event("response.content_part.done", part),
            ]
        events.append(self._event("response.output_item.done", {**self._place(), "item": item}))
        self.output.append(item)
        self.index += 1
        return events

    def _place(self) -> Item:
        return {"output_index": self.index}

    def _spot(self) -> Item:
        return {"item_id": self.item, **self._place(), "content_index": 0}

    def _event(self, name: str, data: Mapping[str, object]) -> bytes:
        payload = {**data, "type": name, "sequence_number": self.sequence}
        self.sequence += 1
        return f"event: {name}\ndata: ".encode() + gojson.dump(_sorted(payload)) + b"\n\n"

    def _response(self, status: str, output: list[Item], usage: Item | None) -> Item:
        """Returns the response object in the order of Go's struct; the request's settings are echoed."""
        asked = self.ask.body
        return {
            "id": self.name,
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "status": status,
            "incomplete_details": None,
            "model": self.ask.model,
            "previous_response_id": None,
            "instructions": asked.get("instructions"),
            "output": output,
            "error": None,
            "tools": asked.get("tools") or [],
            "tool_choice": "auto",
            "truncation": asked.get("truncation") or "disabled",
            "parallel_tool_calls": True,
            "text": {"format": {"type": "text"}},
            "top_p": asked.get("top_p", 1),
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "top_logprobs": 0,
            "temperature": asked.get("temperature", 1),
            "reasoning": None,
            "usage": usage,
            "max_output_tokens": asked.get("max_output_tokens"),
            "max_tool_calls": None,
            "store": False,
            "background": False,
            "service_tier": "default",
            "metadata": {},
            "safety_identifier": None,
            "prompt_cache_key": None,
        }


def _usage(final: Final) -> Item:
    return {
        "input_tokens": final.prompt_tokens,
        "output_tokens": final.tokens,
        "total_tokens": final.prompt_tokens + final.tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


def _part(text: str) -> Item:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _message(name: str, status: str, content: list[Item]) -> Item:
    return {"id": name, "type": "message", "status": status, "role": "assistant", "content": content}


def _reasoning(name: str, text: str) -> Item:
    summary = [{"type": "summary_text", "text": text}]
    return {"id": name, "type": "reasoning", "summary": summary, "encrypted_content": text}


def _function_call(call: Item, status: str) -> Item:
    function = call["function"]
    assert isinstance(function, dict)  # noqa: S101 - made by tool_calls
    return {"type": "function_call", "status": status, "call_id": call["id"], **function}


def _sorted(value: object) -> object:
    """Returns the value with the keys of every object sorted, as Go prints its maps."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(one) for one in value]
    return value
