"""When a certificate ends: the one thing of it that nobody is told in time.

Called by: ``edge.tls``.  Rules: nothing is verified; that is done by whoever connects.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0x17, 0x18


def ends(der: bytes) -> datetime:
    """Returns the last moment at which a certificate holds.

    Raises:
        ValueError: it is no certificate.
    """
    (_, certificate), *_ = [*_items(der), (0, b"")]
    (_, body), *_ = [*_items(certificate), (0, b"")]
    for tag, content in _items(body):
        times = list(_items(content)) if tag == _SEQUENCE else []
        if len(times) == 2 and all(kind in (_UTC_TIME, _GENERALIZED_TIME) for kind, _ in times):
            return _time(*times[1])
    raise ValueError("no validity")


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields tag and content of each item in a run of DER."""
    at = 0
    while at < len(content):
        tag, length = content[at], int.from_bytes(content[at + 1 : at + 2])
        at += 2
        if length >= 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(content[at : at + size]), at + size
        if at + length > len(content):
            raise ValueError("cut short")
        yield tag, content[at : at + length]
        at += length


def _time(tag: int, content: bytes) -> datetime:
    """Returns a time of a certificate; one with two digits for the year lies from 1950 to 2049."""
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
