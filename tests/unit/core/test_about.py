import json

import msgspec

from gpushare.core.about import Connecting, Whoami
from gpushare.core.model import Role, Service


def test_the_class_of_a_key_has_its_name_of_the_glossary() -> None:
    """A word that Python keeps for itself is written out in JSON, and read back."""
    whoami = Whoami(
        name="alice",
        key_id="aaaaaa",
        role=Role.PERSON,
        service=Service.BACKGROUND,
        weight=2.0,
        host="atlas",
        version="1",
    )
    written = msgspec.json.encode(whoami)
    assert json.loads(written)["class"] == "background"
    assert msgspec.json.decode(written, type=Whoami) == whoami


def test_what_nobody_knows_is_null() -> None:
    """A caller can tell "no model" from a field that is missing."""
    written = json.loads(msgspec.json.encode(Connecting(base_url="http://a", model=None, context=None)))
    assert written == {
        "schema": "gpushare.connecting/1",
        "base_url": "http://a",
        "model": None,
        "context": None,
    }
