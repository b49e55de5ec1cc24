import pytest

from gpushare.core.audience import Audience, People, owner_names
from gpushare.core.keys import KeyRecord, KeyRing
from gpushare.core.model import Principal, Role

ALICE = Principal(key_id="aaaaaa", name="alice", owner="aaaaaa")
ROOT = Principal(key_id="dddddd", name="root", owner="dddddd", role=Role.ADMIN)


@pytest.mark.parametrize(
    ("who", "people", "other", "own"),
    [
        (None, "names", "somebody", "somebody"),
        (ALICE, "names", "carol jones", "alice"),
        (ALICE, "initials", "C.J.", "alice"),
        (ALICE, "hidden", "somebody", "alice"),
        (ROOT, "hidden", "carol jones", "root"),
    ],
)
def test_names_are_shown_as_configured(who: Principal | None, people: People, other: str, own: str) -> None:
    """Nobody without a key sees a name, an admin sees all, the own name is always there."""
    audience = Audience(who=who, people=people)
    assert audience.shown("carol jones", own=False) == other
    assert audience.shown(who.name if who else "", own=True) == own


def test_details_are_for_oneself_and_admins() -> None:
    """Tool and tokens of others are the admin's business alone."""
    seen = [
        [Audience(who=who).sees_details(owner) for owner in ("aaaaaa", "bbbbbb")]
        for who in (None, ALICE, ROOT)
    ]
    assert seen == [[False, False], [True, False], [True, True]]


def test_models_follow_the_key() -> None:
    """A key that is limited to some models learns of no other."""
    limited = Audience(who=Principal(key_id="e", name="e", owner="e", models=("gemma3:*",)))
    assert [limited.model(name) for name in ("gemma3:27b", "qwen3:8b")] == ["gemma3:27b", "another model"]
    assert Audience(who=ALICE).model("qwen3:8b") == Audience(who=None).model("qwen3:8b") == "qwen3:8b"


def test_viewers_of_one_kind_see_the_same_of_others() -> None:
    """The kind has all that decides what is shown of other people."""
    bob = Principal(key_id="bbbbbb", name="bob", owner="bbbbbb")
    assert Audience(who=ALICE).kind == Audience(who=bob).kind
    kinds = {
        Audience(who=None).kind,
        Audience(who=ALICE).kind,
        Audience(who=ALICE, people="hidden").kind,
        Audience(who=ROOT).kind,
        Audience(who=Principal(key_id="e", name="e", owner="e", models=("m",))).kind,
    }
    assert len(kinds) == 5


def test_owners_are_shown_by_their_first_key() -> None:
    """Several keys of one owner have one name."""
    records = [
        KeyRecord(id=key, name=name, sha256="0" * 64, owner="aaaaaa")
        for key, name in (("aaaaaa", "alice"), ("bbbbbb", "alice laptop"))
    ]
    assert owner_names(KeyRing(records)) == {"aaaaaa": "alice"}
