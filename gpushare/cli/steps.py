"""A plan of steps: shown before anything happens, carried out, and taken back where one of them fails."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import click

from gpushare.cli.terminal import ExitCode, Failure, note


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change.

    Attributes:
        text: what there is afterwards, as the plan shows it.
        needed: whether it is not so already.
        do: makes it so, whole or not at all.
        undo: takes it back; None where nothing needs to be.
        keep: whether everything before it stays when it fails; ``hint`` then says what to do.
    """

    text: str
    needed: bool
    do: Callable[[], None]
    undo: Callable[[], None] | None = None
    keep: bool = False
    hint: str = ""


@dataclass(slots=True)
class Plan:
    """Steps in their order; ``aim`` is what they are for, ``removes`` tells that they take things away."""

    aim: str
    removes: bool = False
    steps: list[Step] = field(default_factory=list)

    def show(self) -> None:
        """Says what is going to happen, and what stays as it is."""
        note(f"{self.aim}:")
        sign, not_needed = ("-", "not there") if self.removes else ("+", "as it is")
        for step in self.steps:
            note(f"  {sign} {step.text}" if step.needed else f"    {step.text} ({not_needed})")

    def carry_out(self) -> None:
        """Does what is needed.

        Raises:
            Failure: a step failed; those before it were taken back, and what could not be is named.
        """
        todo = [step for step in self.steps if step.needed]
        for number, step in enumerate(todo):
            try:
                step.do()
            except (Exception, KeyboardInterrupt) as error:
                raise Failure(
                    "step-failed",
                    f"{step.text}: {_reason(error)}",
                    exit_code=ExitCode.FAILED,
                    hint=self._what_is_left(todo, number),
                ) from error

    def _what_is_left(self, todo: Sequence[Step], failed: int) -> str:
        """Takes back what was done before a step failed, if that makes sense, and says how things are now."""
        if todo[failed].keep:
            return todo[failed].hint
        if self.removes:
            return _listed("still there:", [step.text for step in todo[failed:]])
        left = _take_back(todo[:failed])
        if left:
            return _listed("these are left, take them back by hand:", left)
        return "everything before it was taken back"


def agree(plan: Plan, *, yes: bool, dry_run: bool) -> bool:
    """Shows the plan and returns whether to carry it out.

    Raises:
        Failure: nobody can be asked.
    """
    plan.show()
    if dry_run:
        note("Nothing was changed.")
        return False
    if not any(step.needed for step in plan.steps):
        note("Nothing to do.")
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        raise Failure(
            "not-agreed",
            "nobody is there to agree to this",
            exit_code=ExitCode.USAGE,
            hint="if it is right, say --yes; to look only, say --dry-run",
        )
    return click.confirm("Go on?", err=True)


def require_root(*, live: bool, dry_run: bool) -> None:
    """Raises Failure unless this process may change the machine, where that is wanted."""
    if live and not dry_run and os.geteuid() != 0:
        raise Failure(
            "not-root",
            "only root can do this",
            exit_code=ExitCode.NOT_ALLOWED,
            hint="with sudo in front; --dry-run shows the plan without it",
        )


def run(*command: str) -> None:
    """Runs a program of the system.

    Raises:
        OSError: it is not there, or it failed; the message is its last word.
    """
    done = subprocess.run(  # noqa: S603 - words of ours, and no shell
        command, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise OSError(done.returncode, f"{command[0]}: {said[-1]}")


def remove_file(path: Path) -> None:
    """Removes a file, and a folder of ours that it leaves empty."""
    path.unlink()
    if path.parent.name.startswith("gpushare"):
        with suppress(OSError):  # somebody else's files are in it
            path.parent.rmdir()


def _take_back(done: Sequence[Step]) -> list[str]:
    """Undoes steps, the newest first, and returns the texts of those that could not be."""
    left = []
    for step in reversed(done):
        try:
            if step.undo is not None:
                step.undo()
        except Exception:  # noqa: BLE001 - the others must still be tried
            left.append(step.text)
    return left


def _listed(head: str, texts: Sequence[str]) -> str:
    return "\n".join([head, *(f"  {text}" for text in texts)])


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror or error}{where}"
    return str(error) or type(error).__name__
