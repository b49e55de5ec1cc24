"""Reading a TOML text into a msgspec structure, with every problem reported at once and at its place.

Called by: ``core.config`` and ``core.keys``.  Rules: the structure is the schema, nothing is listed twice; a
value of the wrong type is never coerced (``"2"`` is no number); one mistake gives one problem.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar, get_args

from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo, fields

from gpushare.core.leaves import as_toml, convert, fix, mismatch, shown, to_toml, written
from gpushare.core.places import Path, Place, places
from gpushare.core.problems import ConfigErrors, Problem, closest

ENV_PREFIX = "GPUSHARE_"

S = TypeVar("S", bound=Struct)


class Wrong(NamedTuple):
    """What a judge of the finished structure says of one setting (``queue.slots``, ``key.0.id``).

    ``beside`` names the settings that it is measured against.
    """

    setting: str
    message: str
    beside: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        """The names of all these, without a table."""
        return {self.setting.rpartition(".")[2], *self.beside}


class Setting(NamedTuple):
    """One setting of a structure: its dotted name, and its value as TOML."""

    name: str
    toml: str


@dataclass(frozen=True, slots=True)
class Reading(Generic[S]):
    """A structure, and for each setting that was given where its value came from."""

    value: S
    origins: Mapping[str, str]


def read(
    text: str,
    schema: type[S],
    *,
    source: str,
    judge: Callable[[S], Iterable[Wrong]],
    env: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
    reference: str = "",
) -> Reading[S]:
    """Reads the text, the environment and the options into one structure.

    Args:
        text: TOML.
        schema: a structure whose fields are structures (tables) or lists of them (lists of tables).
        source: the text's name in problems.
        judge: says what is wrong between values that are each right.
        env: variables ``GPUSHARE_<TABLE>__<NAME>`` win over the text.
        options: ``{"table.name": text}`` wins over both.
        reference: the command that explains the settings, named after the problems.

    Raises:
        ConfigErrors: with every problem found.
    """
    walk = _Walk(text, source, schema)
    for override in (*_from_env(env or {}), *_from_options(options or {})):
        walk.add_override(override)
    value = walk.table(walk.parse(), schema, ())
    found = list(judge(value)) if value is not None and not walk.unread else []
    for wrong in [each for each in found if walk.doubted.isdisjoint(each.names)]:
        walk.report(_path(wrong.setting), wrong.message)
    if value is None or walk.problems:
        in_order = sorted(walk.problems, key=lambda problem: problem.line or len(text))
        raise ConfigErrors(tuple(in_order), reference=reference)
    return Reading(value, walk.origins)


def settings(value: Struct, prefix: str = "") -> Iterator[Setting]:
    """Yields every setting of a structure of tables in the order of its definition."""
    for field in fields(value):
        inner = getattr(value, field.name)
        name = f"{prefix}{field.encode_name}"
        if isinstance(inner, Struct):
            yield from settings(inner, f"{name}.")
        else:
            yield Setting(name, to_toml(written(inner, field.type)))


class _Override(NamedTuple):
    origin: str
    path: Path
    text: str


def _from_env(env: Mapping[str, str]) -> Iterator[_Override]:
    for name in sorted(env):
        if name.startswith(ENV_PREFIX) and "__" in name:
            path = tuple(name.removeprefix(ENV_PREFIX).lower().split("__"))
            yield _Override(f"environment {name}", path, env[name])


def _from_options(options: Mapping[str, str]) -> Iterator[_Override]:
    for setting, text in options.items():
        path = tuple(setting.split("."))
        yield _Override(f"option --{path[-1]}", path, text)


class _Walk:
    """One pass over a parsed text: builds the structure and collects problems and origins.

    Attributes:
        unread: the text is no TOML, or a table lacks what it must have.
        doubted: names whose values are not what was meant, so that nothing can be measured against them.
    """

    def __init__(self, text: str, source: str, root: type[Struct]) -> None:
        self.problems: list[Problem] = []
        self.unread = False
        self.doubted: set[str] = set()
        self.origins: dict[str, str] = {}
        self._text = text
        self._source = source
        self._root = root
        self._places: dict[Path, Place] = {}
        self._overrides: dict[Path, _Override] = {}

    def parse(self) -> dict[str, object]:
        """Returns the text as plain tables; a text that is no TOML is one problem and counts as empty."""
        try:
            tree = tomllib.loads(self._text)
            self._places = places(self._text)
        except RecursionError:
            self.problems.append(Problem(source=self._source, message="nested too deeply"))
        except ValueError as error:
            self.problems.append(self._syntax(str(error)))
        else:
            return tree
        self.unread = True
        return {}

    def add_override(self, override: _Override) -> None:
        """Notes a value from outside of the text; an unknown name is a problem."""
        inner: Any = self._root
        for key in override.path:
            known = {field.encode_name: field.type for field in fields(inner)} if _is_table(inner) else {}
            if key not in known:
                hint = self._near(str(key), known)
                self.problems.append(Problem(source=override.origin, message="no such setting", hint=hint))
                return
            inner = known[str(key)]
        self._overrides[override.path] = override

    def table(self, raw: object, schema: type[S], path: Path) -> S | None:
        """Returns the structure for one table, None when a required value is missing or wrong."""
        if not isinstance(raw, dict):
            self.report(path, f"expected a table, got {shown(raw)}")
            self.unread = True
            return None
        known = fields(schema)
        names = [field.encode_name for field in known]
        for key in raw:
            if key not in names:
                what = "setting" if path else "section"
                self.report((*path, key), f"no such {what}", self._near(key, names) or self._home(key))
        values = {field.name: self._field(raw, field, path) for field in known}
        given = {name: value for name, value in values.items() if value is not NODEFAULT}
        complete = all(field.name in given for field in known if field.required)
        self.unread |= not complete
        return schema(**given) if complete else None

    def report(self, path: Path, message: str, hint: str = "") -> None:
        """Adds a problem at a setting: in the text, or wherever its value came from."""
        self.doubted.update(map(str, path[-1:]))
        if path in self._overrides:
            origin = self._overrides[path].origin
            self.problems.append(Problem(source=origin, message=message, hint=hint))
            return
        place = next(
            (self._places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self._places), None
        )
        problem = Problem(source=self._source, setting=_dotted(path), message=message, hint=hint)
        self.problems.append(self._at(problem, place) if place else problem)

    def _field(self, raw: dict[str, object], field: FieldInfo, path: Path) -> object:
        """Returns the value for one field, NODEFAULT for its default or after a problem."""
        here = (*path, field.encode_name)
        if _is_table(field.type):
            return self.table(raw.get(field.encode_name, {}), field.type, here)
        if _is_tables(field.type):
            return self._tables(raw.get(field.encode_name, []), get_args(field.type)[0], here)
        if here in self._overrides:
            return self._overridden(self._overrides[here], field)
        if field.encode_name in raw:
            return self._leaf(raw[field.encode_name], field, here)
        if field.required:
            self.report(path, f"{field.encode_name} is missing")
        return NODEFAULT

    def _near(self, name: str, known: Iterable[str]) -> str:
        """Returns which name may have been meant; its value is doubted."""
        meant = closest(name, known)
        self.doubted |= {name, meant}
        return f'did you mean "{meant}"?' if meant else ""

    def _home(self, name: str) -> str:
        """Names the table that a setting in the wrong table belongs to."""
        for table in fields(self._root):
            if _is_table(table.type) and name in [field.encode_name for field in fields(table.type)]:
                return f"it belongs under [{table.encode_name}]"
        return ""

    def _tables(self, raw: object, schema: type[Struct], path: Path) -> object:
        if not isinstance(raw, list):
            self.report(path, f"expected a list of tables, got {shown(raw)}")
            return NODEFAULT
        return tuple(self.table(item, schema, (*path, index)) for index, item in enumerate(raw))

    def _leaf(self, raw: object, field: FieldInfo, path: Path) -> object:
        try:
            value = convert(raw, field.type)
        except ValueError:
            self.report(path, mismatch(raw, field.type), fix(raw, field))
            return NODEFAULT
        line = self._places[path].line if path in self._places else 0
        self.origins[_dotted(path)] = f"{self._source}:{line}"
        return value

    def _overridden(self, override: _Override, field: FieldInfo) -> object:
        """Reads a value from outside: as TOML if that fits, else as plain text."""
        candidates = [*as_toml(override.text), override.text]
        for candidate in candidates:
            try:
                value = convert(candidate, field.type)
            except ValueError:
                continue
            self.origins[_dotted(override.path)] = override.origin
            return value
        self.report(override.path, mismatch(candidates[0], field.type))
        return NODEFAULT

    def _syntax(self, message: str) -> Problem:
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message, re.DOTALL)
        said = found[1] if found else message
        hint = "it is there twice" if said.startswith("Cannot overwrite") else ""
        last = self._text.rstrip("\n").split("\n")
        line, column = (
            (int(found[2]), int(found[3])) if found and found[2] else (len(last), len(last[-1]) + 1)
        )
        problem = Problem(source=self._source, message=f"not TOML: {said}", hint=hint)
        return self._at(problem, Place(line=line, column=column, width=1))

    def _at(self, problem: Problem, place: Place) -> Problem:
        lines = self._text.split("\n")
        text = lines[place.line - 1].rstrip("\r") if place.line <= len(lines) else ""
        return replace(problem, line=place.line, column=place.column, width=place.width, line_text=text)


def _is_table(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _is_tables(kind: object) -> bool:
    return any(map(_is_table, get_args(kind)))


def _path(dotted: str) -> Path:
    return tuple(int(part) if part.isdigit() else part for part in dotted.split("."))


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
