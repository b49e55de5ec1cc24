"""The description of our own addresses for programs, as an OpenAPI document.

Called by: ``web.pages.health``.  Rules: the shapes are those of the types that are sent; what the types do
not say stands in the table.  Ollama's own routes are Ollama's to describe.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

from gpushare.core.about import Cancelled, Connecting, Whoami
from gpushare.core.document import Document
from gpushare.core.why import Queue

JSON = ("application/json",)
TEXT = ("text/plain",)
METRICS = ("text/plain", "application/openmetrics-text")
_REFERENCE = "#/components/schemas/{name}"
_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^r_[0-9a-f]{16}$"},
}


class Key(StrEnum):
    """Whether an address wants to know who asks."""

    NONE = "none"
    WELCOME = "welcome"
    NEEDED = "needed"


class ErrorDetail(Struct, frozen=True):
    """What went wrong: a word for programs, a sentence for people, an id for the log."""

    code: str
    message: str
    request_id: str


class Error(Struct, frozen=True):
    """How every refusal looks at these addresses."""

    error: ErrorDetail


Answer = type[Struct] | tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one address; ``answers`` are its own statuses, each with its shape or its media types."""

    path: str
    summary: str
    answers: Mapping[int, Answer]
    method: str = "get"
    key: Key = Key.NONE
    parameters: tuple[dict[str, Any], ...] = ()


OPERATIONS = (
    Operation(
        path="/gpushare/v1/status",
        summary="The status document, reduced to what the caller may see",
        answers={200: Document, 401: Error},
        key=Key.WELCOME,
    ),
    Operation(
        path="/gpushare/v1/queue",
        summary="Why the caller's calls wait; an admin is told of all",
        answers={200: Queue, 401: Error},
        key=Key.NEEDED,
    ),
    Operation(
        path="/gpushare/v1/connecting",
        summary="What the steps for connecting a tool are filled in with",
        answers={200: Connecting},
        key=Key.WELCOME,
    ),
    Operation(
        path="/gpushare/v1/whoami",
        summary="Whose key it is",
        answers={200: Whoami, 401: Error},
        key=Key.NEEDED,
    ),
    Operation(
        path="/gpushare/v1/queue/{id}",
        method="delete",
        summary="Cancels a call that waits or runs",
        answers={200: Cancelled, 401: Error, 404: Error},
        key=Key.NEEDED,
        parameters=(_ID,),
    ),
    Operation(path="/gpushare/v1/openapi.json", summary="This document", answers={200: JSON}),
    Operation(
        path="/metrics",
        summary="Prometheus metrics, for the networks that may read them",
        answers={200: METRICS, 403: Error, 404: TEXT},
    ),
    Operation(path="/healthz", summary="Whether the process answers", answers={200: TEXT}),
    Operation(path="/readyz", summary="Whether a call would be taken now", answers={200: TEXT, 503: TEXT}),
)


def description(version: str) -> dict[str, Any]:
    """Returns the document, ready for JSON."""
    schemas, components = msgspec.json.schema_components(_shapes(), ref_template=_REFERENCE)
    references = dict(zip(_shapes(), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gpushare",
            "version": version,
            "description": "The server's own addresses; GET may be HEAD. Ollama documents its own.",
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _WAYS},
    }


_WAYS: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, gs_…"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
    "basic": {"type": "http", "scheme": "basic", "description": "The key is user name or password."},
}


def _shapes() -> tuple[type[Struct], ...]:
    """Returns each type that is sent, once."""
    answers = [kind for operation in OPERATIONS for kind in operation.answers.values()]
    return tuple(dict.fromkeys(kind for kind in [*answers, Error] if not isinstance(kind, tuple)))


def _described(operation: Operation, references: dict[type[Struct], dict[str, Any]]) -> dict[str, Any]:
    answers: dict[str, dict[str, Any]] = {
        str(status): {"description": _MEANINGS[status], "content": _content(kind, references)}
        for status, kind in operation.answers.items()
    }
    answers["default"] = {"description": "Refused.", "content": _content(Error, references)}
    if (
        operation.parameters
    ):  # a value that no path can hold is an unknown path, and that is told in plain text
        answers["404"]["content"] |= _content(TEXT, references)
    described: dict[str, Any] = {"summary": operation.summary, "responses": answers}
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.key is not Key.NONE:
        ways: list[dict[str, list[str]]] = [{name: []} for name in _WAYS]
        described["security"] = ways if operation.key is Key.NEEDED else [{}, *ways]
    return described


def _content(kind: Answer, references: dict[type[Struct], dict[str, Any]]) -> dict[str, Any]:
    if isinstance(kind, tuple):
        return {media: {"schema": {"type": "object" if kind is JSON else "string"}} for media in kind}
    return {JSON[0]: {"schema": references[kind]}}


_MEANINGS = {
    200: "What was asked for.",
    401: "No key, or none that is valid here.",
    403: "Not for this caller.",
    404: "There is no such thing.",
    503: "Not now.",
}
