"""The text of a key: how one is made, and what can be seen of one without looking it up."""

import hashlib
import re
import zlib

PREFIX = "gs_"
ENTROPY_BYTES = 32  # what ``new_key`` needs: 3 for the id, the rest for 26 base62 characters
KEY_LENGTH = 42  # characters of a key made here
SECRET_MAX = 256  # a longer text is no key and is not hashed

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(r"gs_([0-9a-f]{6})_[0-9A-Za-z]+", re.ASCII)


def new_key(entropy: bytes) -> str:
    """Makes a key: ``gs_``, 6 hexadecimal digits (the public id), ``_``, 26 random and 6 check characters.

    Raises:
        ValueError: less than ``ENTROPY_BYTES`` of entropy.
    """
    if len(entropy) < ENTROPY_BYTES:
        raise ValueError(len(entropy))
    body = f"{PREFIX}{entropy[:3].hex()}_{_base62(int.from_bytes(entropy[3:]), 26)}"
    return body + _checksum(body)


def digest(secret: str) -> str:
    """Returns the SHA-256 of a whole key in hexadecimal: all that is ever stored of it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def looks_like_key(text: str) -> bool:
    """Whether a text is meant as a key of ours: tools send all sorts of dummy values."""
    return text.startswith(PREFIX)


def key_id(secret: str) -> str:
    """Returns the public id within a key, empty if the text has not the form of one."""
    found = _KEY.fullmatch(secret)
    return found[1] if found and len(secret) <= SECRET_MAX else ""


def has_checksum(secret: str) -> bool:
    """Whether the last 6 characters are the base62 CRC32 of the rest: typing errors need no look-up."""
    return secret[-6:] == _checksum(secret[:-6])


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), 6)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
