"""The program of the service: a virtual environment with what is installed here, and nothing else.

Rules: nothing is fetched, so it works without a network and gives the versions that were tried; the whole is
made beside the old one and exchanged in one step.
"""

import compileall
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import gpushare
from gpushare.cli.layout import PROGRAM
from gpushare.cli.terminal import ExitCode, Failure
from gpushare.edge.files import asset

OURS = "gpushare-gateway"
ASSETS = ("config.toml", "static", "systemd", "templates")
STAMP = "gpushare.stamp"
CLOSED = ("/home", "/root", "/run/user")  # the unit's ProtectHome hides them from the service
PYTHONS = ("/usr/bin", "/usr/local/bin")

_BUILD = "import sys, sysconfig; print(sys.implementation.cache_tag, sysconfig.get_config_var('SOABI'))"
_COMMAND = f"""#!{PROGRAM}/bin/python -I
import sys

from gpushare.cli import main

sys.exit(main())
"""


def find_python() -> str:
    """Returns a Python like this one that the service may run.

    Raises:
        Failure: there is none.
    """
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = getattr(sys, "_base_executable", sys.executable)
    for candidate in (own, *(f"{folder}/{name}" for folder in PYTHONS)):
        path = Path(os.path.realpath(candidate))
        if path.exists() and is_open(path) and _is_like_this(path):
            return str(path)
    raise Failure(
        "no-python",
        f"this Python ({own}) is where the service cannot reach it, and there is no other {name}",
        exit_code=ExitCode.FAILED,
        hint=f"sudo apt install {name}, or start over with a Python of the system",
    )


def is_open(path: Path) -> bool:
    """Whether everybody, the service too, may run the program at this path."""
    if any(path.is_relative_to(folder) for folder in CLOSED):
        return False
    return all(part.stat().st_mode & stat.S_IXOTH for part in (path, *path.parents))


def _is_like_this(python: Path) -> bool:
    """Whether a Python can use the compiled packages of this one."""
    own = f"{sys.implementation.cache_tag} {sysconfig.get_config_var('SOABI')}"
    return _ask([str(python), "-I", "-c", _BUILD]).stdout.strip() == own


def stamp(python: str) -> str:
    """Returns what tells one program from another: the Python, every version, and our own files."""
    digest = hashlib.sha256()
    for source, name in sorted(_own_files(), key=lambda pair: pair[1]):
        digest.update(f"{name}\0".encode() + source.read_bytes() + b"\0")
    versions = sorted(f"{each.name} {each.version}" for each in _dependencies())
    return "\n".join([python, *versions, digest.hexdigest(), ""])


def is_current(program: Path, python: str) -> bool:
    """Whether the program is already what ``make_program`` would make."""
    try:
        return (program / STAMP).read_text() == stamp(python)
    except OSError:
        return False


def make_program(program: Path, python: str) -> None:
    """Makes the environment, or puts a new one in place of the old, which is kept beside it until then.

    Raises:
        OSError: it could not be made, or does not run; the old one is as it was.
        Failure: a package is installed in a way that cannot be copied.
    """
    fresh = program.with_name(f"{program.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        _fill(fresh, python)
        _try_out(fresh)
        remove_program(old_of(program))
        if program.exists():
            program.rename(old_of(program))
        fresh.rename(program)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def restore_program(program: Path) -> None:
    """Puts back the environment that ``make_program`` replaced; removes the new one where there was none."""
    remove_program(program)
    if old_of(program).exists():
        old_of(program).rename(program)


def remove_program(program: Path) -> None:
    """Removes an environment, if it is there."""
    if program.exists():
        shutil.rmtree(program)


def old_of(program: Path) -> Path:
    """Returns where the environment is kept that was replaced."""
    return program.with_name(f"{program.name}.old")


def _fill(fresh: Path, python: str) -> None:
    fresh.parent.mkdir(parents=True, exist_ok=True)
    made = _ask([python, "-I", "-m", "venv", "--without-pip", str(fresh)])
    if made.returncode:
        raise OSError(made.returncode, f"no environment could be made: {_last(made)}")
    packages = next(fresh.glob("lib/python*/site-packages"))
    for source, name in _copies():
        target = packages / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    about = packages / f"{OURS.replace('-', '_')}-{gpushare.__version__}.dist-info"
    about.mkdir()  # what we need is in it, for an upgrade that starts from the copy
    (about / "METADATA").write_text(distribution(OURS).read_text("METADATA") or "")
    compileall.compile_dir(packages, quiet=2)
    (fresh / STAMP).write_text(stamp(python))
    command = fresh / "bin" / "gpushare"
    command.write_text(_COMMAND)
    command.chmod(0o755)


def _try_out(fresh: Path) -> None:
    """Raises OSError unless the program in the environment starts."""
    done = _ask([str(fresh / "bin" / "python"), "-I", "-c", "import gpushare.app, gpushare.cli"])
    if done.returncode:
        raise OSError(done.returncode, f"the copy of the program does not start: {_last(done)}")


def _ask(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - words of ours, and no shell
        command, capture_output=True, text=True, check=False
    )


def _last(done: subprocess.CompletedProcess[str]) -> str:
    """Returns the last thing a program said."""
    return ((done.stderr or done.stdout).strip().splitlines() or ["no word why"])[-1]


def _copies() -> Iterator[tuple[Path, str]]:
    """Yields each file the service needs, and where it belongs in site-packages."""
    yield from _own_files()
    for each in _dependencies():
        if each.files is None:
            raise Failure(
                "not-copyable",
                f"{each.name} does not say which files it has",
                exit_code=ExitCode.FAILED,
                hint="install gpushare into an environment of its own, as ./run does, and start over",
            )
        for file in each.files:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                yield Path(str(each.locate_file(file))), str(file)


def _own_files() -> Iterator[tuple[Path, str]]:
    """Yields our own files, wherever they lie here: beside the package in a wheel, above it in a checkout."""
    package = Path(gpushare.__file__).parent
    for path in package.rglob("*"):
        within = path.relative_to(package)
        if path.is_file() and "__pycache__" not in within.parts and within.parts[0] != "_assets":
            yield path, f"gpushare/{within}"
    for name in ASSETS:
        top = asset(name)
        for path in [top] if top.is_file() else top.rglob("*"):
            if path.is_file():
                yield path, f"gpushare/_assets/{path.relative_to(top.parent)}"


def _dependencies() -> list[Distribution]:
    """Returns every package that we need, directly or not, as far as it is installed here."""
    found: dict[str, Distribution] = {}
    wanted = [("fast", line) for line in distribution(OURS).requires or ()]
    while wanted:
        extra, line = wanted.pop()
        name, marker = _requirement(line)
        if ("extra ==" in marker and f"'{extra}'" not in marker.replace('"', "'")) or name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # for another system, or an extra that is not installed
        wanted += [("", each) for each in found[name].requires or ()]
    return [found[name] for name in sorted(found)]


def _requirement(line: str) -> tuple[str, str]:
    """Returns the normalised name and the marker of a requirement."""
    name, _, marker = line.partition(";")
    found = re.match(r"[A-Za-z0-9._-]+", name.strip())
    return re.sub(r"[-_.]+", "-", found[0] if found else "").lower(), marker
