"""JSON, times and HTTP dates as Go's standard library writes them."""

import json
import time
from datetime import UTC, datetime
from email.utils import formatdate

_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
FOREVER_S = 292 * 365.25 * 86400  # the longest time.Duration; Ollama's "for ever"


def dump(value: object) -> bytes:
    """Returns ``value`` as ``json.Marshal`` writes it: no spaces, raw UTF-8, HTML characters escaped.

    The escaped characters occur in JSON only inside strings, so they may be replaced in the whole text.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(_ESCAPES).encode("utf-8", "replace")


def timestamp(epoch_ns: int) -> str:
    """Returns RFC 3339 with nanoseconds in UTC, trailing zeros of the fraction dropped."""
    seconds, fraction = divmod(epoch_ns, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{fraction:09d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def now() -> str:
    """Returns the present wall time as a timestamp."""
    return timestamp(time.time_ns())


def http_date() -> str:
    """Returns the present wall time for a ``Date`` header."""
    return formatdate(usegmt=True)


def seconds_of(value: object) -> float | None:
    """Returns a ``keep_alive`` as seconds, a very long time for a negative one, None for an absent one.

    Raises:
        ValueError: with Go's text, when the string is no duration.
    """
    if value is None:
        return None
    if isinstance(value, int | float):
        return FOREVER_S if value < 0 else float(value)
    text = str(value)
    total = _parse_duration(text)
    return FOREVER_S if total < 0 else total


_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def _parse_duration(text: str) -> float:
    """Returns the seconds of a Go duration such as ``1h30m``, ``-1s`` or ``0``."""
    rest = text.lstrip("+-")
    if rest == "0":
        return 0.0
    total = 0.0
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit = len(rest[digits:]) - len(rest[digits:].lstrip("nuµmsh"))
        name = rest[digits : digits + unit]
        if digits == 0:
            raise ValueError(f'time: invalid duration "{text}"')
        if name not in _UNITS:
            raise ValueError(f'time: missing unit in duration "{text}"')
        total += float(rest[:digits]) * _UNITS[name]
        rest = rest[digits + unit :]
    if not text:
        raise ValueError('time: invalid duration ""')
    return -total if text.startswith("-") else total
