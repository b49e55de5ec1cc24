import hmac
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from gpushare.core.errors import KeyExpired, KeyUnknown
from gpushare.core.keys import (
    ENTROPY_BYTES,
    KeyRecord,
    KeyRing,
    KeyState,
    NameTaken,
    NoSuchKey,
    OwnerTerms,
    digest,
    has_checksum,
    key_id,
    looks_like_key,
    new_key,
    parse_keys,
)
from gpushare.core.keys import ring as ring_module
from gpushare.core.model import Role, Service
from gpushare.core.problems import ConfigErrors

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def secret_of(number: int) -> str:
    """Returns the key whose id is this number."""
    return new_key(number.to_bytes(3, "big") + bytes([number % 256]) * (ENTROPY_BYTES - 3))


def record(number: int, name: str = "erin", **fields: Any) -> KeyRecord:
    """Returns the record of that key."""
    secret = secret_of(number)
    return KeyRecord(id=key_id(secret), name=name, sha256=digest(secret), created=NOW - DAY, **fields)


def refusal(ring: KeyRing, secret: str) -> str:
    """Returns the words with which a key is refused."""
    with pytest.raises(KeyUnknown) as caught:
        ring.authenticate(secret, now=NOW, host="atlas")
    return caught.value.message


@settings(deadline=None)
@given(st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES))
def test_a_key_has_its_form_its_id_and_its_check(entropy: bytes) -> None:
    """A key is gs_, 6 hexadecimal digits, _, 32 letters and digits, of which the last 6 check the rest."""
    secret = new_key(entropy)
    assert len(secret) == 42
    assert looks_like_key(secret)
    assert key_id(secret) == entropy[:3].hex()
    assert has_checksum(secret)


@settings(deadline=None)
@given(st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES), st.integers(3, 41), st.sampled_from("aB3z"))
def test_a_mistyped_key_fails_its_check(entropy: bytes, at: int, char: str) -> None:
    """One wrong character is always noticed."""
    secret = new_key(entropy)
    typed = secret[:at] + char + secret[at + 1 :]
    assert has_checksum(typed) == (typed == secret)


def test_keys_are_not_made_of_too_little_chance() -> None:
    """Too little entropy is an error, not a weak key."""
    with pytest.raises(ValueError, match="31"):
        new_key(bytes(31))


def test_the_holder_of_a_key_is_its_person() -> None:
    """A valid key gives its person with all that the key may do."""
    erin = record(
        1, role=Role.ADMIN, service=Service.BACKGROUND, weight=2.0, models=("qwen*",), max_running=1
    )
    who = KeyRing([erin]).authenticate(secret_of(1), now=NOW, host="atlas")
    assert (who.key_id, who.name, who.owner, who.role) == ("000001", "erin", "000001", Role.ADMIN)
    assert (who.service, who.weight, who.models, who.max_running) == (Service.BACKGROUND, 2.0, ("qwen*",), 1)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "gs_",
        "gs_000001",
        "gs_000001_",
        secret_of(1)[:-1],
        secret_of(1) + "0",
        secret_of(1).upper(),
        secret_of(2),
        "gs_000001_" + "0" * 32,
        "gs_000001_" + "a" * 5000,
        "gs_000001_\x00",
        "gs_000001_é",
        "gs_\u0660\u0660\u0660\u0660\u0660\u0661_abc",
        "\udcff",
        secret_of(1) + "\n",
        "gs_000001_'; DROP TABLE",
    ],
)
def test_every_wrong_key_gets_the_same_words(secret: str) -> None:
    """Malformed, unknown and wrong keys are told apart by nobody, and none of them is repeated."""
    said = refusal(KeyRing([record(1)]), secret)
    assert said == refusal(KeyRing([record(1)]), secret_of(9))
    assert "000001" not in said


