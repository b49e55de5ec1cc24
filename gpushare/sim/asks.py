"""Reads a request body as Ollama does: keys without regard to case, and its own error texts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from gpushare.sim.gojson import seconds_of


class BadAsk(Exception):
    """The body is refused with this status and text.

    ``early`` marks refusals made in front of the handler on ``/v1``, which look slightly different.
    """

    def __init__(self, status: int, text: str, *, early: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.early = early


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request for the model, in one form for all dialects.

    ``limit`` is the largest number of tokens, 0 without one.  ``empty`` marks the forms that only load.
    ``keep_alive_s`` is None where the request does not say.
    """

    path: str
    model: str
    stream: bool = False
    text: str = ""
    empty: bool = False
    inputs: tuple[str, ...] = ()
    limit: int = 0
    options: Mapping[str, object] = field(default_factory=dict)
    keep_alive_s: float | None = None
    tools: tuple[str, ...] = ()
    think: bool | None = None
    usage: bool = False
    raw: bool = False
    body: Mapping[str, object] = field(default_factory=dict)


_GO_TYPES = {
    "/api/chat": "api.ChatRequest",
    "/api/generate": "api.GenerateRequest",
    "/api/embed": "api.EmbedRequest",
    "/api/embeddings": "api.EmbeddingRequest",
    "/v1/chat/completions": "openai.ChatCompletionRequest",
    "/v1/completions": "openai.CompletionRequest",
    "/v1/embeddings": "openai.EmbedRequest",
    "/v1/responses": "openai.ResponsesRequest",
    "/v1/messages": "anthropic.MessagesRequest",
}
_KINDS = {list: "array", str: "string", int: "number", float: "number", bool: "bool"}


def tokens_of(text: str) -> int:
    """Returns about how many tokens a text has."""
    return max(1, len(octets(text)) // 4)


def octets(text: str) -> bytes:
    """Returns a text in UTF-8; half a surrogate pair is some character, as it is to Go."""
    return text.encode(errors="replace")


def read_object(path: str, body: bytes) -> dict[str, object]:
    """Returns the top-level object with lower-case keys; what follows the first value is not looked at.

    Raises:
        BadAsk: 400 with Go's text.
    """
    early = path.startswith("/v1/")
    text = body.decode("utf-8", "replace").lstrip()
    if not text:
        raise BadAsk(400, "EOF" if early else "missing request body", early=early)
    try:
        value, _ = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text)
    except json.JSONDecodeError as error:
        raise BadAsk(400, _syntax_error(error.doc, error.pos), early=early) from None
    if not isinstance(value, dict):
        kind, name = _KINDS.get(type(value), "null"), _GO_TYPES.get(path, "api.Request")
        raise BadAsk(400, f"json: cannot unmarshal {kind} into Go value of type {name}", early=early)
    return {key.lower(): item for key, item in value.items()}


def read_ask(path: str, body: bytes) -> Ask:
    """Returns the request of a generation or embedding route.

    Raises:
        BadAsk: the body is refused.
    """
    fields = read_object(path, body)
    return _READERS[path](path, fields)


def _chat(path: str, fields: dict[str, object]) -> Ask:
    messages = _objects(fields.get("messages"))
    return _native(path, fields, text=_texts(messages), empty=not messages)


def _generate(path: str, fields: dict[str, object]) -> Ask:
    prompt = _string(fields.get("prompt"))
    return _native(path, fields, text=prompt, empty=not prompt)


def _native(path: str, fields: dict[str, object], *, text: str, empty: bool) -> Ask:
    options = {key.lower(): value for key, value in _mapping(fields.get("options")).items()}
    stream = fields.get("stream")
    if stream is not None and not isinstance(stream, bool):
        name = _GO_TYPES[path].partition(".")[2]
        kind = _KINDS.get(type(stream), "object")
        raise BadAsk(400, f"json: cannot unmarshal {kind} into Go struct field {name}.stream of type bool")
    return Ask(
        path=path,
        model=_string(fields.get("model")),
        stream=stream is not False,
        text=text,
        empty=empty,
        limit=_limit(options.get("num_predict")),
        options=options,
        keep_alive_s=_keep_alive(fields.get("keep_alive")),
        tools=_tool_names(fields.get("tools")),
        think=None if fields.get("think") is None else bool(fields["think"]),
        raw=bool(fields.get("raw")),
        body=fields,
    )


