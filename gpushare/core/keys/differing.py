"""What became of the keys between two readings of the key file.

Called by: ``app.keys``, for the book of what admins did.
"""

from collections.abc import Iterator

from msgspec import Struct

from gpushare.core.keys.record import KeyRecord
from gpushare.core.keys.ring import KeyRing

WORDS = {"sha256": "secret", "service": "class", "link_until": "link", "sign_outs": "sessions"}
"""What fields are called where people read of them; others go by their own names."""


class Difference(Struct, frozen=True, kw_only=True):
    """One key that is not as it was: ``what`` happened, and in words to whose and to what of it."""

    key_id: str
    what: str
    detail: str


def differences(old: KeyRing, new: KeyRing) -> Iterator[Difference]:
    """Yields what became of each key, in the order of the file, those that are gone last."""
    for record in new.records:
        before = old.get(record.id)
        if before is None:
            yield Difference(key_id=record.id, what="key added", detail=record.name)
        elif before != record:
            named = dict.fromkeys(WORDS.get(name, name) for name in _changed(before, record))
            detail = f"{record.name}: {', '.join(named)}"
            yield Difference(key_id=record.id, what="key changed", detail=detail)
    for record in old.records:
        if new.get(record.id) is None:
            yield Difference(key_id=record.id, what="key removed", detail=record.name)


def _changed(before: KeyRecord, after: KeyRecord) -> Iterator[str]:
    fields = KeyRecord.__struct_fields__
    return (name for name in fields if getattr(before, name) != getattr(after, name))
