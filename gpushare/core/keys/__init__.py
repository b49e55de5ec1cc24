"""API keys: how one is made, kept as a hash, looked up and judged.

Owns: nothing; a ``KeyRing`` is immutable and replaced whole when the key file changes.  Called by:
``edge.files`` (load and save), ``web.callers`` (authenticate), ``cli.key`` (edit).  Rules: no key is kept,
only its SHA-256, which is enough because 154 bits of it are random; unknown and wrong take the same path and
get the same words; only the holder of a matching key learns that it has ended; weight and limits belong to
the owner, so that a second key buys nothing.
"""

from gpushare.core.keys.handing import LINK_LIFE, TOKEN_BYTES, invited, link_token, offered, opened, renewed
from gpushare.core.keys.record import KeyRecord, KeyState
from gpushare.core.keys.ring import KeyRing, NameTaken, NoSuchKey, OwnerTerms, parse_keys
from gpushare.core.keys.text import (
    ENTROPY_BYTES,
    KEY_LENGTH,
    digest,
    has_checksum,
    key_id,
    looks_like_key,
    new_key,
)

__all__ = [
    "ENTROPY_BYTES",
    "KEY_LENGTH",
    "LINK_LIFE",
    "TOKEN_BYTES",
    "KeyRecord",
    "KeyRing",
    "KeyState",
    "NameTaken",
    "NoSuchKey",
    "OwnerTerms",
    "digest",
    "has_checksum",
    "invited",
    "key_id",
    "link_token",
    "looks_like_key",
    "new_key",
    "offered",
    "opened",
    "parse_keys",
    "renewed",
]
