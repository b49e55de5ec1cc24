"""Where a person's commands go and with which key: what ``gpushare login`` keeps.

Rules: a key goes only to the server it was given for; no problem repeats a line of the file, which may hold a
key.
"""

import tomllib
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from gpushare.core.keys.text import SECRET_MAX, looks_like_key


class Login(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server's address without a slash at its end, and a key for it; the key may be empty."""

    url: str
    key: str = ""


def parse_login(text: str) -> Login:
    """Reads ``client.toml``.

    Raises:
        ValueError: it is not what ``gpushare login`` writes; the text says why.
    """
    try:
        login = msgspec.convert(tomllib.loads(text), Login)
    except (ValueError, RecursionError):
        raise ValueError("is not what gpushare login writes") from None
    if not is_sendable(login.key):
        raise ValueError("holds no key that could be sent")
    return msgspec.structs.replace(login, url=tidy_url(login.url))


def tidy_url(text: str) -> str:
    """Returns an address as it is kept and compared; ``http://`` may be left out.

    Raises:
        ValueError: it is no address of a server.
    """
    text = text.strip()
    address = text if "://" in text else f"http://{text}"
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise ValueError("is no address; write http://HOST:PORT")
    _ = parts.port  # raises for what is no number
    if not address.isascii() or any(character.isspace() for character in address):
        raise ValueError("is no address; write http://HOST:PORT")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def is_sendable(key: str) -> bool:
    """Whether a text can go into a header as a key; the empty text stands for none."""
    plain = key.isascii() and key.isprintable() and " " not in key
    return not key or (looks_like_key(key) and plain and len(key) <= SECRET_MAX)
