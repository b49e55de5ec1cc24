"""What became of keys."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from gpushare.core.keys import KeyRecord, KeyRing
from gpushare.core.keys.differing import Difference, differences

NOW = datetime(2026, 11, 20, 14, 3, tzinfo=UTC)
ALICE = KeyRecord(id="aaaaaa", name="alice", sha256="a" * 64)
BOB = KeyRecord(id="bbbbbb", name="bob", sha256="b" * 64)


def test_keys_that_came_and_went() -> None:
    """Each by its id and its name."""
    assert list(differences(KeyRing([ALICE]), KeyRing([BOB]))) == [
        Difference(key_id="bbbbbb", what="key added", detail="bob"),
        Difference(key_id="aaaaaa", what="key removed", detail="alice"),
    ]
    assert list(differences(KeyRing([ALICE, BOB]), KeyRing([BOB, ALICE]))) == []


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"weight": 2.0, "models": ("m",)}, "alice: weight, models"),
        ({"name": "alicia"}, "alicia: name"),
        ({"sha256": "c" * 64, "link": None}, "alice: secret"),
        ({"link": "d" * 64, "link_until": NOW}, "alice: link"),
        ({"revoked": NOW}, "alice: revoked"),
    ],
)
def test_what_of_a_key_changed(fields: dict[str, object], detail: str) -> None:
    """In words, and nothing of its values: they may be secret."""
    changed = replace(ALICE, **fields)
    (found,) = differences(KeyRing([ALICE, BOB]), KeyRing([changed, BOB]))
    assert found == Difference(key_id="aaaaaa", what="key changed", detail=detail)
