import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpushare.cli.terminal import ExitCode
from gpushare.core.config import Config, Server, parse
from gpushare.edge.files import KeyFile

from .conftest import Run


@pytest.fixture
def file(home: Path) -> Path:
    """Where the configuration belongs; it is not there yet."""
    path = home / ".config/gpushare/config.toml"
    path.unlink()
    path.parent.rmdir()
    return path


def test_init_writes_a_commented_configuration_and_an_admin_key(run: Run, home: Path, file: Path) -> None:
    """The first command leaves a complete setup, says the key once, and what to do next."""
    said = run("init", "--listen", "0.0.0.0:11999")
    config = parse(file.read_text(), source="c", env={})
    assert config == Config(server=Server(listen="0.0.0.0:11999"))
    assert "# address and port." in file.read_text()
    who = (
        KeyFile(home / ".local/state/gpushare")
        .load()
        .authenticate(said.out.strip(), now=datetime.now(UTC), host="h")
    )
    assert (said.code, who.name, who.is_admin) == (0, "admin", True)
    assert "Next: gpushare serve    then open http://127.0.0.1:11999/status" in said.err


def test_init_again_changes_nothing(run: Run, home: Path, file: Path) -> None:
    """A second run keeps file and keys, and says so."""
    run("init", "--name", "erin")
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    said = run("init")
    assert (said.code, said.out) == (0, "")
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    assert run("init", "--listen", "0.0.0.0:1").code == ExitCode.FAILED


@pytest.mark.parametrize("listen", ["11999", '127.0.0.1:1"\nx = "', "a b:1"])
def test_init_writes_no_configuration_that_is_wrong(run: Run, file: Path, listen: str) -> None:
    """An impossible address is refused before anything is written."""
    said = run("init", "--listen", listen)
    assert said.code == ExitCode.CONFIG
    assert not file.exists()


def test_init_takes_the_file_it_is_told(run: Run, home: Path, file: Path) -> None:
    """With --config the configuration goes there, and the next step names it."""
    other = home / "other/c.toml"
    said = run("init", "--config", str(other))
    assert tomllib.loads(other.read_text())["server"]["listen"] == "127.0.0.1:11435"
    assert f"gpushare serve --config {other}" in said.err
    assert not file.exists()


def test_the_system_configuration_keeps_keys_where_the_service_does(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --system an admin's commands and the service use one key file."""
    monkeypatch.delenv("GPUSHARE_CONFIG")
    monkeypatch.setattr("gpushare.cli.init.SYSTEM_CONFIG", home / "etc/config.toml")
    monkeypatch.setattr("gpushare.cli.init.STATE", home / "lib")
    assert run("init", "--system").code == 0
    assert len(KeyFile(home / "lib").load().records) == 1


def test_the_system_configuration_has_a_path_of_its_own(run: Run) -> None:
    """--system and another path contradict each other."""
    assert run("init", "--system", "--config", "/x").code == ExitCode.USAGE
