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

from gpushare.core.about import Cancelled, Connecting, Models, Unload, Unloaded, Whoami
from gpushare.core.controls import Control, Controls
from gpushare.core.document import Document
from gpushare.core.usage import FORMATS, By, Usage
from gpushare.core.why import Queue

JSON = ("application/json",)
TEXT = ("text/plain",)
METRICS = ("text/plain", "application/openmetrics-text")
TABLE = "text/csv"
LINES = ("application/x-ndjson",)
_REFERENCE = "#/components/schemas/{name}"
_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^r_[0-9a-f]{16}$"},
}

_USAGE: tuple[dict[str, Any], ...] = (
    {"name": "by", "in": "query", "schema": {"enum": [by.value for by in By]}},
    {"name": "of", "in": "query", "schema": {"enum": ["me"]}},
    {
        "name": "since",
        "in": "query",
        "description": "A time ago, or a day.",
        "schema": {
            "type": "string",
            "pattern": "^([1-9][0-9]{0,2}[smhd]|20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8]))$",
        },
    },
    {"name": "format", "in": "query", "schema": {"enum": list(FORMATS)}},
)


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


Answer = type[Struct] | tuple[str | type[Struct], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one address; ``answers`` are its own statuses, each with its shape or media types."""

    path: str
    summary: str
    answers: Mapping[int, Answer]
    method: str = "get"
    key: Key = Key.NONE
    parameters: tuple[dict[str, Any], ...] = ()
    body: type[Struct] | None = None


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
    Operation(
        path="/gpushare/v1/usage",
        summary="What the caller used; an admin is told of all",
        answers={200: (Usage, TABLE), 400: Error, 401: Error, 503: Error},
        key=Key.NEEDED,
        parameters=_USAGE,
    ),
    *(
        Operation(
            path=f"/gpushare/v1/queue/{what}",
            method="post",
            summary=summary,
            answers={200: Controls, 401: Error, 403: Error},
            key=Key.NEEDED,
        )
        for what, summary in (
            (Control.PAUSE, "Starts nothing more until it is resumed"),
            (Control.DRAIN, "Turns waiting and new calls away until it is resumed"),
            (Control.RESUME, "Ends a pause and a drain"),
        )
    ),
    Operation(
        path="/gpushare/v1/models",
        summary="The models in Ollama's store, those in memory first",
        answers={200: Models, 401: Error},
        key=Key.NEEDED,
    ),
    Operation(
        path="/gpushare/v1/models/unload",
        method="post",
        summary="Drops a model from memory once nothing runs on it",
        answers={200: Unloaded, 400: Error, 401: Error, 403: Error, 404: Error},
        key=Key.NEEDED,
        body=Unload,
    ),
    Operation(
        path="/gpushare/v1/probe",
        summary="Five lines in a second, to see whether what stands between holds them back",
        answers={200: LINES, 401: Error},
        key=Key.NEEDED,
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
    components = msgspec.json.decode(msgspec.json.encode(components))  # a default may be a tuple
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
    kinds = [one for kind in answers for one in (kind if isinstance(kind, tuple) else (kind,))]
    bodies = [operation.body for operation in OPERATIONS if operation.body]
    return tuple(dict.fromkeys(kind for kind in [*kinds, *bodies, Error] if not isinstance(kind, str)))


def _described(operation: Operation, references: dict[type[Struct], dict[str, Any]]) -> dict[str, Any]:
    answers: dict[str, dict[str, Any]] = {
        str(status): {"description": _MEANINGS[status], "content": _content(kind, references)}
        for status, kind in operation.answers.items()
    }
    answers["default"] = {"description": "Refused.", "content": _content(Error, references)}
    if "{" in operation.path:  # a value that no path can hold is an unknown path: told in plain text
        answers["404"]["content"] |= _content(TEXT, references)
    described: dict[str, Any] = {"summary": operation.summary, "responses": answers}
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.body:
        described["requestBody"] = {"required": True, "content": _content(operation.body, references)}
    if operation.key is not Key.NONE:
        ways: list[dict[str, list[str]]] = [{name: []} for name in _WAYS]
        described["security"] = ways if operation.key is Key.NEEDED else [{}, *ways]
    return described


def _content(kind: Answer, references: dict[type[Struct], dict[str, Any]]) -> dict[str, Any]:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return {
        (one if isinstance(one, str) else JSON[0]): {
            "schema": _any(one) if isinstance(one, str) else references[one]
        }
        for one in kinds
    }


def _any(media: str) -> dict[str, str]:
    return {"type": "object" if media in JSON else "string"}


_MEANINGS = {
    200: "What was asked for.",
    400: "The request is wrong.",
    401: "No key, or none that is valid here.",
    403: "Not for this caller.",
    404: "There is no such thing.",
    503: "Not now.",
}
