"""How a key gets to its holder: a link that opens once, and a new key that the holder makes.

A link is the right to *make* the secret of one key, once, within a day.  The key file keeps the hash of the
link's token in the record of its key, and nothing else.  So no key waits anywhere in clear, not even for a
day; whoever made the key holds nothing that works once the link was opened; and because finding the token,
setting the new secret and forgetting the token are one edit of the file, a link opens once, whatever runs at
the same time and whenever the server restarts.  Until then, the secret the key was made with works.
"""

import base64
import hmac
from datetime import datetime, timedelta

from gpushare.core.errors import KeyReplaced, LinkGone, TooManyNewKeys
from gpushare.core.keys.record import KeyRecord, KeyState
from gpushare.core.keys.ring import KeyRing
from gpushare.core.keys.text import digest, new_key

TOKEN_BYTES = 24  # of chance in a link
LINK_LIFE = timedelta(hours=24)
NEW_KEYS_A_DAY = 4  # of one name; an admin may make more
_DAY = timedelta(hours=24)


def link_token(entropy: bytes) -> str:
    """Returns what makes a link: letters, digits, ``-`` and ``_``.

    Raises:
        ValueError: less than ``TOKEN_BYTES`` of entropy.
    """
    if len(entropy) < TOKEN_BYTES:
        raise ValueError(len(entropy))
    return base64.urlsafe_b64encode(entropy[:TOKEN_BYTES]).decode()


def offered(ring: KeyRing, key_id: str, token: str, now: datetime) -> KeyRing:
    """Returns a ring in which a token opens one key; an earlier link to it is void."""
    return ring.changed([key_id], link=digest(token), link_until=now + LINK_LIFE)


def invited(ring: KeyRing, token: str, now: datetime) -> KeyRecord:
    """Returns the key that a token opens.

    Raises:
        LinkGone: none: made up, opened, run out, or of a key that has ended since.
    """
    wanted = digest(token)
    for record in ring.records:
        if record.link is not None and hmac.compare_digest(record.link, wanted):
            usable = record.state(now) in (KeyState.ACTIVE, KeyState.EARLY)
            if usable and record.link_until is not None and now < record.link_until:
                return record
    raise LinkGone


def opened(ring: KeyRing, token: str, entropy: bytes, now: datetime) -> tuple[KeyRing, str]:
    """Returns a ring in which the key of a token has a new secret, and that secret; the token is void.

    Raises:
        LinkGone: see ``invited``.
    """
    record = invited(ring, token, now)
    secret = new_key(bytes.fromhex(record.id) + entropy[3:])  # the id stays: it is the same key
    return ring.changed([record.id], sha256=digest(secret), link=None, link_until=None), secret


def renewed(ring: KeyRing, key_id: str, secret: str, *, now: datetime, keep: timedelta) -> KeyRing:
    """Returns a ring in which the holder of a key has replaced it; the old one ends after ``keep``.

    A key that was replaced makes no further one while it lives on: it may have been replaced because somebody
    else has it.

    Raises:
        KeyReplaced: there is a newer key of this name, or the key has ended.
        TooManyNewKeys: the holder has made enough of them within a day.
    """
    own = ring.get(key_id)
    if own is None or own.state(now) is not KeyState.ACTIVE:
        raise KeyReplaced
    line = [record for record in ring.records if (record.owner, record.name) == (own.owner, own.name)]
    if any(record.made > own.made for record in line):
        raise KeyReplaced
    if sum(now - record.made < _DAY for record in line) >= NEW_KEYS_A_DAY:
        raise TooManyNewKeys(NEW_KEYS_A_DAY)
    return ring.rotated(own, secret, now=now, keep=keep)
