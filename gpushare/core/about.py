"""The small documents for a caller: who their key says they are, and what to type into a tool here.

Called by: the pages that answer ``gpushare whoami`` and ``gpushare connect``; the commands read them.
Rules: as for the status document, fields are added and never renamed.
"""

from msgspec import Struct, field

from gpushare.core.model import Role, Service


class Whoami(Struct, frozen=True, kw_only=True):
    """``gpushare.whoami/1``: the person behind a key."""

    schema: str = "gpushare.whoami/1"
    name: str
    key_id: str
    role: Role
    service: Service = field(name="class")
    weight: float
    host: str
    version: str


class Connecting(Struct, frozen=True, kw_only=True):
    """``gpushare.connecting/1``: what the steps for a tool are filled in with; null is not known."""

    schema: str = "gpushare.connecting/1"
    base_url: str
    model: str | None
    context: int | None


class Cancelled(Struct, frozen=True, kw_only=True):
    """``gpushare.cancelled/1``: the call that was ended."""

    schema: str = "gpushare.cancelled/1"
    id: str
