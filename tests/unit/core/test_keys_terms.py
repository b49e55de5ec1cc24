"""What a key may do, as it is typed and as a command."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpushare.core.keys import KeyRecord, KeyRing, NameTaken, NoSuchKey
from gpushare.core.keys.terms import (
    FRESH,
    LastAdmin,
    Passed,
    changed_terms,
    changes_told,
    options,
    read_terms,
    until,
    written,
)
from gpushare.core.model import Role, Service

NOW = datetime(2026, 11, 20, 14, tzinfo=UTC)


def record(number: int, **fields: Any) -> KeyRecord:
    """Returns a key."""
    given: dict[str, Any] = {"name": f"person{number}", "created": NOW, **fields}
    return KeyRecord(id=f"{number:06x}", sha256=f"{number:064x}", **given)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("never", None),
        ("90d", NOW + timedelta(days=90)),
        ("800d", NOW + timedelta(days=800)),
        ("2027-01-02", datetime(2027, 1, 2, tzinfo=UTC)),
    ],
)
def test_until_when(text: str, end: datetime | None) -> None:
    """From now, a day, or for ever."""
    assert until(text, NOW) == end


@pytest.mark.parametrize("text", ["", "soon", "90", "2027-13-01", "-1d"])
def test_what_is_no_end(text: str) -> None:
    """Refused."""
    with pytest.raises(ValueError, match=r".|^$"):
        until(text, NOW)


@pytest.mark.parametrize("day", [NOW - timedelta(days=400), NOW])
def test_an_end_lies_ahead(day: datetime) -> None:
    """A key that is over when it is made is a mistake, of whoever makes it."""
    with pytest.raises(Passed):
        until(f"{day:%Y-%m-%d}", NOW)


def test_what_was_typed_becomes_a_record() -> None:
    """Each field; spaces and commas part the models."""
    typed = {
        "name": " erin ",
        "role": "admin",
        "class": "background",
        "weight": "2.5",
        "models": "m, n:*  o",
        "max_waiting": "3",
        "max_running": "1",
        "expires": "1d",
    }
    values, wrong = read_terms(typed, NOW)
    assert wrong == {}
    assert values == {
        "name": "erin",
        "role": Role.ADMIN,
        "service": Service.BACKGROUND,
        "weight": 2.5,
        "models": ("m", "n:*", "o"),
        "max_waiting": 3,
        "max_running": 1,
        "expires": NOW + timedelta(days=1),
    }
    made = record(1, **values)
    assert read_terms(written(made), NOW)[0] == values | {"expires": datetime(2026, 11, 21, tzinfo=UTC)}


def test_a_fresh_form_lacks_only_a_name() -> None:
    """Everything else has its usual value."""
    assert list(read_terms(FRESH, NOW)[1]) == ["name"]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("name", "<b>"),
        ("role", "god"),
        ("class", ""),
        *(("weight", text) for text in ("", "0", "-1", "nan", "inf", "1001", "x")),
        ("models", "m" * 201),
        ("models", "m " * 101),
        *(("max_waiting", text) for text in ("", "-1", "1.5", "100001", "\u0663", "9999999")),
        *(("expires", text) for text in ("soon", "2026-11-19")),
    ],
)
def test_each_mistake_is_told_at_its_field(field: str, text: str) -> None:
    """As a sentence; the other fields are read all the same."""
    values, wrong = read_terms({**FRESH, "name": "erin", field: text}, NOW)
    assert list(wrong) == [field]
    assert wrong[field].endswith(".")
    assert len(values) == len(FRESH) - 1


def test_the_command_says_what_differs() -> None:
    """Nothing for what is usual; models one by one; all of them again by a word of its own."""
    assert options({**FRESH, "name": "erin"}) == []
    typed = {**FRESH, "weight": "2", "models": "m n", "max_waiting": "3"}
    assert options(typed) == ["--weight", "2", "--model", "m", "--model", "n", "--max-waiting", "3"]
    assert options({"models": ""}, before={"models": "m"}) == ["--any-model"]


def test_one_key_is_changed() -> None:
    """And no other; a name that is somebody else's is refused."""
    ring = KeyRing([record(1), record(2)])
    after = changed_terms(ring, "000001", NOW, weight=2.0)
    assert [one.weight for one in after.records] == [2.0, 1.0]
    with pytest.raises(NameTaken):
        changed_terms(ring, "000001", NOW, name="PERSON2")
    with pytest.raises(NoSuchKey):
        changed_terms(ring, "000003", NOW, weight=2.0)
    with pytest.raises(NoSuchKey):
        changed_terms(KeyRing([record(1, revoked=NOW)]), "000001", NOW, weight=2.0)


@pytest.mark.parametrize("change", [{"role": Role.PERSON}, {"disabled": True}, {"revoked": NOW}])
def test_the_last_admin_stays(change: dict[str, object]) -> None:
    """Or nobody could change anything on the pages; with a second one anything goes."""
    one, two = record(1, role=Role.ADMIN), record(2, role=Role.ADMIN)
    with pytest.raises(LastAdmin):
        changed_terms(KeyRing([one, record(3)]), one.id, NOW, **change)
    changed_terms(KeyRing([one, two]), one.id, NOW, **change)
    changed_terms(KeyRing([record(3)]), "000003", NOW, **change)


def test_a_change_is_told_in_words() -> None:
    """Only what differs."""
    before, after = record(1, models=("m",)), record(1, weight=2.0, max_running=1)
    assert changes_told(before, after) == "weight 2, models any, max running 1"
