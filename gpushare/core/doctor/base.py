"""What a check says: a level, what it is about, a sentence, and the remedy."""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from gpushare.core.problems import Problem


class Level(StrEnum):
    """How bad it is: a warning works and costs something, a failure does not work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(Struct, frozen=True, kw_only=True):
    """What one check found; ``fix`` is what to do, empty where all is well."""

    level: Level
    subject: str
    text: str
    fix: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """``gpushare.doctor/1``: every finding, and how many of them are no good."""

    schema: str = "gpushare.doctor/1"
    findings: tuple[Finding, ...]
    warnings: int
    problems: int


def ok(subject: str, text: str) -> Finding:
    """Returns that all is well."""
    return Finding(level=Level.OK, subject=subject, text=text)


def warn(subject: str, text: str, fix: str) -> Finding:
    """Returns that something works and costs something."""
    return Finding(level=Level.WARN, subject=subject, text=text, fix=fix)


def fail(subject: str, text: str, fix: str) -> Finding:
    """Returns that something does not work."""
    return Finding(level=Level.FAIL, subject=subject, text=text, fix=fix)


def failed(subject: str, problem: Problem, otherwise: str) -> Finding:
    """Returns a problem of a file with rules as what does not work; ``otherwise`` where it has no remedy."""
    return fail(subject, problem.briefly(), problem.hint.removeprefix("fix: ") or otherwise)


def report(findings: Iterable[Finding]) -> Report:
    """Returns the findings with their counts."""
    found = tuple(findings)
    levels = [finding.level for finding in found]
    return Report(findings=found, warnings=levels.count(Level.WARN), problems=levels.count(Level.FAIL))


def summary(counted: Report) -> str:
    """Returns the last line: ``2 warnings, 1 problem``."""
    named = ((counted.warnings, "warning"), (counted.problems, "problem"))
    parts = [f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in named if count]
    return ", ".join(parts) or "all is well"


def size(count: int) -> str:
    """Returns bytes as disks are sold: ``14 MB``, ``1.5 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
