"""Whichever way it is installed, ``gpushare install`` makes a program that stands on its own."""

import json
import tomllib
from pathlib import Path

import pytest

from gpushare import __version__
from tests.packaging.conftest import ROOT, Environment, execute
from tests.packaging.test_install import fetch, serving
from tests.ports import free_port


async def test_the_service_is_a_copy_of_what_is_installed(installed: Environment, tmp_path: Path) -> None:
    """It holds its packages and files, nothing of where they came from, and serves with the key it made."""
    tree = tmp_path / "tree"
    address = f"127.0.0.1:{free_port()}"
    words = ["install", "--root", str(tree), "--yes", "--listen", address]
    made = execute([installed.program("gpushare"), *words], cwd=tmp_path)
    if "where the service cannot reach it" in made.stderr:
        pytest.skip(f"no Python for a service here: {made.stderr.strip().splitlines()[-1].strip()}")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    program = tree / "opt" / "gpushare" / "venv"
    command = [str(program / "bin" / "python"), "-I", str(program / "bin" / "gpushare")]
    version = execute([*command, "--version"], cwd=Path("/"))
    assert version.stdout.strip() == f"gpushare {__version__}"
    assert tomllib.loads((tree / "etc/gpushare/config.toml").read_text())["server"]["listen"] == address
    places = {str(ROOT), str(installed.path)}
    for path in program.rglob("*.py"):
        assert not any(place in path.read_text(errors="replace") for place in places), path
    serve = (*command, "serve", "--config", str(tree / "etc/gpushare/config.toml"))
    state = tree / "var/lib/gpushare"
    async with serving(state, *serve, HOME=str(tmp_path), GPUSHARE_STATE__DIR=str(state)) as server:
        assert json.loads(fetch(f"{server.url}/gpushare/v1/whoami", key=key)[1])["role"] == "admin"
        assert "stylesheet" in fetch(f"{server.url}/status")[1]
