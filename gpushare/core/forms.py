"""The forms a setting's text can have: times, sizes, addresses, networks.

Called by: ``core.config``, whose types name a form, and ``core.schema``, which applies it.  Rules: ``read``
returns the value or raises ``ValueError``; ``words`` completes the sentence "expected ...".
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
YEAR_S = 366 * 86400.0
DECADE_S = 10 * YEAR_S

_QUANTITY = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s?([A-Za-z]{1,3})", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)


class Unfit(ValueError):
    """A value is not of the type or form that its setting asks for."""


@dataclass(frozen=True, slots=True)
class Form:
    """One form: how to name it, how to read a raw value, and how to write it again."""

    words: str
    read: Callable[[object], object]
    write: Callable[[Any], object] = lambda value: value


def seconds(text: str) -> float:
    """Reads a time such as ``"30s"`` or ``"4m"``; zero needs no unit.

    Raises:
        ValueError: not a time, or longer than a year.
    """
    return _quantity(text, SECONDS, YEAR_S)


def span(text: str) -> float:
    """Reads a stretch of time such as ``"24h"`` or ``"400d"`` in seconds.

    Raises:
        ValueError: not a time, nothing, or longer than ten years.
    """
    if (found := _quantity(text, SECONDS, DECADE_S)) <= 0:
        raise Unfit(text)
    return found


def size(text: str) -> int:
    """Reads a size such as ``"32MB"`` in bytes; MB are millions, MiB are powers of two.

    Raises:
        ValueError: not a size, or beyond 1000 GB.
    """
    return int(_quantity(text, BYTES, 1e12))


def _quantity(text: str, units: dict[str, float] | dict[str, int], largest: float) -> float:
    if text == "0":
        return 0.0
    found = _QUANTITY.fullmatch(text)
    if found is None or found[2] not in units:
        raise Unfit(text)
    value = float(found[1]) * units[found[2]]
    if value > largest:
        raise Unfit(text)
    return value


def address(text: str) -> tuple[str, int]:
    """Splits ``"host:port"`` or ``"[v6]:port"``; port 0 lets the system choose.

    Raises:
        ValueError: no host, no port, or a port over 65535.
    """
    host, colon, port = text.rpartition(":")
    if not (colon and re.fullmatch(r"\d{1,5}", port, re.ASCII)) or int(port) > 65535:
        raise Unfit(text)
    if host.startswith("[") and host.endswith("]"):
        return str(ipaddress.IPv6Address(host[1:-1])), int(port)
    return host_name(host), int(port)


def hours(text: str) -> tuple[int, int]:
    """Reads hours of a day, ``08:00-18:00``: the first one, and the one before which they end.

    Raises:
        ValueError: none, not whole, or in the wrong order.
    """
    found = re.fullmatch(r"([01]\d|2[0-3]):00-([01]\d|2[0-4]):00", text, re.ASCII)
    if found is None or int(found[1]) >= int(found[2]):
        raise Unfit(text)
    return int(found[1]), int(found[2])


def host_name(text: str) -> str:
    """Checks the name or IPv4 address of a host and returns it in lower case.

    Raises:
        ValueError: characters that no host name has, or a number that is no address.
    """
    if not _HOST.fullmatch(text):
        raise Unfit(text)
    if re.fullmatch(r"[0-9.]+", text):
        ipaddress.IPv4Address(text)
    return text.lower()


def url_address(text: str) -> tuple[str, int]:
    """Returns host and port of an ``http://host:port`` address.

    Raises:
        ValueError: another scheme, or anything behind the port: the path is ours to choose.
    """
    parts = urlsplit(text)
    if parts.scheme != "http" or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise Unfit(text)
    return address(parts.netloc if parts.port is not None else f"{parts.netloc}:80")


def networks(listed: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Returns the networks that a checked list of texts names."""
    return tuple(ipaddress.ip_network(text) for text in listed)


def seconds_text(value: float) -> str:
    """Writes a time the way ``seconds`` reads it, in the largest unit that keeps it a whole number."""
    for unit in ("d", "h", "m", "s"):
        if value >= SECONDS[unit] and value % SECONDS[unit] == 0:
            return f"{value / SECONDS[unit]:.0f}{unit}"
    return f"{value * 1000:.0f}ms" if value else "0s"


def size_text(value: int) -> str:
    """Writes a size the way ``size`` reads it, in the largest unit that keeps it a whole number."""
    for unit in ("GB", "MB", "GiB", "MiB", "kB", "KiB"):
        if value >= BYTES[unit] and value % BYTES[unit] == 0:
            return f"{value // BYTES[unit]}{unit}"
    return f"{value}B"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Unfit(value)
    return value


def _checked(check: Callable[[str], object]) -> Callable[[object], str]:
    """Returns a reader that keeps the text as it is once ``check`` accepts it."""

    def read(value: object) -> str:
        check(_text(value))
        return str(value)

    return read


def _seconds(value: object) -> float:
    return 0.0 if value == 0 and not isinstance(value, bool) else seconds(_text(value))


def _some_seconds(value: object) -> float:
    if (found := seconds(_text(value))) <= 0:
        raise Unfit(value)
    return found


def _auto_seconds(value: object) -> float | None:
    return None if value == "auto" else _some_seconds(value)


def _auto_or_none(value: object) -> float | None:
    return None if value == "auto" else _seconds(value)


def _auto_text(value: float | None) -> str:
    return "auto" if value is None else seconds_text(value)


def _public_url(text: str, *, schemes: tuple[str, ...] = ("http", "https")) -> None:
    parts = urlsplit(text)
    if parts.scheme not in schemes or not parts.hostname or parts.username or parts.query:
        raise Unfit(text)
    if parts.path.strip("/") or parts.fragment:
        raise Unfit(text)
    host_name(parts.hostname) if ":" not in parts.hostname else ipaddress.IPv6Address(parts.hostname)
    _ = parts.port


def _origin(text: str) -> None:
    """Browsers send it in lower case and without a slash at the end; other texts would match none."""
    _public_url(text, schemes=("http", "https", "chrome-extension", "moz-extension"))
    if text.endswith("/") or not text.islower():
        raise Unfit(text)


def _optional_public_url(text: str) -> None:
    if text:
        _public_url(text)


TIME = Form('a time such as "30s"', _some_seconds, seconds_text)
TIME_OR_ZERO = Form('a time such as "30s", or 0 for none', _seconds, seconds_text)
TIME_OR_AUTO = Form('"auto" or a time such as "5s"', _auto_seconds, _auto_text)
TIME_ZERO_OR_AUTO = Form('"auto", a time such as "20s", or 0 for none', _auto_or_none, _auto_text)
SPAN = Form('a time such as "400d"', lambda value: span(_text(value)), seconds_text)
SIZE = Form('a size such as "32MB"', lambda value: size(_text(value)), size_text)
HOURS = Form('whole hours such as "08:00-18:00"', _checked(hours))
LISTEN = Form('an address and port such as "127.0.0.1:11435"', _checked(address))
URL = Form('an address such as "http://127.0.0.1:11434"', _checked(url_address))
PUBLIC_URL = Form('an address such as "https://gpu.example.lan", or ""', _checked(_optional_public_url))
ORIGIN = Form('an origin such as "https://chat.example.lan"', _checked(_origin))
HOST = Form('a host name such as "gpu.example.org"', _checked(host_name))
IP = Form('an IP address such as "127.0.0.1"', _checked(ipaddress.ip_address))
NETWORK = Form('a network such as "10.0.0.0/8"', _checked(ipaddress.ip_network))