def _embed(path: str, fields: dict[str, object]) -> Ask:
    old, late = path == "/api/embeddings", path == "/v1/embeddings"
    value = fields.get("prompt" if old else "input")
    if late and (value is None or value == []):
        raise BadAsk(400, "invalid input", early=True)
    encoding = _string(fields.get("encoding_format"))
    if late and encoding.lower() not in ("", "float", "base64"):
        supported = "Supported values: ['float', 'base64']."
        raise BadAsk(400, f"Invalid value for 'encoding_format' = {encoding}. {supported}", early=True)
    given = value if isinstance(value, list) else [value] if value else []
    inputs = [one for one in given if isinstance(one, str)]
    if len(inputs) != len(given):
        raise BadAsk(400, "invalid input type")
    return Ask(
        path=path,
        model=_string(fields.get("model")),
        text="\n".join(inputs),
        inputs=tuple(inputs),
        empty=not inputs,
        options=_mapping(fields.get("options")),
        keep_alive_s=_keep_alive(fields.get("keep_alive")),
        body=fields,
    )


def _openai_chat(path: str, fields: dict[str, object]) -> Ask:
    messages = _objects(fields.get("messages"))
    if not messages:
        raise BadAsk(400, "[] is too short - 'messages'", early=True)
    return _compatible(path, fields, text=_texts(messages), limit="max_tokens")


def _openai_completion(path: str, fields: dict[str, object]) -> Ask:
    prompt = fields.get("prompt")
    if prompt is not None and not isinstance(prompt, str):
        kind = _KINDS.get(type(prompt), "object")
        sentence = (
            f"json: cannot unmarshal {kind} into Go struct field CompletionRequest.prompt of type string"
        )
        raise BadAsk(400, sentence, early=True)
    return _compatible(path, fields, text=prompt or "", limit="max_tokens", empty=not prompt)


def _responses(path: str, fields: dict[str, object]) -> Ask:
    given = fields.get("input")
    said = given if isinstance(given, str) else _texts(_objects(given))
    return _compatible(path, fields, text=said, limit="max_output_tokens")


def _messages(path: str, fields: dict[str, object]) -> Ask:
    if not fields.get("model"):
        raise BadAsk(400, "model is required", early=True)
    if _limit(fields.get("max_tokens")) <= 0:
        raise BadAsk(400, "max_tokens is required and must be positive", early=True)
    messages = _objects(fields.get("messages"))
    if not messages:
        raise BadAsk(400, "messages is required", early=True)
    system = fields.get("system")
    text = _flat(system) + "\n" + _texts(messages) if system else _texts(messages)
    return _compatible(path, fields, text=text, limit="max_tokens")


def _compatible(path: str, fields: dict[str, object], *, text: str, limit: str, empty: bool = False) -> Ask:
    return Ask(
        path=path,
        model=_string(fields.get("model")),
        stream=fields.get("stream") is True,
        text=text,
        empty=empty,
        limit=_limit(fields.get(limit)),
        tools=_tool_names(fields.get("tools")),
        usage=_mapping(fields.get("stream_options")).get("include_usage") is True,
        body=fields,
    )


_READERS = {
    "/api/chat": _chat,
    "/api/generate": _generate,
    "/api/embed": _embed,
    "/api/embeddings": _embed,
    "/v1/chat/completions": _openai_chat,
    "/v1/completions": _openai_completion,
    "/v1/embeddings": _embed,
    "/v1/responses": _responses,
    "/v1/messages": _messages,
}


def _no_constant(name: str) -> object:
    raise json.JSONDecodeError(name, name, 0)


def _syntax_error(text: str, position: int) -> str:
    if position >= len(text) or text[position:].startswith(('"', "{", "[")):
        return "unexpected EOF"
    return f"invalid character '{text[position]}' looking for beginning of value"


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[dict[str, object]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _keep_alive(value: object) -> float | None:
    try:
        return seconds_of(value)
    except ValueError as error:
        raise BadAsk(400, str(error)) from None


def _limit(value: object) -> int:
    return int(value) if isinstance(value, int | float) and value > 0 else 0


def _texts(messages: list[dict[str, object]]) -> str:
    return "\n".join(_flat(message.get("content")) for message in messages)


def _flat(content: object) -> str:
    """Returns the text of a message content: a string, or parts with a ``text``."""
    if isinstance(content, str):
        return content
    return "".join(_string(part.get("text")) for part in _objects(content))


def _tool_names(value: object) -> tuple[str, ...]:
    named = (_string(_mapping(one.get("function")).get("name") or one.get("name")) for one in _objects(value))
    return tuple(name for name in named if name)
