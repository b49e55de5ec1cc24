"""Where a person's commands go and with which key: what ``gpushare login`` keeps.

Rules: a key goes only to the server it was given for; no problem repeats a line of the file, which may hold a
key.
"""

import re
import tomllib
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Struct

from gpushare.core.hosts import host_name
from gpushare.core.keys.text import SECRET_MAX, looks_like_key

_PATH = re.compile(r"[A-Za-z0-9._~/-]*")


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
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if not _is_address(parts):
        raise ValueError("is no address; write http://HOST:PORT")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _is_address(parts: SplitResult) -> bool:
    """Whether an address is plain enough for a socket, a header and a shell."""
    try:
        _ = parts.port
    except ValueError:
        return False
    known = parts.scheme in ("http", "https") and host_name(parts.netloc) is not None
    return known and _PATH.fullmatch(parts.path) is not None and not parts.query and not parts.fragment


def is_sendable(key: str) -> bool:
    """Whether a text can go into a header as a key; the empty text stands for none."""
    plain = key.isascii() and key.isprintable() and " " not in key
    return not key or (looks_like_key(key) and plain and len(key) <= SECRET_MAX)
