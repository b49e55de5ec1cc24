"""Where each key of a TOML text stands, which the standard parser does not tell.

Called by: ``core.schema`` for line and column of a complaint, and ``fill`` for writing a first configuration.
Rules: the text has already been accepted by ``tomllib``, so this scanner checks nothing; whatever it does not
follow (tables inside of arrays) has no place of its own and is reported at the key above it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

Path = tuple[str | int, ...]
"""Names of tables and keys from the top; a number counts the tables of a ``[[list]]`` from 0."""

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t]+|\#[^\n]*)
    | (?P<newline>\r?\n)
    | (?P<quoted>\"{3}(?:\\.|[^\\])*?\"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
    | (?P<mark>[\[\]{}=,.])
    | (?P<bare>[^\s\[\]{}=,.\#"']+)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_CONTROLS = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}
_OPENING, _CLOSING = "[{", "]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Position of one key: line and column from 1, its width, and from where to where its value stands."""

    line: int
    column: int
    width: int
    start: int = 0
    stop: int = 0


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int

    @property
    def stop(self) -> int:
        return self.start + len(self.text)


def places(text: str) -> dict[Path, Place]:
    """Returns the place of each key and table header of a valid TOML text."""
    return _Scanner(text).scan()


def fill(text: str, values: Mapping[Path, str]) -> str:
    """Returns the text with the values of some settings replaced; comments and all else stay.

    Args:
        text: a valid TOML text in which each of the settings is written out.
        values: for each setting the new value as TOML.
    """
    found = places(text)
    for path in sorted(values, key=lambda path: found[path].start, reverse=True):
        text = text[: found[path].start] + values[path] + text[found[path].stop :]
    return text


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [
            _Token(str(found.lastgroup), found[0], found.start())
            for found in _TOKEN.finditer(text)
            if found.lastgroup != "space"
        ]
        self._at = 0
        self._found: dict[Path, Place] = {}
        self._counts: dict[Path, int] = {}  # tables seen so far of each [[list]]

    def scan(self) -> dict[Path, Place]:
        table: Path = ()
        while (token := self._peek()) is not None:
            if token.kind == "newline":
                self._at += 1
            elif token.text == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._found

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> _Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _header(self) -> Path:
        first = self._next()
        second = self._peek()
        is_list = second is not None and second.text == "[" and second.start == first.stop
        self._at += is_list
        keys = self._keys("]")
        self._at += is_list
        path: Path = ()
        for key in keys[:-1]:
            path = self._latest((*path, _name(key)))
        path = (*path, _name(keys[-1]))
        if is_list:
            self._counts[path] = self._counts.get(path, 0) + 1
            self._note(path, keys)
        path = self._latest(path)
        self._note(path, keys)
        return path

    def _latest(self, path: Path) -> Path:
        """A name of a list stands for the last table in it."""
        return (*path, self._counts[path] - 1) if path in self._counts else path

    def _pair(self, table: Path) -> None:
        keys = self._keys("=")
        path = table
        for depth in range(1, len(keys) + 1):
            path = (*table, *map(_name, keys[:depth]))
            self._note(path, keys[:depth])
        start = self._tokens[self._at].start
        stop = self._value(path)
        self._found[path] = replace(self._found[path], start=start, stop=stop)

    def _keys(self, end: str) -> list[_Token]:
        keys = []
        while (token := self._next()).text != end:
            if token.kind != "mark":
                keys.append(token)
        return keys

    def _value(self, path: Path) -> int:
        """Passes over a value, noting the keys of an inline table, and returns where it stops."""
        token = self._next()
        if token.text == "{":
            return self._inline_table(path)
        depth = int(token.text == "[")
        stop = token.stop
        while (following := self._peek()) is not None:
            if depth == 0 and (following.kind == "newline" or following.text in (",", "}")):
                break
            depth += (following.text in _OPENING) - (following.text in _CLOSING)
            stop = self._next().stop
        return stop

    def _inline_table(self, path: Path) -> int:
        while (token := self._peek()) is not None and token.text != "}":
            if token.kind == "newline" or token.text == ",":
                self._at += 1
            else:
                self._pair(path)
        return self._next().stop

    def _note(self, path: Path, keys: list[_Token]) -> None:
        if path in self._found:
            return
        start, stop = keys[0].start, keys[-1].stop
        line = self._text.count("\n", 0, start)
        column = start - (self._text.rfind("\n", 0, start) + 1)
        self._found[path] = Place(line=line + 1, column=column + 1, width=stop - start)


def _name(token: _Token) -> str:
    if token.kind != "quoted":
        return token.text
    inner = token.text[1:-1]
    return inner if token.text.startswith("'") else _ESCAPE.sub(_unescape, inner)


def _unescape(found: re.Match[str]) -> str:
    if code := found[1] or found[2]:
        return chr(int(code, 16))
    return _CONTROLS.get(found[3], found[3])
