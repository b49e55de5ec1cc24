"""The OpenAPI document: whole, and nothing but what is there."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from gpushare.core.about import Whoami
from gpushare.core.document import Document
from gpushare.core.openapi import OPERATIONS, Error, description

DESCRIBED: dict[str, Any] = description("1.2.3")


def references(value: object) -> set[str]:
    """Returns everything that is referred to inside a value."""
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list | tuple) else set()


def test_it_is_one_document_of_its_kind() -> None:
    """JSON, with the version of OpenAPI and of the server."""
    assert json.loads(json.dumps(DESCRIBED)) == msgspec.json.decode(msgspec.json.encode(DESCRIBED))
    assert (DESCRIBED["openapi"], DESCRIBED["info"]["version"]) == ("3.1.0", "1.2.3")


def test_every_reference_leads_somewhere() -> None:
    """Shapes that are used are there, and no others."""
    shapes = {f"#/components/schemas/{name}" for name in DESCRIBED["components"]["schemas"]}
    assert references(DESCRIBED) == shapes


@pytest.mark.parametrize("kind", [Document, Whoami, Error])
def test_shapes_are_those_of_the_types(kind: type[Struct]) -> None:
    """Field by field, as they are written."""
    shape = DESCRIBED["components"]["schemas"][kind.__name__]
    assert list(shape["properties"]) == list(kind.__struct_encode_fields__)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.path)
def test_every_operation_says_how_it_ends(operation: Any) -> None:
    """With its own statuses, and with the error that any of them can end with."""
    found = DESCRIBED["paths"][operation.path][operation.method]
    assert {*found["responses"]} == {*map(str, operation.answers), "default"}
    assert found["summary"]
    named = [word[1:-1] for word in operation.path.split("/") if word.startswith("{")]
    places = [(each["in"], each["name"]) for each in found.get("parameters", ())]
    assert [name for place, name in places if place == "path"] == named
    assert {place for place, _ in places} <= {"path", "query"}


def test_usage_has_two_forms() -> None:
    """A document for programs, and a table."""
    answers = DESCRIBED["paths"]["/gpushare/v1/usage"]["get"]["responses"]["200"]["content"]
    assert answers.keys() == {"application/json", "text/csv"}
    assert answers["text/csv"] == {"schema": {"type": "string"}}


def test_what_needs_a_key_says_so() -> None:
    """Four ways of a header; where a key is only welcome, none is one of the ways."""
    paths = DESCRIBED["paths"]
    assert len(paths["/gpushare/v1/whoami"]["get"]["security"]) == len(
        DESCRIBED["components"]["securitySchemes"]
    )
    assert {} in paths["/gpushare/v1/status"]["get"]["security"]
    assert "security" not in paths["/healthz"]["get"]
