"""What the README tells people to type works as it stands there."""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpushare.cli.main import gpushare
from tests.packaging.conftest import ROOT

README = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
# The script's own words, which the command does not know.
SET_UP = {"test", "check", "lock"}


def commands(block: str) -> str:
    """Returns what a console block shows after its prompts, as a script; the rest of the block is output."""
    lines = [line[2:] for line in block.splitlines() if line.startswith(("$ ", "> "))]
    return "\n".join(lines)


CONSOLE = [commands(block) for kind, block in BLOCKS if kind == "console"]
PLAIN = [block for kind, block in BLOCKS if not kind]


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


def test_both_kinds_of_block_were_found() -> None:
    """The README shows what to type; were its form to change, the tests above would silently test nothing."""
    assert any(CONSOLE)
    assert any("./run demo" in block for block in PLAIN)


def test_every_relative_link_leads_somewhere() -> None:
    """A file that the README links or names in backquotes with its path is there."""
    linked = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    named = re.findall(r"`((?:docs|gpushare|tests|requirements)/[\w./-]+)`", README)
    assert [path for path in [*linked, *named] if not Path(ROOT, path).exists()] == []
