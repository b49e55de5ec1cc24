"""Model lists for keys that may not see every model."""

import json

import pytest

from gpushare.core.lists import filter_list


@pytest.mark.parametrize(("field", "name"), [("models", "name"), ("data", "id")])
def test_only_permitted_models_stay_in_a_list(field: str, name: str) -> None:
    """Both list shapes lose the models outside the key's patterns and keep the rest whole."""
    rows = [{name: "qwen3:8b", "size": 1}, {name: "secret:70b", "size": 2}]
    body = json.dumps({"object": "list", field: rows}).encode()
    assert json.loads(filter_list(body, ("qwen3:*",))) == {"object": "list", field: [rows[0]]}


def test_an_unknown_shape_shows_nothing() -> None:
    """What is not understood is not shown."""
    assert filter_list(b'["secret:70b"]', ("qwen3:*",)) == b"{}"
