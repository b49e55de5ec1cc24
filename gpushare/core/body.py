"""The body gate: reads from a request what the queue must know, and refuses what is not plain.

Called by: the web layer, once a body has arrived whole.
Rules: a body passes unchanged or not at all.  Whatever Ollama decides on and another reader could read
differently is refused, so that what was checked is what Ollama reads (``core.json_object``).
"""

import math
import re
from collections.abc import Generator
from typing import Final

import msgspec
from msgspec import Raw

from gpushare.core.errors import BadJson, Denied, InvalidRequest, UnsupportedMedia
from gpushare.core.json_object import members, read_object
from gpushare.core.model import Call, Dialect, Endpoint, Framing, Intent, Kind
from gpushare.core.multipart import boundary_of, read_form_field
from gpushare.core.names import canonical_model, is_cloud, is_model_name, may_use

__all__ = ["canonical_model", "is_cloud", "may_use", "read_call"]

# What Ollama reads at the top level of any route's body (api/types.go, openai/, anthropic/ and
# x/imagegen).  A name missing here only loses its check for another case.
FIELDS: Final = frozenset(
    """
    _debug_render_only adapters background capabilities context conversation destination dimensions
    encoding_format files format frequency_penalty from images info input insecure instructions keep_alive
    license logprobs max_completion_tokens max_output_tokens max_tokens messages metadata model modelfile name
    options output_config parameters parser password path presence_penalty previous_response_id prompt
    quantization quantize raw reasoning reasoning_effort remote_host renderer requires response_format seed
    shift source steps stop stop_sequences store stream stream_options suffix system temperature template text
    think thinking tool_choice tools top_k top_logprobs top_p truncate truncation user username verbose width
    height
    """.split()  # noqa: SIM905 - a hundred words are read more easily as a paragraph
)
OPTIONS: Final = frozenset(
    """
    draft_num_predict f16_kv frequency_penalty logits_all low_vram main_gpu min_p mirostat mirostat_eta
    mirostat_tau num_batch num_ctx num_gpu num_keep num_predict num_thread numa penalize_newline
    presence_penalty repeat_last_n repeat_penalty seed stop temperature tfs_z top_k top_p typical_p use_mlock
    use_mmap vocab_only
    """.split()  # noqa: SIM905 - a hundred words are read more easily as a paragraph
)

# The field without which a route only loads the model.
_CONTENT: Final = {
    "/api/generate": "prompt",
    "/api/chat": "messages",
    "/api/embed": "input",
    "/api/embeddings": "prompt",
    "/v1/completions": "prompt",
}
_SEARCHING: Final = frozenset({"/v1/messages", "/v1/responses"})
_UNLOADING: Final = frozenset({"/api/generate", "/api/chat"})
_EMPTY = re.compile(rb'null|""|\[\s*\]')
_NUMBER_MAX = 64
_NULL = ord("n")
_NINE = 0x39  # what begins with a larger byte is no number
_SCALAR = msgspec.json.Decoder(str | float | bool | None)
# Go's time.ParseDuration.
_DURATION = re.compile(r"([-+]?)(?:0|((?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+))")
_QUANTITY = re.compile(r"([0-9.]+)([a-zµμ]+)")
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}


