"""One value of a settings file: whether it fits its type, how to name what was expected, how to repair it.

Called by: ``core.schema``.  Rules: the type with its bounds and its form is the only source, so that a
message cannot disagree with the check.
"""

import json
import tomllib
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Literal, get_args, get_origin

import msgspec
from msgspec import NODEFAULT
from msgspec import inspect as types
from msgspec.structs import FieldInfo

from gpushare.core.forms import Form, Unfit

VALUE_SHOWN = 60  # characters of a wrong value that a message repeats


def convert(raw: object, kind: object) -> object:
    """Returns the value for a raw TOML value; nothing is coerced.

    Raises:
        ValueError: the value does not fit the type, its bounds or its form.
    """
    if form := _form(kind):
        return form.read(raw)
    kind = _bare(kind)
    if get_origin(kind) is not tuple:
        return msgspec.convert(raw, kind)
    if not isinstance(raw, list):
        raise Unfit(raw)
    return tuple(convert(item, get_args(kind)[0]) for item in raw)


def _fits(raw: object, kind: object) -> bool:
    try:
        convert(raw, kind)
    except ValueError:
        return False
    return True


def written(value: object, kind: object) -> object:
    """Returns the value as it is written in a file: the opposite of ``convert``."""
    form = _form(kind)
    return form.write(value) if form else value


def mismatch(raw: object, kind: object) -> str:
    """Says what was expected and what was found instead, for a list its first wrong item."""
    kind = _bare(kind)
    if get_origin(kind) is tuple and isinstance(raw, list):
        item_kind = get_args(kind)[0]
        return mismatch(next(item for item in raw if not _fits(item, item_kind)), item_kind)
    return f"expected {_words(kind)}, got {shown(raw)}"


def fix(raw: object, field: FieldInfo) -> str:
    """Returns a line that would be right: the value repaired where it can be, else the default."""
    for candidate in _repairs(raw):
        if _fits(candidate, field.type):
            return f"fix: {field.encode_name} = {to_toml(candidate)}"
    if field.default is NODEFAULT:
        return ""
    return f"fix: {field.encode_name} = {to_toml(written(field.default, field.type))}"


def as_toml(text: str) -> list[object]:
    """Returns the one value that the text is in TOML, none if it is no TOML value."""
    try:
        tree = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return []
    return [tree["value"]] if tree.keys() == {"value"} else []


def to_toml(value: object) -> str:
    """Writes a plain value as TOML."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(to_toml, value))}]"
    if isinstance(value, str | bool):  # JSON's text and booleans are also TOML's
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def shown(raw: object) -> str:
    """Names a wrong value in a message."""
    if isinstance(raw, bool):
        return to_toml(raw)
    if isinstance(raw, int | float):
        return f"the number {raw}"[:VALUE_SHOWN]
    if isinstance(raw, str):
        return to_toml(raw if len(raw) <= VALUE_SHOWN else f"{raw[:VALUE_SHOWN]}…")
    if isinstance(raw, list | dict):
        return "a list" if isinstance(raw, list) else "a table"
    return "a date or time"


def _repairs(raw: object) -> Iterator[object]:
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        yield from (str(raw), f"{raw}s", f"{raw}B")
    if isinstance(raw, str):
        yield from as_toml(raw)
        yield [raw]


def _form(kind: object) -> Form | None:
    info = types.type_info(kind)
    form = (info.extra or {}).get("form") if isinstance(info, types.Metadata) else None
    return form if isinstance(form, Form) else None


def _bare(kind: object) -> object:
    """Returns a list or a choice without the marks on it, which say nothing about its values."""
    base = getattr(kind, "__origin__", None) if get_origin(kind) is Annotated else None
    return base if get_origin(base) in (tuple, Literal) else kind


def _words(kind: object) -> str:
    """Names what a type expects."""
    if form := _form(kind):
        return form.words
    kind = _bare(kind)
    if get_origin(kind) is tuple:
        return f"a list, each item of it {_words(get_args(kind)[0])}"
    if get_origin(kind) is Literal:
        return _choice(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _choice(tuple(kind))
    return _plain(types.type_info(kind))


def _choice(values: tuple[object, ...]) -> str:
    quoted = [f'"{value}"' for value in values]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _plain(info: types.Type) -> str:
    match info:
        case types.BoolType():
            return "true or false"
        case types.IntType():
            return f"a whole number{_bounds(info)}"
        case types.FloatType():
            return f"a number{_bounds(info)}"
        case types.StrType(max_length=int(most)):
            return f"text of at most {most} characters"
        case _:
            return "text"


def _bounds(info: types.IntType | types.FloatType) -> str:
    words = {"gt": "above", "ge": "from", "lt": "below", "le": "to"}
    found = [f"{word} {bound}" for name, word in words.items() if (bound := getattr(info, name)) is not None]
    return f" {' '.join(found)}" if found else ""
