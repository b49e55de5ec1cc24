"""``gpushare doctor`` on a machine without Ollama."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from gpushare.cli.terminal import ExitCode
from gpushare.core.doctor import Report

from .conftest import Run


@pytest.fixture
def file(home: Path, nobody: str) -> Path:
    """The person's configuration: an Ollama that is not there, and no GPU."""
    path = home / ".config/gpushare/config.toml"
    path.write_text(
        f'[ollama]\nurl = "{nobody}"\n[gpu]\nbackend = "none"\n[server]\nlisten = "127.0.0.1:9"\n'
    )
    return path


def test_it_says_what_is_wrong_and_what_to_do(run: Run, file: Path, nobody: str) -> None:
    """Level, subject and sentence in columns, the remedy below, the counts last; problems are exit 7."""
    run("key", "add", "erin", "--role", "admin")
    said = run("doctor")
    where = nobody.removeprefix("http://")
    assert said.out.splitlines()[:3] == [
        f"ok    config      {file}, 3 settings differ from the defaults",
        f"fail  ollama      does not answer at {where} (connection refused)",
        "                  fix: is it running? systemctl status ollama; at another address? set ollama.url",
    ]
    assert "ok    keys        1 person, 1 of them admin" in said.out
    assert re.fullmatch(r"(\d+ warnings?, )?\d+ problems?", said.out.splitlines()[-1])
    assert said.code == ExitCode.PROBLEMS


def test_json_has_the_same(run: Run, file: Path) -> None:
    """Every finding, and the counts."""
    said = run("doctor", "--json")
    found = msgspec.json.decode(said.out, type=Report)
    assert found.problems == sum(finding.level == "fail" for finding in found.findings) > 0
    assert found.warnings == sum(finding.level == "warn" for finding in found.findings)
    assert json.loads(said.out)["findings"][0] == {
        "level": "ok",
        "subject": "config",
        "text": f"{file}, 3 settings differ from the defaults",
        "fix": "",
    }


def test_a_configuration_with_mistakes_is_all_there_is_to_say(run: Run, file: Path) -> None:
    """Each mistake with its place; what else there is depends on the settings."""
    file.write_text('[queue]\nslots = "two"\nmax_wiat = "4m"\n')
    said = run("doctor")
    lines = [line for line in said.out.splitlines() if not line.startswith(" ")]
    expected = 'expected a whole number from 1 to 4096, got "two"'
    assert lines[0] == f"fail  config      {file}:2:1: queue.slots: {expected}"
    assert "max_wiat" in lines[1]
    assert (lines[2], said.code) == ("2 problems", ExitCode.PROBLEMS)


def test_fix_closes_files_to_others(run: Run, home: Path, file: Path) -> None:
    """It says what it did, and what is found then is without it."""
    run("key", "add", "erin")
    keys = home / ".local/state/gpushare/keys.toml"
    keys.chmod(0o644)
    keys.parent.chmod(0o775)
    assert file.exists()
    before = run("doctor").out
    assert f"fail  keys        {keys}: others may read or write it" in before
    assert f"fix: chmod 600 {keys}" in before
    said = run("doctor", "--fix")
    assert said.err == f"done: chmod 755 {keys.parent}\ndone: chmod 600 {keys}\n"
    assert "others may read or write it" not in said.out
    assert (keys.stat().st_mode & 0o777, keys.parent.stat().st_mode & 0o777) == (0o600, 0o755)
    assert run("doctor", "--fix").err == ""


def test_fix_follows_no_link(run: Run, home: Path, file: Path) -> None:
    """What somebody has put in the place of a file keeps its mode."""
    run("key", "add", "erin")
    keys = home / ".local/state/gpushare/keys.toml"
    other = home / "other"
    other.touch(0o644)
    other.chmod(0o644)
    keys.unlink()
    keys.symlink_to(other)
    assert file.exists()
    said = run("doctor", "--fix")
    assert (said.err, other.stat().st_mode & 0o777) == ("", 0o644)
    assert "fail  keys" in said.out


def test_a_public_address_needs_a_key(run: Run, file: Path, nobody: str, tmp_path: Path) -> None:
    """Without one that is told; a key file that is none is wrong usage."""
    file.write_text(file.read_text() + f'public_url = "{nobody}"\n')
    assert f"warn  proxy       {nobody} was not tried: that needs a key" in run("doctor").out
    (tmp_path / "key").write_text("gs_something\n")
    said = run("doctor", "--key-file", str(tmp_path / "key"))
    assert f"warn  proxy       {nobody} does not lead to gpushare (connection refused)" in said.out
    assert run("doctor", "--key-file", "/no/such/file").code == ExitCode.USAGE


def test_levels_have_colours_where_they_are_wanted(run: Run, file: Path) -> None:
    """And none in a pipe."""
    assert file.exists()
    assert "\x1b[31mfail\x1b[0m  ollama" in run("doctor", "--color", "always").out
    assert "\x1b" not in run("doctor").out
