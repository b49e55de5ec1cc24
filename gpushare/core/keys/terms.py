"""What a key may do, as somebody types it: read into the fields of a record, and written as a command.

Called by: ``web.pages.keyring`` for forms, ``cli.key`` for "until when".  Rules: everything that is wrong is
told at once, by field; nothing that was typed is lost on the way.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from gpushare.core import forms
from gpushare.core.keys.record import LIMIT_MOST, PATTERN_MOST, WEIGHT_MOST, KeyRecord, KeyState
from gpushare.core.keys.ring import KeyRing, NoSuchKey
from gpushare.core.model import Role, Service
from gpushare.core.people import name_problem

MODELS_MOST = 100

Typed = Mapping[str, str]
FRESH: Typed = {
    "name": "",
    "role": Role.PERSON.value,
    "class": Service.INTERACTIVE.value,
    "weight": "1",
    "models": "",
    "max_waiting": "0",
    "max_running": "0",
    "expires": "never",
}
"""What a form for a new key holds before anybody typed."""


class LastAdmin(ValueError):
    """The change would leave nobody who may change keys on the pages."""


class Passed(ValueError):
    """The end of a key that lies behind."""


def until(text: str, now: datetime) -> datetime | None:
    """Reads ``90d`` from now, a date as in 2027-11-20, or ``never``.

    Raises:
        Passed: the day has begun.
        ValueError: it is none of these.
    """
    if text == "never":
        return None
    try:
        return now + timedelta(seconds=forms.span(text))
    except ValueError:
        end = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    if end <= now:
        raise Passed(text)
    return end


def read_terms(typed: Typed, now: datetime) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the fields of a record that were typed, and what is wrong with which of them."""
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for field, reader in _READERS.items():
        if field in typed:
            try:
                values[field] = reader(typed[field].strip(), now)
            except _Problem as problem:
                wrong[field] = str(problem)
    if "class" in values:
        values["service"] = values.pop("class")
    return values, wrong


def written(record: KeyRecord) -> dict[str, str]:
    """Returns a record's terms as they would be typed."""
    return {
        "name": record.name,
        "role": record.role.value,
        "class": record.service.value,
        "weight": f"{record.weight:g}",
        "models": " ".join(record.models),
        "max_waiting": str(record.max_waiting),
        "max_running": str(record.max_running),
        "expires": f"{record.expires:%Y-%m-%d}" if record.expires else "never",
    }


def options(typed: Typed, *, before: Typed = FRESH) -> list[str]:
    """Returns the options of ``gpushare key add`` or ``key set`` that say what was typed.

    Args:
        typed: what was typed, and is right.
        before: what holds without any option.
    """
    said = []
    for field, value in typed.items():
        if field == "name" or value == before.get(field):
            continue
        if field == "models":
            said += [word for model in value.split() for word in ("--model", model)] or ["--any-model"]
        else:
            said += [f"--{field.replace('_', '-')}", value]
    return said


def changed_terms(ring: KeyRing, key_id: str, now: datetime, **changes: object) -> KeyRing:
    """Returns a ring in which one key has other terms.

    Raises:
        NoSuchKey: there is none of this id, or it was revoked.
        NameTaken: the new name is somebody else's.
        LastAdmin: nobody would be left who is an admin.
    """
    record = ring.get(key_id)
    if record is None or record.revoked:
        raise NoSuchKey(key_id)
    if "name" in changes:
        ring.check_name(str(changes["name"]), record.owner, now)
    after = ring.changed([key_id], **changes)
    if _admins(ring, now) and not _admins(after, now):
        raise LastAdmin
    return after


def changes_told(before: KeyRecord, after: KeyRecord) -> str:
    """Returns in words which terms differ, and what they are now."""
    old, new = written(before), written(after)
    return ", ".join(
        f"{field.replace('_', ' ')} {new[field] or 'any'}" for field in new if old[field] != new[field]
    )


def _admins(ring: KeyRing, now: datetime) -> bool:
    return any(record.role is Role.ADMIN and record.state(now) is KeyState.ACTIVE for record in ring.records)


class _Problem(ValueError):
    """What is wrong with one field, as a sentence."""


def _name(text: str, _now: datetime) -> str:
    if problem := name_problem(text):
        raise _Problem(f"{problem[0].upper()}{problem[1:]}.")
    return text


def _role(text: str, _now: datetime) -> Role:
    if text not in set(Role):
        raise _Problem("Choose person or admin.")
    return Role(text)


def _service(text: str, _now: datetime) -> Service:
    if text not in set(Service):
        raise _Problem("Choose interactive or background.")
    return Service(text)


def _weight(text: str, _now: datetime) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight <= WEIGHT_MOST:
        raise _Problem(f"A weight is a number above 0, at most {WEIGHT_MOST:g}.")
    return weight


def _models(text: str, _now: datetime) -> tuple[str, ...]:
    names = tuple(re.split(r"[\s,]+", text.strip(" ,"))) if text else ()
    if len(names) > MODELS_MOST or any(len(name) > PATTERN_MOST for name in names):
        raise _Problem(f"At most {MODELS_MOST} models, each of at most {PATTERN_MOST} characters.")
    return names


def _limit(text: str, _now: datetime) -> int:
    if not re.fullmatch(r"\d{1,6}", text, re.ASCII) or int(text) > LIMIT_MOST:
        raise _Problem(f"A limit is a whole number from 0 to {LIMIT_MOST}.")
    return int(text)


def _expires(text: str, now: datetime) -> datetime | None:
    try:
        return until(text or "never", now)
    except Passed:
        raise _Problem("This day has passed. To end a key, revoke it.") from None
    except ValueError:
        raise _Problem('Type a time such as "90d", a date such as 2027-11-20, or never.') from None


_READERS = {
    "name": _name,
    "role": _role,
    "class": _service,
    "weight": _weight,
    "models": _models,
    "max_waiting": _limit,
    "max_running": _limit,
    "expires": _expires,
}
