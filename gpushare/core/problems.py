"""What is wrong with a settings file: one value per mistake, and how it is written for a person.

Rules: a problem says where, what and how to put it right; it repeats no character that a terminal acts on.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from unicodedata import category

LINE_SHOWN = 160  # characters of the offending line; a longer one is cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake.

    ``source`` is a path, ``environment NAME`` or ``option --NAME``.  Line and column count from 1 and are 0
    where there are none; a caret line is drawn from ``line_text`` and ``width``.
    """

    source: str
    message: str
    setting: str = ""
    hint: str = ""
    line: int = 0
    column: int = 0
    width: int = 1
    line_text: str = ""

    def __str__(self) -> str:
        """Writes the brief form, the line itself, and a caret with the hint."""
        lines = [self.briefly()]
        if self.line_text:
            lines.append(f"{self.line:>6} | {printable(self.line_text)[:LINE_SHOWN]}")
            caret = " " * (self.column - 1) + "^" * self.width
            lines.append(f"       | {caret} {printable(self.hint)}".rstrip())
        elif self.hint:
            lines.append(f"       {printable(self.hint)}")
        return "\n".join(lines)

    def briefly(self) -> str:
        """Writes ``source:line:column: setting: message``."""
        where = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        named = f"{self.setting}: {self.message}" if self.setting else self.message
        return f"{printable(where)}: {printable(named)}"


class ConfigErrors(Exception):
    """Every problem of a settings file; nothing of the file is used.

    ``reference`` is the command that explains what the file may hold.
    """

    def __init__(self, problems: tuple[Problem, ...], *, reference: str = "") -> None:
        super().__init__(problems)
        self.problems = problems
        self.reference = reference

    def briefly(self) -> tuple[str, ...]:
        """Returns one line for each problem."""
        return tuple(problem.briefly() for problem in self.problems)

    def __str__(self) -> str:
        """Writes all problems, and how many there are."""
        noun = "error" if len(self.problems) == 1 else "errors"
        lines = [f"error: {problem}" for problem in self.problems]
        end = f" Reference: {self.reference}" if self.reference else ""
        return "\n".join([*lines, f"{len(self.problems)} {noun}; nothing was changed.{end}"])


def unusable(path: object, message: str, hint: str = "") -> ConfigErrors:
    """Returns that one file, as a whole, cannot be used, and why."""
    return ConfigErrors((Problem(source=str(path), message=message, hint=hint),))


def printable(text: str) -> str:
    """Returns the text with every character that could act or hide replaced, its length unchanged."""
    spaced = text.replace("\t", " ")
    return "".join(char if char.isprintable() or category(char) == "Zs" else "?" for char in spaced)


def closest(name: str, known: Iterable[str]) -> str:
    """Returns the known name that may have been meant, nothing if none is like it."""
    found = get_close_matches(name, known, n=1)
    return found[0] if found else ""