def test_unknown_and_wrong_keys_cost_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are hashed and compared once, in constant time; what has not the form of one is not hashed."""
    done: list[str] = []

    def hashed(secret: str) -> str:
        done.append("hashed")
        return digest(secret)

    def compared(one: str, other: str) -> bool:
        done.append("compared")
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(ring_module, "digest", hashed)
    monkeypatch.setattr(ring_module, "hmac", SimpleNamespace(compare_digest=compared))
    ring = KeyRing([record(1)])
    known, stranger = secret_of(1), secret_of(2)
    wrong = known[:10] + stranger[10:]
    cost = []
    for secret in (known, wrong, stranger):
        done.clear()
        with suppress(KeyUnknown):
            ring.authenticate(secret, now=NOW, host="h")
        cost.append(list(done))
    assert cost[0] == cost[1] == cost[2]
    assert sorted(done) == ["compared", "hashed"]
    for noise in (
        "",
        "gs_",
        "gs_x",
        stranger[:-1] + "!",
        stranger[:-1] + ("0" if stranger[-1] != "0" else "1"),
    ):
        done.clear()
        with pytest.raises(KeyUnknown):
            ring.authenticate(noise, now=NOW, host="h")
        assert done == []


@pytest.mark.parametrize(
    ("fields", "state", "why"),
    [
        ({"expires": NOW}, KeyState.EXPIRED, "expired on 2026-11-20"),
        ({"not_before": NOW + DAY}, KeyState.EARLY, "is not valid before 2026-11-21 12:00 UTC"),
        ({"disabled": True}, KeyState.DISABLED, "is disabled"),
        ({"revoked": NOW - DAY, "disabled": True}, KeyState.REVOKED, "was revoked"),
    ],
)
def test_the_holder_of_an_ended_key_is_told_so(fields: dict[str, Any], state: KeyState, why: str) -> None:
    """Who proves to have had the key learns what became of it, and is not let in."""
    ended = record(1, **fields)
    ring = KeyRing([ended])
    with pytest.raises(KeyExpired, match=f"The key of erin {why}"):
        ring.authenticate(secret_of(1), now=NOW, host="atlas")
    assert ended.state(NOW) is state
    assert not ring.active("000001", NOW)
    assert ring.owners(NOW) == {}
    refusal(ring, "gs_000001_" + "0" * 32)


def test_a_key_is_good_within_its_time() -> None:
    """From the first instant of its validity to the last one before its end a key is active."""
    ring = KeyRing([record(1, not_before=NOW, expires=NOW + DAY)])
    assert ring.active("000001", NOW)
    assert ring.active("000001", NOW + DAY - timedelta(microseconds=1))
    assert not ring.active("000001", NOW + DAY)
    assert not ring.active("ffffff", NOW)


def test_a_key_is_found_by_its_id_and_judged() -> None:
    """A session knows the id alone: who it is, as long as the key is good."""
    ring = KeyRing([record(1, expires=NOW)])
    (found,) = ring.records
    assert ring.get(found.id) is found
    assert ring.get("ffffff") is None
    before = ring.principal(found.id, NOW - timedelta(seconds=1))
    assert before is not None
    assert before.key_id == found.id
    assert ring.principal(found.id, NOW) is None
    assert ring.principal("ffffff", NOW) is None


def test_an_imported_key_needs_no_check_characters() -> None:
    """A key that was made elsewhere is good if its hash is in the file."""
    secret = "gs_abcdef_chosenelsewhere"
    ring = KeyRing([KeyRecord(id="abcdef", name="old", sha256=digest(secret))])
    assert ring.authenticate(secret, now=NOW, host="atlas").name == "old"


def test_several_keys_of_an_owner_share_one_weight_and_one_set_of_limits() -> None:
    """Weight and limits are the owner's: the largest weight, the smallest limits, of active keys only."""
    ring = KeyRing(
        [
            record(1, weight=1.0, max_waiting=9, max_running=0),
            record(2, owner="000001", weight=3.0, max_waiting=4, max_running=2),
            record(3, owner="000001", weight=50.0, max_waiting=1, disabled=True),
            record(4, name="bob"),
        ]
    )
    assert ring.owners(NOW) == {
        "000001": OwnerTerms(weight=3.0, max_waiting=4, max_running=2),
        "000004": OwnerTerms(weight=1.0, max_waiting=0, max_running=0),
    }
    who = ring.authenticate(secret_of(1), now=NOW, host="atlas")
    assert (who.owner, who.weight, who.max_waiting, who.max_running) == ("000001", 3.0, 4, 2)