def read_call(
    endpoint: Endpoint, target: str, body: bytes, *, content_type: str, content_encoding: str
) -> Generator[None, None, Call]:
    """Returns the classified call; yields now and then in a long body, so that others can be served.

    Args:
        endpoint: the row of the route table.
        target: the upstream target that came with it.
        body: the request body, whole.
        content_type: the request's header; it only matters for forms.
        content_encoding: the request's header; nothing compressed is read.

    Raises:
        BadJson: the body is not one JSON object.
        InvalidRequest: a field is missing, wrong, or could be read in two ways.
        UnsupportedMedia: compressed, or a form where JSON is needed.
        Denied: an admin's download without certificate checks.
    """
    _check_encoding(endpoint, content_encoding)
    if endpoint.multipart:
        return _read_form(endpoint, target, body, content_type)
    if endpoint.method in {"GET", "HEAD"} or (endpoint.kind is Kind.REFUSED and not body):
        named = target.rpartition("/")[2] if endpoint.path.endswith("{model}") else ""
        return _plain_call(endpoint, target, body=b"", content_type="", asked=named)
    if content_type.lstrip()[:10].lower() == "multipart/":
        raise UnsupportedMedia("This route takes a JSON body, not a form.")
    if not body.strip():
        raise BadJson(_EMPTY_BODY.get(endpoint.dialect, "The request body is empty; it must be JSON."))
    found = yield from read_object(body, known=FIELDS)
    _check_values(endpoint, found)
    if endpoint.kind is Kind.ADMIN and _flag(found, "insecure"):
        raise Denied("Downloads without certificate checks are closed on this server.")
    asked = _model(endpoint, found)
    intent = _intent(endpoint, found)
    return Call(
        endpoint=endpoint,
        target=target,
        body=body,
        content_type="application/json",
        model=_canonical(asked),
        asked=asked,
        framing=_framing(endpoint, found, intent),
        lane=endpoint.lane,
        intent=intent,
        web_search=endpoint.path in _SEARCHING and _offers_web_search(found.get("tools")),
    )


_EMPTY_BODY: Final = {Dialect.OLLAMA: "missing request body"}  # Ollama's own words


def _check_encoding(endpoint: Endpoint, content_encoding: str) -> None:
    if not content_encoding:
        return
    coding = content_encoding.strip().lower()
    if coding in {"", "identity"}:
        return
    if coding == "zstd" and endpoint.path == "/v1/responses":
        raise UnsupportedMedia(
            "Compressed requests are not read here. In Codex, set enable_request_compression = false "
            "under [features] in ~/.codex/config.toml."
        )
    raise UnsupportedMedia("Compressed requests are not read here. Send the body without Content-Encoding.")


def _read_form(endpoint: Endpoint, target: str, body: bytes, content_type: str) -> Call:
    if content_type.lstrip()[:10].lower() != "multipart/":
        raise UnsupportedMedia("This route takes a multipart/form-data form.")
    boundary = boundary_of(content_type)
    return _plain_call(
        endpoint,
        target,
        body=body,
        content_type=f'multipart/form-data; boundary="{boundary}"',
        asked=_checked_name(read_form_field(body, boundary=boundary, field="model") or ""),
    )


def _plain_call(endpoint: Endpoint, target: str, *, body: bytes, content_type: str, asked: str) -> Call:
    return Call(
        endpoint=endpoint,
        target=target,
        body=body,
        content_type=content_type,
        model=_canonical(asked),
        asked=asked,
        framing=Framing.SINGLE,
        lane=endpoint.lane,
    )


def _canonical(asked: str) -> str:
    return canonical_model(asked) if asked else ""


def _check_values(endpoint: Endpoint, found: dict[str, Raw]) -> None:
    """Refuses wrong types in what Ollama decides on, and numbers that no number type holds."""
    _check_numbers(found)
    if _first_byte(found.get("messages")) not in b"[n":
        raise _wrong("messages", "a list")
    if endpoint.dialect is not Dialect.OLLAMA:
        return  # only Ollama's own routes read options; elsewhere the name is the client's affair
    options = found.get("options")
    if options is None:
        return
    if _first_byte(options) not in b"{n":
        raise _wrong("options", "an object")
    if _first_byte(options) != _NULL:
        _check_numbers(members(options, known=OPTIONS))


def _first_byte(value: Raw | None) -> int:
    """Returns what tells the type of a value; without a value, what ``null`` begins with."""
    return _NULL if value is None else memoryview(value)[0]


def _check_numbers(found: dict[str, Raw]) -> None:
    for value in found.values():
        view = memoryview(value)
        if (
            view[0] <= _NINE
            and view[0] in b"-0123456789"
            and not (len(view) <= _NUMBER_MAX and math.isfinite(float(view)))
        ):
            raise InvalidRequest("The request holds a number that is out of range.")


