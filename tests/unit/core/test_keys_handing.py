"""One-time links and keys that their holders replace."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import tomli_w

from gpushare.core.errors import KeyReplaced, KeyUnknown, LinkGone, TooManyNewKeys
from gpushare.core.keys import (
    ENTROPY_BYTES,
    LINK_LIFE,
    TOKEN_BYTES,
    KeyRecord,
    KeyRing,
    digest,
    has_checksum,
    invited,
    key_id,
    link_token,
    new_key,
    offered,
    opened,
    parse_keys,
    renewed,
)

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TOKEN = link_token(bytes(range(TOKEN_BYTES)))
CHANCE = bytes(range(100, 100 + ENTROPY_BYTES))
OLD = new_key(bytes(range(ENTROPY_BYTES)))


def record(**fields: Any) -> KeyRecord:
    """Returns the record of the key ``OLD``."""
    return KeyRecord(
        **{"id": key_id(OLD), "name": "erin", "sha256": digest(OLD), "created": NOW - 9 * DAY, **fields}
    )


def invitation(**fields: Any) -> KeyRing:
    """Returns a ring with a link to the key ``OLD``."""
    return offered(KeyRing([record(**fields)]), key_id(OLD), TOKEN, NOW)


def authenticate(ring: KeyRing, secret: str, now: datetime = NOW) -> str:
    """Returns whose key this is."""
    return ring.authenticate(secret, now=now, host="atlas").name


def test_a_token_is_made_of_chance_alone() -> None:
    """It fits into an address, and holds 192 bits."""
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", TOKEN)
    assert link_token(bytes(TOKEN_BYTES)) != TOKEN
    with pytest.raises(ValueError, match="23"):
        link_token(bytes(23))


def test_a_link_makes_the_secret_of_its_key() -> None:
    """The new key has the id and the terms of the record; the one it was made with is void."""
    ring, secret = opened(invitation(weight=2.0), TOKEN, CHANCE, NOW)
    assert key_id(secret) == key_id(OLD)
    assert has_checksum(secret)
    assert authenticate(ring, secret) == "erin"
    (after,) = ring.records
    assert (after.weight, after.created, after.link, after.link_until) == (2.0, NOW - 9 * DAY, None, None)
    with pytest.raises(KeyUnknown):
        authenticate(ring, OLD)


def test_until_it_is_opened_the_first_secret_works() -> None:
    """Who hands over the key itself does not need the link."""
    assert authenticate(invitation(), OLD) == "erin"


def test_a_link_opens_once() -> None:
    """The second opening finds nothing."""
    ring, _ = opened(invitation(), TOKEN, CHANCE, NOW)
    with pytest.raises(LinkGone):
        opened(ring, TOKEN, CHANCE, NOW)
    with pytest.raises(LinkGone):
        invited(ring, TOKEN, NOW)


def test_a_link_runs_out() -> None:
    """It is good for a day."""
    assert invited(invitation(), TOKEN, NOW + LINK_LIFE - timedelta(seconds=1)).name == "erin"
    with pytest.raises(LinkGone):
        invited(invitation(), TOKEN, NOW + LINK_LIFE)


def test_a_second_link_makes_the_first_void() -> None:
    """There is one link to a key."""
    other = link_token(bytes(TOKEN_BYTES))
    ring = offered(invitation(), key_id(OLD), other, NOW)
    assert invited(ring, other, NOW).name == "erin"
    with pytest.raises(LinkGone):
        invited(ring, TOKEN, NOW)


@pytest.mark.parametrize(
    "fields", [{"revoked": NOW}, {"disabled": True}, {"expires": NOW}], ids=["revoked", "disabled", "expired"]
)
def test_a_link_does_not_open_an_ended_key(fields: dict[str, Any]) -> None:
    """Revoking a key ends its link too."""
    with pytest.raises(LinkGone):
        invited(invitation(**fields), TOKEN, NOW)


def test_a_link_to_a_key_that_begins_later_opens() -> None:
    """Its holder may have it before the first day of work."""
    assert invited(invitation(not_before=NOW + DAY), TOKEN, NOW).name == "erin"


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "A", digest(TOKEN), OLD, "\x00", "ä"])
def test_no_other_text_opens_a_key(token: str) -> None:
    """Neither a part of the token, nor its hash, nor the key."""
    with pytest.raises(LinkGone):
        invited(invitation(), token, NOW)


def test_a_link_is_kept_as_a_hash() -> None:
    """What is written opens nothing, and is read back."""
    text = tomli_w.dumps(invitation().tables())
    assert TOKEN not in text
    assert invited(parse_keys(text, source="keys.toml"), TOKEN, NOW).name == "erin"


def test_a_holder_replaces_a_key() -> None:
    """The new one has the terms of the old one, which works on for as long as it is kept."""
    secret = new_key(CHANCE)
    ring = renewed(invitation(weight=2.0), key_id(OLD), secret, now=NOW, keep=DAY)
    assert authenticate(ring, secret) == authenticate(ring, OLD) == "erin"
    after = ring.records[1]
    assert (after.weight, after.owner, after.link) == (2.0, key_id(OLD), None)
    with pytest.raises(LinkGone):
        opened(renewed(invitation(), key_id(OLD), secret, now=NOW, keep=timedelta(0)), TOKEN, CHANCE, NOW)


def test_a_replaced_key_replaces_nothing() -> None:
    """Who stole the old key cannot turn it into one that lasts, in the day it has left."""
    ring = renewed(KeyRing([record()]), key_id(OLD), new_key(CHANCE), now=NOW, keep=DAY)
    later = NOW + timedelta(hours=1)
    assert authenticate(ring, OLD, later) == "erin"
    with pytest.raises(KeyReplaced):
        renewed(ring, key_id(OLD), new_key(CHANCE[::-1]), now=later, keep=DAY)
    revoked = ring.changed([key_id(new_key(CHANCE))], revoked=later)
    with pytest.raises(KeyReplaced):
        renewed(revoked, key_id(OLD), new_key(CHANCE[::-1]), now=later, keep=DAY)


@pytest.mark.parametrize("fields", [{"revoked": NOW}, {"disabled": True}, {"expires": NOW}])
def test_an_ended_key_replaces_nothing(fields: dict[str, Any]) -> None:
    """A key that ended between the sign-in and the button makes no new one, nor does none."""
    with pytest.raises(KeyReplaced):
        renewed(KeyRing([record(**fields)]), key_id(OLD), new_key(CHANCE), now=NOW, keep=DAY)
    with pytest.raises(KeyReplaced):
        renewed(KeyRing(), key_id(OLD), new_key(CHANCE), now=NOW, keep=DAY)


def test_keys_are_not_replaced_for_ever() -> None:
    """Four a day; a day later there may be more."""
    ring, last = KeyRing([record()]), key_id(OLD)
    for number in range(4):
        at = NOW + timedelta(minutes=number)
        secret = new_key(bytes([number]) * ENTROPY_BYTES)
        ring, last = renewed(ring, last, secret, now=at, keep=DAY), key_id(secret)
    fifth = new_key(bytes([5]) * ENTROPY_BYTES)
    with pytest.raises(TooManyNewKeys):
        renewed(ring, last, fifth, now=NOW + timedelta(hours=1), keep=DAY)
    assert renewed(ring, last, fifth, now=NOW + DAY, keep=DAY).get(key_id(fifth)) is not None
