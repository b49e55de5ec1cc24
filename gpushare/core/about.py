"""The small documents for a caller: whose key it is, what to type into a tool here, which models there are.

Called by: the pages that answer ``gpushare whoami``, ``connect`` and ``models``; the commands read them.
Rules: as for the status document, fields are added and never renamed.
"""

from datetime import datetime

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


class Installed(Struct, frozen=True, kw_only=True):
    """One model; what is only known of one in memory is null for others."""

    name: str
    loaded: bool
    vram_bytes: int | None = None
    on_gpu: float | None = None
    context: int | None = None
    unloads: datetime | None = None


class Models(Struct, frozen=True, kw_only=True):
    """``gpushare.models/1``: the models in Ollama's store, those in memory first."""

    schema: str = "gpushare.models/1"
    models: tuple[Installed, ...]


class Unload(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an admin sends to drop a model from memory."""

    model: str


class Unloaded(Struct, frozen=True, kw_only=True):
    """``gpushare.unloaded/1``: the model that leaves memory once nothing runs on it."""

    schema: str = "gpushare.unloaded/1"
    model: str


class Probe(Struct, frozen=True, kw_only=True):
    """``gpushare.probe/1``: one of a few slow lines, with whom the server takes its caller for.

    ``peer`` is the other end of the connection, ``client`` the caller behind it; ``forwarded`` tells whether
    the peer spoke for somebody, ``trusted`` whether it is believed.
    """

    schema: str = "gpushare.probe/1"
    line: int
    of: int
    sent_s: float
    peer: str
    client: str
    forwarded: bool
    trusted: bool
