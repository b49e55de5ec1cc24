"""Every key there is: looked up, judged, added, changed and replaced."""

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct

from gpushare.core.errors import KeyExpired, KeyUnknown
from gpushare.core.keys.record import KeyRecord, KeyState
from gpushare.core.keys.text import digest, has_checksum, key_id
from gpushare.core.model import Principal
from gpushare.core.people import look_alike
from gpushare.core.schema import Wrong, read

_DAWN, _DUSK = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_NOBODY = hashlib.sha256(b"").hexdigest()  # compared with when the id is unknown


class _KeyTable(Struct, frozen=True, kw_only=True):
    key: tuple[KeyRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerTerms:
    """What one owner has: a weight, and limits of which 0 means "as configured for everybody"."""

    weight: float
    max_waiting: int
    max_running: int


class NoSuchKey(LookupError):
    """No key has this id, and nobody this name."""


class NameTaken(ValueError):
    """A live key of another owner has this name, or one that looks the same."""


class KeyRing:
    """Every key there is, found by its id."""

    def __init__(self, records: Iterable[KeyRecord] = ()) -> None:
        self.records = tuple(records)
        self._by_id = {record.id: record for record in self.records}
        self._by_owner: dict[str, list[KeyRecord]] = {}
        for record in self.records:
            self._by_owner.setdefault(record.owner, []).append(record)
        # By key id, with the instants between which no key of the owner begins or ends.
        self._principals: dict[str, tuple[Principal, datetime, datetime]] = {}

    def authenticate(self, secret: str, *, now: datetime, host: str) -> Principal:
        """Returns who presents a key; ``host`` names this server in a refusal.

        Raises:
            KeyUnknown: no key of ours: malformed, unknown or wrong, with one text for all.
            KeyExpired: the key matches, but it has ended or has not begun.
        """
        record = self._matching(secret, host)
        known_as = self._principals.get(record.id)
        if known_as is not None and known_as[1] <= now < known_as[2]:
            return known_as[0]
        return self._principal(_good(record, now), now)

    def presented(self, secret: str, *, now: datetime, host: str) -> KeyRecord:
        """Returns the record of a key that somebody presents; raises as ``authenticate``."""
        return _good(self._matching(secret, host), now)

    def _matching(self, secret: str, host: str) -> KeyRecord:
        """Returns the record that a key matches, good now or not.

        Raises:
            KeyUnknown: none.
        """
        public_id = key_id(secret)
        record = self._by_id.get(public_id)
        if not public_id or (record is None and not has_checksum(secret)):
            raise KeyUnknown(host)
        known = record.sha256 if record else _NOBODY
        if not hmac.compare_digest(known, digest(secret)) or record is None:
            raise KeyUnknown(host)
        return record

    def get(self, key_id: str) -> KeyRecord | None:
        """Returns the key of this id, good or not."""
        return self._by_id.get(key_id)

    def principal(self, key_id: str, now: datetime) -> Principal | None:
        """Returns whose key this is, None when it is not good at ``now``."""
        record = self._by_id.get(key_id)
        if record is None or record.state(now) is not KeyState.ACTIVE:
            return None
        return self._principal(record, now)

    def active(self, key_id: str, now: datetime) -> bool:
        """Whether the key of this id is good at ``now``."""
        record = self._by_id.get(key_id)
        return record is not None and record.state(now) is KeyState.ACTIVE

    def owners(self, now: datetime) -> dict[str, OwnerTerms]:
        """Returns the terms of every owner with an active key."""
        active = {owner: self._active(owner, now) for owner in self._by_owner}
        return {owner: _terms(records) for owner, records in active.items() if records}

    def _active(self, owner: str, now: datetime) -> list[KeyRecord]:
        return [record for record in self._by_owner[owner] if record.state(now) is KeyState.ACTIVE]

    def find(self, ref: str, now: datetime) -> tuple[KeyRecord, ...]:
        """Returns the key of an id, or the keys of a name: those that have not ended, else all of them.

        Raises:
            NoSuchKey: there is none.
        """
        if ref in self._by_id:
            return (self._by_id[ref],)
        named = tuple(record for record in self.records if record.name == ref)
        if not named:
            raise NoSuchKey(ref)
        return tuple(record for record in named if not record.ended(now)) or named

    def check_name(self, name: str, owner: str, now: datetime) -> None:
        """Makes sure that a name is no other person's.

        Raises:
            NameTaken: the name, or one that looks the same, belongs to a live key of another owner.
        """
        for other in self.records:
            if other.owner != owner and look_alike(name, other.name) and not other.ended(now):
                raise NameTaken(other.name)

    def added(self, record: KeyRecord, now: datetime) -> "KeyRing":
        """Returns a ring with one more key.

        Raises:
            NameTaken: see ``check_name``.
        """
        self.check_name(record.name, record.owner, now)
        return KeyRing((*self.records, record))

    def rotated(self, old: KeyRecord, secret: str, *, now: datetime, keep: timedelta) -> "KeyRing":
        """Returns a ring in which a new key has the terms of an old one, which ends after ``keep``.

        A key that was to expire gets a successor that lives as long.
        """
        successor = msgspec.structs.replace(
            old,
            id=key_id(secret),
            sha256=digest(secret),
            created=now,
            not_before=None,
            expires=now + (old.expires - old.made) if old.expires else None,
            link=None,
            link_until=None,
        )
        end = min(now + keep, old.expires) if old.expires else now + keep
        return self.changed([old.id], expires=end).added(successor, now)

    def changed(self, ids: Iterable[str], **changes: object) -> "KeyRing":
        """Returns a ring in which some keys have other values."""
        wanted = set(ids)
        return KeyRing(
            msgspec.structs.replace(record, **changes) if record.id in wanted else record
            for record in self.records
        )

    def signed_out(self, key_id: str) -> "KeyRing":
        """Returns a ring in which a key is as before, and its sessions in browsers have ended."""
        record = self._by_id.get(key_id)
        return self.changed([key_id], sign_outs=record.sign_outs + 1) if record else self

    def tables(self) -> dict[str, list[dict[str, object]]]:
        """Returns the content of ``keys.toml``: ``[[key]]`` tables of plain values."""
        plain = (msgspec.to_builtins(record, builtin_types=(datetime,)) for record in self.records)
        return {
            "key": [{name: value for name, value in table.items() if value is not None} for table in plain]
        }

    def _principal(self, record: KeyRecord, now: datetime) -> Principal:
        terms = _terms(self._active(record.owner, now))
        principal = Principal(
            key_id=record.id,
            name=record.name,
            owner=record.owner,
            role=record.role,
            service=record.service,
            weight=terms.weight,
            models=record.models,
            max_waiting=terms.max_waiting,
            max_running=terms.max_running,
        )
        self._principals[record.id] = (principal, *self._steady(record.owner, now))
        return principal

    def _steady(self, owner: str, now: datetime) -> tuple[datetime, datetime]:
        """Returns the instants around ``now`` between which no key of the owner begins or ends."""
        turns = [_DAWN, _DUSK]
        for record in self._by_owner[owner]:
            turns += [turn for turn in (record.not_before, record.expires) if turn is not None]
        return max(turn for turn in turns if turn <= now), min(turn for turn in turns if turn > now)


def parse_keys(text: str, *, source: str) -> KeyRing:
    """Reads ``keys.toml``.

    Raises:
        ConfigErrors: with every problem found.
    """
    return KeyRing(read(text, _KeyTable, source=source, judge=_same_ids).value.key)


def _same_ids(table: _KeyTable) -> Iterator[Wrong]:
    seen: set[str] = set()
    for index, record in enumerate(table.key):
        if record.id in seen:
            yield Wrong(f"key.{index}.id", "is the id of another key")
        seen.add(record.id)


def _good(record: KeyRecord, now: datetime) -> KeyRecord:
    """Returns a record that is good at ``now``.

    Raises:
        KeyExpired: it is not.
    """
    if record.state(now) is not KeyState.ACTIVE:
        raise KeyExpired(record.name, record.why(now))
    return record


def _terms(records: list[KeyRecord]) -> OwnerTerms:
    """The largest weight and the smallest limits of an owner's keys."""
    return OwnerTerms(
        weight=max(record.weight for record in records),
        max_waiting=_smallest(record.max_waiting for record in records),
        max_running=_smallest(record.max_running for record in records),
    )


def _smallest(limits: Iterable[int]) -> int:
    return min((limit for limit in limits if limit), default=0)
