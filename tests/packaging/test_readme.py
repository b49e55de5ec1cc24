"""What the README and the guides tell people to type works as it stands there."""

import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gpushare.cli.main import gpushare
from gpushare.core.config import parse
from tests.packaging.conftest import ROOT

README = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""
GUIDES = [ROOT / "docs" / f"{name}.md" for name in ("deploy", "operate", "troubleshoot")]
TEXT = README + "".join(page.read_text() for page in GUIDES if page.exists())
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
# The script's own words, which the command does not know.
SET_UP = {"test", "check", "lock"}


def commands(block: str) -> str:
    """Returns what a console block shows after its prompts, as a script; the rest of the block is output."""
    lines = [line[2:] for line in block.splitlines() if line.startswith(("$ ", "> "))]
    return "\n".join(lines)


CONSOLE = [commands(block) for kind, block in BLOCKS if kind == "console"]
PLAIN = [block for kind, block in BLOCKS if not kind]
NOT_RUN = [block for kind, block in BLOCKS if kind == "text"]
RUN = {"console", "sh", "toml", "", "text"}


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Somebody who has just cloned the repository; the files they make stay in a folder of the test's."""
    hidden = ("GPUSHARE_", "PYTHON", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return {**kept, "HOME": str(tmp_path_factory.mktemp("home"))}


@pytest.fixture(scope="module")
def demo(newcomer: dict[str, str]) -> Iterator[dict[str, str]]:
    """What ``./run demo`` prints: the address and the key to try, under the names the README gives them."""
    command = [str(ROOT / "run"), "demo", "--port", "0"]
    unbuffered = {**newcomer, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=unbuffered, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            url = key = ""
            while not (url and key):
                line = process.stdout.readline()
                assert line, "the demo ended before it printed its address and keys"
                url = url or "".join(re.findall(r"http://127\.0\.0\.1:\d+", line)[:1])
                key = key or "".join(re.findall(r"gs_\w+", line)[:1])
            yield {"GPUSHARE_URL": url, "GPUSHARE_KEY": key}
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
    assert process.returncode in {0, 130}


@pytest.mark.needs("curl")
@pytest.mark.parametrize("script", CONSOLE)
def test_a_console_block_runs_as_written(script: str, newcomer: dict[str, str], demo: dict[str, str]) -> None:
    """Every command of a console block succeeds, with the demo's address and key in the environment."""
    done = subprocess.run(
        ["sh", "-eu"],
        input=script,
        cwd=ROOT,
        env={**newcomer, **demo},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"error"' not in done.stdout


@pytest.mark.parametrize("block", PLAIN)
def test_a_plain_block_names_commands_that_exist(block: str) -> None:
    """A block that sets up a machine or runs a server is not run here, but each of its commands is known."""
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["./run"] and words[1] not in SET_UP:
            assert CliRunner().invoke(gpushare, [*words[1:], "--help"]).exit_code == 0, line


@pytest.mark.parametrize("block", NOT_RUN)
def test_what_is_not_run_names_commands_and_options_that_exist(block: str) -> None:
    """What would change a machine is for people to read first; a command of ours in it is one."""
    for words in re.findall(r"(?:\./run|(?<!-u )\bgpushare)((?: [a-z][\w-]*| --[a-z-]+)+)", block):
        command: click.Command = gpushare
        context = click.Context(gpushare)
        for word in words.split():
            if word.startswith("--"):
                assert word in {name for each in command.params for name in each.opts}, words
            elif isinstance(command, click.Group):
                found = command.get_command(context, word)
                assert found is not None, words
                command = found


@pytest.mark.parametrize("block", [block for kind, block in BLOCKS if kind == "toml"])
def test_settings_are_accepted(block: str) -> None:
    """An example of the settings is one."""
    parse(block, source="guide", env={})


def script(name: str, tree: Path) -> str:
    """Returns the shell script of a guide that begins with a comment, for a machine that lies in a tree."""
    (found,) = (block for kind, block in BLOCKS if kind == "sh" and block.startswith(f"# {name}\n"))
    return re.sub(r"/(?=(?:etc|var)/)", f"{tree}/", found)


def shell(text: str, env: dict[str, str]) -> None:
    """Runs a script that must succeed."""
    done = subprocess.run(["sh", "-eu"], input=text, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_copy_is_restored(tmp_path: Path) -> None:
    """A copy, made while the ledger is open, brings keys, settings and rows to another machine."""
    old, new = tmp_path / "old", tmp_path / "new"
    for tree in (old, new):
        for folder in ("etc/gpushare", "var/lib/gpushare"):
            (tree / folder).mkdir(parents=True, mode=0o700)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/systemctl").write_text(f"#!/bin/sh\necho $1 >>{tmp_path}/told\n")
    (tmp_path / "bin/systemctl").chmod(0o755)
    env = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    state = old / "var/lib/gpushare"
    (old / "etc/gpushare/config.toml").write_text("[queue]\nslots = 3\n")
    for name in ("keys.toml", "session_secret"):
        (state / name).write_text(name)
        (state / name).chmod(0o600)
    with closing(sqlite3.connect(state / "ledger.db", isolation_level=None)) as ledger:
        ledger.execute("PRAGMA journal_mode = WAL")
        ledger.execute("CREATE TABLE calls (name)")
        ledger.execute("INSERT INTO calls VALUES ('in the write-ahead log')")
        shell(script("backup", old), env)
        shell(script("backup", old), env)  # a second one takes the place of the first
    shutil.copytree(old / "var/backups", new / "var/backups")
    (new / "var/lib/gpushare/ledger.db-wal").write_text("of another ledger")
    shell(script("restore", new), env)
    restored = new / "var/lib/gpushare"
    assert (tmp_path / "told").read_text() == "stop\nstart\n"
    assert (new / "etc/gpushare/config.toml").read_text() == "[queue]\nslots = 3\n"
    assert sorted(path.name for path in restored.iterdir()) == ["keys.toml", "ledger.db", "session_secret"]
    assert {path.stat().st_mode & 0o777 for path in restored.iterdir()} == {0o600}
    copies = (new / "var/backups/gpushare").iterdir()
    assert {path.stat().st_mode & 0o077 for path in copies} == {0}
    with closing(sqlite3.connect(restored / "ledger.db")) as ledger:
        assert ledger.execute("SELECT * FROM calls").fetchall() == [("in the write-ahead log",)]


def test_every_block_is_of_a_known_kind() -> None:
    """One that nothing looks at would be right by chance."""
    assert {kind for kind, _ in BLOCKS} <= RUN


def test_both_kinds_of_block_were_found() -> None:
    """The README shows what to type; were its form to change, the tests above would silently test nothing."""
    assert any(CONSOLE)
    assert any("./run demo" in block for block in PLAIN)


def test_every_relative_link_leads_somewhere() -> None:
    """A file that the README links or names in backquotes with its path is there."""
    linked = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    named = re.findall(r"`((?:docs|gpushare|tests|requirements)/[\w./-]+)`", README)
    assert [path for path in [*linked, *named] if not Path(ROOT, path).exists()] == []