def _model(endpoint: Endpoint, found: dict[str, Raw]) -> str:
    """Returns the model's name as written; where nothing is generated, old clients say ``name``."""
    name = _text(found, "model")
    if endpoint.kind is not Kind.QUEUED:
        name = name or _text(found, "name")
    return _checked_name(name) if name or endpoint.kind in {Kind.QUEUED, Kind.PASSED} else ""


def _checked_name(name: str) -> str:
    if not name:
        raise InvalidRequest("model is required")  # Ollama's own words
    if not is_model_name(name):
        raise InvalidRequest("The model name holds characters that no model name has.")
    return name


def _intent(endpoint: Endpoint, found: dict[str, Raw]) -> Intent:
    keep_alive_s = _keep_alive_s(found) if endpoint.dialect is Dialect.OLLAMA else None
    if endpoint.path not in _CONTENT:
        return Intent.GENERATE
    content = found.get(_CONTENT[endpoint.path])
    if content is not None and not _EMPTY.fullmatch(content):
        return Intent.GENERATE
    # Some versions of Ollama drop the fraction; a load for less than a second is an unload either way.
    at_once = keep_alive_s is not None and -1e-6 < keep_alive_s < 1
    return Intent.UNLOAD if at_once and endpoint.path in _UNLOADING else Intent.LOAD


def _offers_web_search(tools: Raw | None) -> bool:
    """Whether Ollama would answer the model's searches itself (``hasWebSearchTool`` in ``middleware/``)."""
    text = bytes(tools) if tools is not None else b""
    if b"web_search" not in text and b"\\u" not in text:
        return False
    try:
        rows = msgspec.json.decode(text, type=list[dict[str, Raw]])
    except msgspec.DecodeError:
        return False  # Ollama refuses it too
    kinds = (value for row in rows for name, value in row.items() if name.casefold() == "type")
    return any(kind.startswith("web_search") for kind in map(_scalar, kinds) if isinstance(kind, str))


def _framing(endpoint: Endpoint, found: dict[str, Raw], intent: Intent) -> Framing:
    stream = _flag(found, "stream")
    streams = endpoint.streams if stream is None else stream
    if endpoint.streams is None or not streams:
        return Framing.SINGLE
    # Ollama answers these with one document, asked to stream or not.
    one_document = intent is not Intent.GENERATE or _flag(found, "_debug_render_only")
    return Framing.SINGLE if one_document and endpoint.framing is Framing.NDJSON else endpoint.framing


def _text(found: dict[str, Raw], name: str) -> str:
    value = _value(found, name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(name, "text")
    return value


def _flag(found: dict[str, Raw], name: str) -> bool | None:
    value = _value(found, name)
    if value is None or isinstance(value, bool):
        return value
    raise _wrong(name, "true or false")


def _keep_alive_s(found: dict[str, Raw]) -> float | None:
    value = _value(found, "keep_alive")
    if value is None:
        return None
    if isinstance(value, float):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) and len(value) <= _NUMBER_MAX else None
    if match is None:
        raise _wrong("keep_alive", 'a number of seconds or a time such as "5m"')
    total = sum(float(amount) * _UNITS[unit] for amount, unit in _QUANTITY.findall(match[2] or ""))
    return -total if match[1] == "-" else total


def _value(found: dict[str, Raw], name: str) -> str | float | bool | tuple[()] | None:
    raw = found.get(name)
    return None if raw is None else _scalar(raw)


def _scalar(raw: Raw) -> str | float | bool | tuple[()] | None:
    """Returns one decoded value, or an empty tuple for a list or an object, which no caller expects."""
    return () if _first_byte(raw) in b"[{" else _SCALAR.decode(raw)


def _wrong(name: str, expected: str) -> InvalidRequest:
    return InvalidRequest(f'The field "{name}" must be {expected}.')
