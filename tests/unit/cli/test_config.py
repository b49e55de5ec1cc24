import json
from pathlib import Path

import pytest

from gpushare.cli.terminal import ExitCode
from gpushare.edge.files import reference_text

from .conftest import Run


@pytest.fixture
def file(home: Path) -> Path:
    """The person's configuration file."""
    return home / ".config/gpushare/config.toml"


def test_check_counts_what_differs(run: Run, file: Path) -> None:
    """A good configuration is told as good, with what it opens as a warning."""
    file.write_text('[server]\nlisten = "0.0.0.0:1"\n[queue]\nslots = 1\n')
    said = run("config", "check")
    assert (said.code, said.out) == (0, f"ok: {file}; settings that differ from the defaults: 1; keys: 0\n")
    assert said.err.startswith("warning: server.listen")
    document = json.loads(run("config", "check", "--json").out)
    assert (document["ok"], len(document["warnings"])) == (True, 1)


def test_check_tells_every_problem(run: Run, file: Path) -> None:
    """A wrong configuration is exit 3, each problem with its line and a caret."""
    file.write_text("[queue]\nmax_wiat = 3\nslots = 0\n")
    said = run("config", "check")
    assert said.code == ExitCode.CONFIG
    assert f"{file}:2:1: queue.max_wiat: no such setting" in said.err
    assert f"{file}:3:1: queue.slots: expected a whole number from 1 to 4096" in said.err
    assert '       | ^^^^^^^^ did you mean "max_wait"?' in said.err


def test_check_looks_at_the_key_file_too(run: Run, home: Path) -> None:
    """A key file that others can read would stop the server, so the check says it."""
    run("key", "add", "erin")
    (home / ".local/state/gpushare/keys.toml").chmod(0o644)
    said = run("config", "check")
    assert said.code == ExitCode.CONFIG
    assert "fix: chmod 600" in said.err


def test_show_tells_where_each_value_came_from(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting is listed with its value and its origin."""
    file.write_text('[queue]\nslots = 2\nmax_wait = "90s"\n')
    monkeypatch.setenv("GPUSHARE_SERVER__NAME", "atlas")
    document = json.loads(run("config", "show", "--json").out)
    rows = {row["setting"]: (row["value"], row["origin"]) for row in document["settings"]}
    assert rows["queue.slots"] == ("2", f"{file}:2")
    assert rows["queue.max_wait"] == ('"90s"', f"{file}:3")
    assert rows["server.name"] == ('"atlas"', "environment GPUSHARE_SERVER__NAME")
    assert rows["log.level"] == ('"info"', "default")
    assert len(run("config", "show").out.splitlines()) == len(rows) + 1


def test_path_prints_the_file_in_use(run: Run, file: Path) -> None:
    """The path is the result; --config names another."""
    assert run("config", "path").out == f"{file}\n"
    assert run("config", "path", "--config", "/x").out == "/x\n"


def test_docs_prints_the_reference(run: Run) -> None:
    """The annotated reference comes as TOML or as the page of the documentation."""
    assert run("config", "docs").out == reference_text()
    assert "| `max_wait` |" in run("config", "docs", "--markdown").out
