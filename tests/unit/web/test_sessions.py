"""Session cookies: they prove a key, hold nothing of it, and end with it."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpushare.core.keys import KeyRecord, KeyRing, digest, new_key
from gpushare.web.sessions import Sessions

NOW = datetime(2026, 11, 20, 14, 3, tzinfo=UTC)
KEY = new_key(bytes(range(40)))
RECORD = KeyRecord(id=KEY.split("_")[1], name="alice", sha256=digest(KEY))
RING = KeyRing([RECORD])
SESSIONS = Sessions(b"secret of the server")
COOKIE = SESSIONS.issue(RECORD, NOW + timedelta(days=30))


def ring(**fields: object) -> KeyRing:
    """Returns the ring with another state of the key."""
    return KeyRing([msgspec.structs.replace(RECORD, **fields)])


def test_a_session_names_its_holder() -> None:
    """The cookie leads to the key's principal, with the key's present terms."""
    who = SESSIONS.holder(COOKIE, ring(weight=2.0, name="alicia"), NOW)
    assert who is not None
    assert (who.key_id, who.name, who.weight) == (RECORD.id, "alicia", 2.0)


def test_a_session_holds_nothing_of_the_key() -> None:
    """Neither the secret part nor the stored hash is in the cookie, only the public id."""
    assert COOKIE.startswith(f"{RECORD.id}.")
    assert KEY.rpartition("_")[2] not in COOKIE
    assert RECORD.sha256[:8] not in COOKIE


def test_a_session_ends_by_the_clock() -> None:
    """It is good until its end and not from then on."""
    assert SESSIONS.holder(COOKIE, RING, NOW + timedelta(days=30, seconds=-1)) is not None
    assert SESSIONS.holder(COOKIE, RING, NOW + timedelta(days=30)) is None


@pytest.mark.parametrize(
    "after",
    [
        ring(revoked=NOW),
        ring(disabled=True),
        ring(expires=NOW),
        ring(not_before=NOW + timedelta(days=1)),
        ring(sha256=digest("another")),
        ring(sign_outs=1),
        KeyRing(),
    ],
    ids=["revoked", "disabled", "expired", "early", "another secret", "signed out", "gone"],
)
def test_a_session_ends_with_its_key(after: KeyRing) -> None:
    """Whatever ends the key, or gives its id to another secret, ends the session."""
    assert SESSIONS.holder(COOKIE, RING, NOW) is not None
    assert SESSIONS.holder(COOKIE, after, NOW) is None


def test_another_server_s_session_is_none() -> None:
    """A cookie signed with another secret proves nothing; the same secret proves it after a restart."""
    assert Sessions(b"another secret").holder(COOKIE, RING, NOW) is None
    assert Sessions().holder(COOKIE, RING, NOW) is None
    assert Sessions(b"secret of the server").holder(COOKIE, RING, NOW) is not None


@given(st.integers(0, len(COOKIE) - 1), st.characters(codec="utf-8"))
def test_a_changed_cookie_is_none(position: int, character: str) -> None:
    """Not one character may differ, the end of the session included."""
    changed = COOKIE[:position] + character + COOKIE[position + 1 :]
    assert (SESSIONS.holder(changed, RING, NOW) is None) is (changed != COOKIE)


@given(st.text(st.characters()))
@example("\udcff")
def test_noise_is_none(cookie: str) -> None:
    """Whatever a client sends as a cookie, nothing breaks."""
    assert SESSIONS.holder(cookie, RING, NOW) is None
    assert SESSIONS.holder(f"{RECORD.id}.{cookie}", RING, NOW) is None
