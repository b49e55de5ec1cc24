"""A plan is shown before it is carried out, and taken back where a step of it fails."""

import sys
from pathlib import Path

import pytest

from gpushare.cli.steps import Plan, Step, agree, remove_file, require_root, run
from gpushare.cli.terminal import ExitCode, Failure


class Bench:
    """Steps that note what happens to them."""

    def __init__(self, *, removes: bool = False) -> None:
        self.happened: list[str] = []
        self.plan = Plan("This changes things", removes=removes)

    def add(
        self, text: str, *, needed: bool = True, fails: BaseException | None = None, stuck: bool = False
    ) -> None:
        """Adds a step, which may fail, or fail to be undone."""

        def do() -> None:
            if fails is not None:
                raise fails
            self.happened.append(f"did {text}")

        def undo() -> None:
            if stuck:
                raise OSError(text)
            self.happened.append(f"undid {text}")

        self.plan.steps.append(Step(text=text, needed=needed, do=do, undo=undo))

    def failure(self) -> Failure:
        """Carries the plan out and returns how it failed."""
        with pytest.raises(Failure) as caught:
            self.plan.carry_out()
        return caught.value


def test_only_what_is_needed_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    """In its order; the plan says of the rest that it stays."""
    bench = Bench()
    bench.add("one")
    bench.add("two", needed=False)
    bench.add("three")
    bench.plan.show()
    bench.plan.carry_out()
    assert bench.happened == ["did one", "did three"]
    assert capsys.readouterr().err.splitlines() == [
        "This changes things:",
        "  + one",
        "    two (as it is)",
        "  + three",
    ]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "/opt/x"), KeyboardInterrupt()])
def test_a_step_that_fails_takes_everything_back(error: BaseException) -> None:
    """The newest first, and whatever stopped it."""
    bench = Bench()
    bench.add("one")
    bench.add("two")
    bench.add("three", fails=error)
    bench.add("four")
    failure = bench.failure()
    assert bench.happened == ["did one", "did two", "undid two", "undid one"]
    assert failure.message.startswith("three: ")
    assert isinstance(error, KeyboardInterrupt) or "No space left on device (/opt/x)" in failure.message
    assert failure.hint == "everything before it was taken back"


def test_what_cannot_be_taken_back_is_named() -> None:
    """The others are taken back all the same."""
    bench = Bench()
    bench.add("one")
    bench.add("two", stuck=True)
    bench.add("three", fails=ValueError("no"))
    failure = bench.failure()
    assert bench.happened == ["did one", "did two", "undid one"]
    assert failure.hint.splitlines() == ["these are left, take them back by hand:", "  two"]


def test_a_last_step_may_fail_alone() -> None:
    """What is in place stays where only the start failed, with what to do about it."""
    bench = Bench()
    bench.add("one")

    def fail() -> None:
        raise OSError(1, "it does not start")

    bench.plan.steps.append(Step(text="start", needed=True, do=fail, keep=True, hint="look there"))
    failure = bench.failure()
    assert bench.happened == ["did one"]
    assert (failure.message, failure.hint) == ("start: it does not start", "look there")


def test_a_removal_that_fails_says_what_is_still_there(capsys: pytest.CaptureFixture[str]) -> None:
    """What is gone is gone: nothing is put back."""
    bench = Bench(removes=True)
    bench.add("one")
    bench.add("two", fails=OSError(16, "Device or resource busy"))
    bench.add("three")
    bench.add("four", needed=False)
    bench.plan.show()
    assert capsys.readouterr().err.splitlines()[1:] == [
        "  - one",
        "  - two",
        "  - three",
        "    four (not there)",
    ]
    failure = bench.failure()
    assert bench.happened == ["did one"]
    assert failure.hint.splitlines() == ["still there:", "  two", "  three"]


def test_nothing_happens_without_a_yes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A look is no yes; where nobody can be asked, that is said; where nothing is to do, nobody is."""
    bench = Bench()
    bench.add("one")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert agree(bench.plan, yes=True, dry_run=False)
    assert not agree(bench.plan, yes=True, dry_run=True)
    with pytest.raises(Failure) as caught:
        agree(bench.plan, yes=False, dry_run=False)
    assert (caught.value.exit_code, "--yes" in caught.value.hint) == (ExitCode.USAGE, True)
    done = Bench()
    done.add("one", needed=False)
    assert not agree(done.plan, yes=False, dry_run=False)
    assert capsys.readouterr().err.endswith("Nothing to do.\n")


def test_only_root_changes_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree of one's own, and a look at the plan, are for everybody."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    require_root(live=False, dry_run=False)
    require_root(live=True, dry_run=True)
    with pytest.raises(Failure) as caught:
        require_root(live=True, dry_run=False)
    assert caught.value.exit_code is ExitCode.NOT_ALLOWED


def test_a_program_that_fails_is_quoted() -> None:
    """Its last word says more than its exit status."""
    run("true")
    with pytest.raises(OSError, match="sh: no such user"):
        run("sh", "-c", "echo first; echo no such user >&2; exit 6")
    with pytest.raises(OSError, match="exit status 3"):
        run("sh", "-c", "exit 3")


def test_a_folder_of_ours_goes_with_its_last_file(tmp_path: Path) -> None:
    """Others' files and folders stay."""
    ours, system = tmp_path / "gpushare.service.d", tmp_path / "system"
    for folder in (ours, system):
        folder.mkdir()
        (folder / "a.conf").touch()
    (ours / "theirs.conf").touch()
    remove_file(ours / "a.conf")
    assert (ours / "theirs.conf").exists()
    remove_file(ours / "theirs.conf")
    remove_file(system / "a.conf")
    assert (ours.exists(), system.exists()) == (False, True)
