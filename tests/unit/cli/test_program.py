"""The service's program: a copy of what runs here, made beside the old one."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gpushare import __version__
from gpushare.cli import program
from gpushare.cli.terminal import Failure


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program, made once for all tests here by a caller whose files are private."""
    target = tmp_path_factory.mktemp("tree") / "opt" / "gpushare" / "venv"
    before = os.umask(0o022)
    program.make_program(target, sys.executable)
    os.umask(before)
    return target


def ran(target: Path, *words: str) -> str:
    """Returns what the program in an environment prints, run away from the checkout."""
    command = [str(target / "bin" / "python"), "-I", str(target / "bin" / "gpushare"), *words]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=True).stdout


def test_the_copy_runs_and_finds_its_files(made: Path) -> None:
    """It is whole: another folder, another Python path, the shipped files with it."""
    assert ran(made, "--version").strip() == f"gpushare {__version__}"
    assert "[server]" in ran(made, "config", "docs")
    first = (made / "bin" / "gpushare").read_text().splitlines()[0]
    assert first == "#!/opt/gpushare/venv/bin/python -I"


def test_only_what_the_service_needs_is_in_it(made: Path) -> None:
    """No tool of ours, and no path back into the checkout."""
    (packages,) = made.glob("lib/python*/site-packages")
    names = {path.name.lower() for path in packages.iterdir()}
    assert {"gpushare", "aiohttp", "uvloop", "click"} <= names
    assert not {"pytest", "hypothesis", "mypy", "pip"} & names
    assert [path for path in packages.iterdir() if path.suffix == ".pth"] == []
    assert (packages / "gpushare" / "_assets" / "systemd" / "gpushare.socket").exists()
    assert list((packages / "gpushare" / "__pycache__").glob("*.pyc"))


def test_an_upgrade_may_start_from_the_copy(made: Path) -> None:
    """``sudo gpushare install`` runs it: it knows what the service needs, and makes the same."""
    stamp = f"from gpushare.cli.program import stamp; print(stamp({sys.executable!r}), end='')"
    command = [str(made / "bin" / "python"), "-I", "-c", stamp]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout == program.stamp(sys.executable) == (made / program.STAMP).read_text()


def test_everybody_may_read_it_and_only_its_owner_change_it(made: Path) -> None:
    """The service runs as another user."""
    for path in made.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            assert (mode & 0o044, mode & 0o022) == (0o044, 0), path


def test_it_is_made_again_only_when_something_has_changed(made: Path) -> None:
    """Another Python, another version or another line of ours is another program."""
    assert program.is_current(made, sys.executable)
    assert not program.is_current(made, "/usr/bin/python3.99")
    assert not program.is_current(made.parent, sys.executable)


def test_a_copy_that_does_not_start_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old program stays in place, and nothing half made beside it."""
    target = tmp_path / "venv"
    target.mkdir()
    (target / "old").touch()
    monkeypatch.setattr(program, "_copies", lambda: iter(()))
    with pytest.raises(OSError, match="does not start: ModuleNotFoundError"):
        program.make_program(target, sys.executable)
    assert [path.name for path in tmp_path.iterdir()] == ["venv"]
    assert (target / "old").exists()


def test_a_new_program_can_be_taken_back(tmp_path: Path) -> None:
    """The one before it is kept until the rest has gone well."""
    target = tmp_path / "venv"
    for folder, name in ((target, "new"), (program.old_of(target), "old")):
        folder.mkdir()
        (folder / name).touch()
    program.restore_program(target)
    assert [path.name for path in target.iterdir()] == ["old"]
    program.restore_program(target)
    assert not target.exists()


def test_a_python_in_a_home_is_not_for_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit hides homes; a folder that is closed to others is as bad."""
    assert not program.is_open(Path("/root/.local/bin/python3"))
    assert not program.is_open(Path("/home/erin/python3"))
    assert program.is_open(Path("/usr/bin/env").resolve())
    hidden = tmp_path / "python3"
    hidden.touch(mode=0o755)
    tmp_path.chmod(0o700)
    assert not program.is_open(hidden)
    monkeypatch.setattr(sys, "_base_executable", str(hidden))
    monkeypatch.setattr(program, "PYTHONS", (str(tmp_path),))
    with pytest.raises(Failure, match="where the service cannot reach it") as caught:
        program.find_python()
    assert "apt install" in caught.value.hint


def test_a_python_of_the_system_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that everybody may run and that has the same version and build is taken."""
    monkeypatch.setattr(program, "is_open", lambda path: path != Path("/bin/false").resolve())
    monkeypatch.setattr(sys, "_base_executable", "/bin/false")
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (tmp_path / name).symlink_to(sys.executable)
    monkeypatch.setattr(program, "PYTHONS", (str(tmp_path),))
    assert program.find_python() == os.path.realpath(sys.executable)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/bin/true")
    with pytest.raises(Failure):
        program.find_python()
