"""What commands say and how they end: results on stdout, everything else on stderr, exit codes.

Rules: nothing that came from a file or a server reaches the terminal with its control characters.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from enum import IntEnum
from types import MappingProxyType
from typing import Any

import click
import msgspec

from gpushare.core.problems import ConfigErrors, printable


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CONFIG = 3
    UNREACHABLE = 4
    NOT_ALLOWED = 5
    NOT_FOUND = 6
    PROBLEMS = 7
    TRY_LATER = 75
    INTERRUPTED = 130


class Failure(Exception):
    """A command cannot do what was asked: why, and what to do next."""

    def __init__(self, code: str, message: str, *, exit_code: ExitCode, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def note(text: str) -> None:
    """Says something beside the result; where it cannot be said, the result counts all the same."""
    with suppress(OSError):
        click.echo(text, err=True)


def emit(schema: str, **fields: object) -> None:
    """Prints one JSON document as the result of a reading command."""
    click.echo(json.dumps({"schema": schema, **fields}, ensure_ascii=False, indent=2, default=_json))


def emit_document(document: msgspec.Struct) -> None:
    """Prints a document that has its schema's name in it."""
    click.echo(json.dumps(msgspec.to_builtins(document), ensure_ascii=False, indent=2))


def report(code: str, message: str, *, hint: str = "", as_json: bool) -> None:
    """Says why a command failed."""
    if as_json:
        click.echo(json.dumps({"error": {"code": code, "message": message, "hint": hint}}), err=True)
        return
    note(f"error: {message}")
    for line in hint.splitlines():
        note(f"  {line}")


def report_problems(errors: ConfigErrors, *, as_json: bool) -> None:
    """Says everything that is wrong with a settings file."""
    if as_json:
        problems = [asdict(problem) for problem in errors.problems]
        message = f"{len(problems)} problems in the configuration"
        click.echo(
            json.dumps({"error": {"code": "config", "message": message, "problems": problems}}), err=True
        )
    else:
        note(str(errors))


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    at_least: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """Returns rows under upper-case headers, two spaces between columns, no frames.

    Args:
        headers: one word for each column.
        rows: the cells.
        right: headers of the columns with numbers.
        at_least: widths that columns have even where their cells are narrower.
    """
    cells = [[header.upper() for header in headers], *([printable(cell) for cell in row] for row in rows)]
    columns = zip(headers, zip(*cells, strict=True), strict=True)
    widths = [max(at_least.get(header, 0), *map(_width, column)) for header, column in columns]
    pads = [str.rjust if header in right else str.ljust for header in headers]
    return "\n".join(
        "  ".join(
            pad(cell, width - _width(cell) + len(cell))
            for pad, cell, width in zip(pads, row, widths, strict=True)
        ).rstrip()
        for row in cells
    )


def _width(text: str) -> int:
    """Returns how many columns of the screen a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def colored(choice: str) -> bool:
    """Returns whether to colour what goes to stdout: as told, else on a terminal where nobody objects."""
    if choice != "auto":
        return choice == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _json(value: Any) -> str:  # noqa: ANN401 - whatever JSON has no form for
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    raise TypeError(type(value).__name__)