def test_keys_are_found_by_id_and_by_name() -> None:
    """An id means one key; a name means the person's keys that have not ended, or all when all have."""
    old, new, gone = record(1, expires=NOW), record(2), record(3, name="bob", revoked=NOW)
    ring = KeyRing([old, new, gone])
    assert ring.find("000001", NOW) == (old,)
    assert ring.find("erin", NOW) == (new,)
    assert ring.find("bob", NOW) == (gone,)
    with pytest.raises(NoSuchKey):
        ring.find("Erin", NOW)


def test_a_name_is_given_to_one_owner() -> None:
    """A second live key under the same or a similar name is only for the same person."""
    ring = KeyRing([record(1)])
    for other in (record(2), record(2, name="ERIN"), record(2, name="EriN")):
        with pytest.raises(NameTaken, match="erin"):
            ring.added(other, NOW)
    assert len(ring.added(record(2, owner="000001"), NOW).records) == 2
    assert len(KeyRing([record(1, revoked=NOW)]).added(record(2), NOW).records) == 2


def test_a_person_may_name_their_own_keys_alike() -> None:
    """Names are compared between people, not between the keys of one."""
    assert len(KeyRing([record(1)]).added(record(2, name="Erin", owner="000001"), NOW).records) == 2


def test_a_rotated_key_lives_on_for_a_while() -> None:
    """The successor has the terms and the lifetime of the old key, which ends after the time to keep."""
    old = record(1, weight=2.0, expires=NOW + 9 * DAY)
    ring = KeyRing([old]).rotated(old, secret_of(2), now=NOW, keep=DAY)
    before, after = ring.records
    assert before == replace(old, expires=NOW + DAY)
    assert (after.owner, after.weight, after.expires) == ("000001", 2.0, NOW + 10 * DAY)
    assert ring.authenticate(secret_of(2), now=NOW, host="atlas").owner == "000001"
    assert ring.active("000001", NOW)
    assert not ring.active("000001", NOW + DAY)


def test_rotation_never_prolongs_the_old_key() -> None:
    """A key about to expire does so."""
    old = record(1, expires=NOW + timedelta(hours=1))
    ring = KeyRing([old]).rotated(old, secret_of(2), now=NOW, keep=DAY)
    assert ring.records[0].expires == NOW + timedelta(hours=1)


def test_a_ring_is_written_and_read_back() -> None:
    """What is written as keys.toml gives the same keys, and holds no key."""
    ring = KeyRing(
        [
            record(1, role=Role.ADMIN, models=("a*", "b"), expires=NOW, max_waiting=3),
            record(2, name="Ирина", service=Service.BACKGROUND, disabled=True, revoked=NOW),
        ]
    )
    text = tomli_w.dumps(ring.tables())
    assert parse_keys(text, source="keys.toml").records == ring.records
    assert secret_of(1) not in text
    assert 'class = "background"' in text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('id = "7F3A2C"', "expected 6 digits 0-9 a-f"),
        ('sha256 = "gs_000001_0123"', "expected 64 digits 0-9 a-f"),
        ('name = "<b>"', "expected a name of letters"),
        ('role = "root"', 'expected "person" or "admin"'),
        ("weight = 0", "expected a number above 0 to 1000"),
        ("max_waiting = -1", "expected a whole number from 0"),
        ("expires = 2027-01-01", "expected a time such as 2027-11-20T00:00:00Z"),
        ("wieght = 2", "no such setting"),
    ],
)
def test_a_key_file_is_checked_like_a_configuration(line: str, said: str) -> None:
    """A hand-edited mistake in keys.toml is told with its line."""
    fields = {"id": '"000001"', "name": '"erin"', "sha256": f'"{"0" * 64}"'}
    fields.pop(line.split(" ", maxsplit=1)[0], None)
    text = "[[key]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items()) + line
    with pytest.raises(ConfigErrors, match=said) as caught:
        parse_keys(text, source="keys.toml")
    assert [problem.line for problem in caught.value.problems] == [text.count("\n") + 1]


def test_two_keys_with_one_id_are_refused() -> None:
    """An id means one key, or it means nothing."""
    text = tomli_w.dumps(KeyRing([record(1), record(1)]).tables())
    with pytest.raises(ConfigErrors, match=r"key\.1\.id: is the id of another key"):
        parse_keys(text, source="keys.toml")
