"""What a changed configuration changes in a server that runs: which settings act, and which need a restart.

Called by: ``app.reload``.  Rules: a setting acts on reload unless ``core.config`` marks it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from msgspec import Struct
from msgspec import inspect as types
from msgspec.structs import fields, replace

from gpushare.core.config import Config
from gpushare.core.schema import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The way from one configuration to another.

    ``config`` is what holds from now on.  ``changed`` names the settings that act, ``kept`` those that keep
    their old value until a restart.
    """

    config: Config
    changed: tuple[str, ...]
    kept: tuple[str, ...]


def compare(old: Config, new: Config) -> Change:
    """Returns what of ``new`` can act in a server that was started with ``old``."""
    before = dict(settings(old))
    differing = [name for name, toml in settings(new) if before[name] != toml]
    restart = {*needs_restart(), *_switched_tls(old, new)}
    return Change(
        config=_with_old(old, new, restart),
        changed=tuple(name for name in differing if name not in restart),
        kept=tuple(name for name in differing if name in restart),
    )


def _switched_tls(old: Config, new: Config) -> tuple[str, ...]:
    """Returns the settings that turn TLS on or off: which of the two a listener speaks stays."""
    if bool(old.server.tls_cert) == bool(new.server.tls_cert):
        return ()
    return ("server.tls_cert", "server.tls_key")


def needs_restart(schema: type[Struct] = Config, prefix: str = "") -> Iterator[str]:
    """Yields the dotted names of the settings that act only after a restart."""
    for field in fields(schema):
        name = f"{prefix}{field.encode_name}"
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            yield from needs_restart(field.type, f"{name}.")
            continue
        info = types.type_info(field.type)
        if isinstance(info, types.Metadata) and (info.extra or {}).get("restart"):
            yield name


def _with_old(old: Config, new: Config, names: set[str]) -> Config:
    """Returns ``new`` with the named settings as they are in ``old``."""
    sections: dict[str, dict[str, object]] = {}
    for name in names:
        section, _, setting = name.partition(".")
        sections.setdefault(section, {})[setting] = getattr(getattr(old, section), setting)
    return replace(
        new, **{section: replace(getattr(new, section), **kept) for section, kept in sections.items()}
    )
