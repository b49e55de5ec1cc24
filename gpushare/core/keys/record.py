"""One key as the key file holds it, and whether it is good now."""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from gpushare.core.forms import Form, Unfit
from gpushare.core.model import Role, Service
from gpushare.core.people import name_problem


class KeyState(StrEnum):
    """Whether a key is good now."""

    ACTIVE = "active"
    EARLY = "not yet valid"
    EXPIRED = "expired"
    DISABLED = "disabled"
    REVOKED = "revoked"


def _person(value: object) -> str:
    if not isinstance(value, str) or name_problem(value):
        raise Unfit(value)
    return value


def _hex(digits: int) -> Form:
    def read_hex(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(rf"[0-9a-f]{{{digits}}}", value, re.ASCII):
            raise Unfit(value)
        return value

    return Form(f"{digits} digits 0-9 a-f", read_hex)


def _instant(value: object) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise Unfit(value)
    return value.astimezone(UTC)


Id = Annotated[str, Meta(extra={"form": _hex(6)})]
Sha256 = Annotated[str, Meta(extra={"form": _hex(64)})]
Name = Annotated[str, Meta(extra={"form": Form("a name of letters, digits, space and . _ - @", _person)})]
Instant = Annotated[
    datetime | None, Meta(extra={"form": Form("a time such as 2027-11-20T00:00:00Z", _instant)})
]
Link = Annotated[str | None, Meta(extra={"form": _hex(64)})]
PATTERN_MOST = 200  # characters
WEIGHT_MOST = 1000
LIMIT_MOST = 100_000
ModelPattern = Annotated[str, Meta(min_length=1, max_length=PATTERN_MOST)]
Weight = Annotated[float, Meta(gt=0, le=WEIGHT_MOST)]
Limit = Annotated[int, Meta(ge=0, le=LIMIT_MOST)]


class KeyRecord(Struct, frozen=True, kw_only=True):
    """One key as ``keys.toml`` holds it; limits of 0 mean "as configured for everybody".

    ``sign_outs`` counts how often its sessions in browsers were ended.  ``link`` is the SHA-256 of what opens
    the key until ``link_until``; see ``core.keys.handing``.
    """

    id: Id
    name: Name
    sha256: Sha256
    owner: Id = ""  # whoever has none owns itself, see below
    role: Role = Role.PERSON
    service: Service = msgspec.field(name="class", default=Service.INTERACTIVE)
    weight: Weight = 1.0
    models: tuple[ModelPattern, ...] = ()
    max_waiting: Limit = 0
    max_running: Limit = 0
    created: Instant = None
    not_before: Instant = None
    expires: Instant = None
    disabled: bool = False
    revoked: Instant = None
    sign_outs: Annotated[int, Meta(ge=0)] = 0
    link: Link = None
    link_until: Instant = None

    def __post_init__(self) -> None:
        if not self.owner:
            force_setattr(self, "owner", self.id)

    @property
    def made(self) -> datetime:
        """When the key was made; long ago for one entered by hand without a date."""
        return self.created or datetime.fromtimestamp(0, UTC)

    def state(self, now: datetime) -> KeyState:
        """Returns whether the key is good at ``now``."""
        if self.revoked:
            return KeyState.REVOKED
        if self.disabled:
            return KeyState.DISABLED
        if self.expires and now >= self.expires:
            return KeyState.EXPIRED
        if self.not_before and now < self.not_before:
            return KeyState.EARLY
        return KeyState.ACTIVE

    def why(self, now: datetime) -> str:
        """Completes "the key of erin ..." for a key that is not good."""
        match self.state(now):
            case KeyState.EXPIRED:
                return f"expired on {self.expires:%Y-%m-%d}"
            case KeyState.EARLY:
                return f"is not valid before {self.not_before:%Y-%m-%d %H:%M} UTC"
            case KeyState.REVOKED:
                return "was revoked"
            case state:
                return f"is {state}"

    def ended(self, now: datetime) -> bool:
        """Whether the key will never be good again."""
        return self.state(now) in (KeyState.REVOKED, KeyState.EXPIRED)
