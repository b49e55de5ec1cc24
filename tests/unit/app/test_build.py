"""A reloaded server is the same as one that was started with the new settings, whatever holds them."""

import functools
import itertools
import types as python
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from msgspec import Struct
from msgspec import inspect as types
from msgspec.structs import fields, replace

from gpushare.app.build import build_parts, connection_limits
from gpushare.app.life import Life
from gpushare.core import forms
from gpushare.core.changes import compare
from gpushare.core.config import Config, Server
from gpushare.core.keys import KeyRing
from gpushare.edge.ollama import HttpOllama
from gpushare.web.connections import Connections
from gpushare.web.parts import Parts

SAMPLES = {forms.IP: "192.0.2.7", forms.NETWORK: "192.0.2.0/24"}
"""Other values of settings whose text is read where it is used."""
BY_CHANCE = {"_answered", "_at", "_offset_s", "_secret", "since", "started_at"}
"""Attributes that differ between any two servers."""
Plain = str | int | float | bool | bytes | None


def other_value(value: Any, kind: Any) -> Any:
    """Returns a value of the same type that is not the default."""
    info = types.type_info(kind)
    form = (info.extra or {}).get("form") if isinstance(info, types.Metadata) else None
    if get_origin(kind) is tuple:
        return (other_value("", get_args(kind)[0]),)
    if get_origin(kind) is Literal:
        return next(choice for choice in get_args(kind) if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return 7.0 if value is None else SAMPLES.get(form, f"other-{value}")  # type: ignore[arg-type]


def every_setting_changed(value: Struct) -> Any:
    """Returns a configuration in which no setting has its default."""
    return replace(
        value,
        **{
            field.name: every_setting_changed(inner)
            if isinstance(inner := getattr(value, field.name), Struct)
            else other_value(inner, field.type)
            for field in fields(value)
        },
    )


def children(item: Any) -> Iterator[tuple[str, Any]]:
    """Yields what an object of ours, a container or a function holds, each with a name."""
    if isinstance(item, Mapping):
        yield from ((f"[{key!r}]", each) for key, each in item.items() if isinstance(key, Plain))
    elif isinstance(item, tuple | list | deque):
        yield from ((f"[{place}]", each) for place, each in enumerate(item))
    elif isinstance(item, set | frozenset):
        yield "{}", repr(sorted(map(repr, item)))
    elif isinstance(item, python.MethodType):
        yield "()", item.__self__
    elif isinstance(item, functools.partial):
        yield "()", (item.func, item.args, item.keywords)
    elif isinstance(item, python.FunctionType):
        cells = zip(item.__code__.co_freevars, item.__closure__ or (), strict=True)
        yield from ((f"({name})", cell.cell_contents) for name, cell in cells)
    elif type(item).__module__.startswith("gpushare."):
        slots = (getattr(kind, "__slots__", ()) for kind in type(item).__mro__)
        own = itertools.chain(*slots, getattr(item, "__struct_fields__", ()), getattr(item, "__dict__", ()))
        yield from ((f".{name}", getattr(item, name)) for name in own if hasattr(item, name))


def values(root: Any) -> dict[str, Plain]:
    """Returns every plain value that can be reached from an object, by the way to it."""
    found: dict[str, Plain] = {}
    seen: set[int] = set()
    kept = deque([("", root)])
    alive = []  # or a number would come again for another object
    while kept:
        way, item = kept.popleft()
        if isinstance(item, Plain):
            found[way] = item
        elif id(item) not in seen:
            seen.add(id(item))
            alive.append(item)
            kept.extend((way + name, each) for name, each in children(item) if name[1:] not in BY_CHANCE)
    return found


def started(config: Config) -> tuple[Parts, Life]:
    """Returns a server that was built with a configuration, connections included."""
    life = Life()
    parts = build_parts(config, KeyRing(), HttpOllama(config.ollama.url), Path("nowhere"), life)
    parts.connections = Connections(connection_limits(config))
    return parts, life


def test_every_setting_acts_on_reload_or_is_marked() -> None:
    """No object keeps a value of the old configuration: a forgotten one would be found in it."""
    parts, life = started(Config())
    old = values((parts, life))
    change = compare(Config(), every_setting_changed(Config()))
    life.reload(Config(), change.config)
    reloaded, restarted = values((parts, life)), values(started(change.config))
    assert {way: value for way, value in restarted.items() if reloaded.get(way) != value} == {}
    assert sum(restarted[way] != old.get(way) for way in restarted) > len(change.changed)


def test_a_reload_can_be_undone() -> None:
    """After the way back nothing is left of the new configuration."""
    parts, life = started(Config())
    old = values((parts, life))
    life.reload(Config(), every_setting_changed(Config()))
    life.reload(Config(), Config())
    assert values((parts, life)) == old


def test_a_reload_asks_nobody_for_the_machine_s_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that keeps silent would stop the loop; only what the settings add can change."""
    parts, life = started(Config())
    old = parts.own_names

    def silent() -> str:
        raise AssertionError("it was asked")

    monkeypatch.setattr("socket.getfqdn", silent)
    life.reload(Config(), Config(server=Server(allowed_hosts=("gpu.example",))))
    assert parts.own_names == {*old, "gpu.example"}
