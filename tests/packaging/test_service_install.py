"""Whichever way it is installed, ``gpushare install`` makes a program that stands on its own."""

import json
import os
import signal
import subprocess
import tomllib
import urllib.request
from pathlib import Path

import pytest

from gpushare import __version__
from tests.packaging.conftest import ROOT, Environment, execute
from tests.packaging.test_install import await_answer, fetch
from tests.ports import free_port


def test_the_service_is_a_copy_of_what_is_installed(installed: Environment, tmp_path: Path) -> None:
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
    version = subprocess.run([*command, "--version"], cwd="/", capture_output=True, text=True, check=True)
    assert version.stdout.strip() == f"gpushare {__version__}"
    assert tomllib.loads((tree / "etc/gpushare/config.toml").read_text())["server"]["listen"] == address
    places = {str(ROOT), str(installed.path)}
    for path in program.rglob("*.py"):
        assert not any(place in path.read_text(errors="replace") for place in places), path
    env = {"HOME": str(tmp_path), "GPUSHARE_STATE__DIR": str(tree / "var/lib/gpushare")}
    server = subprocess.Popen(
        [*command, "serve", "--config", str(tree / "etc/gpushare/config.toml")],
        cwd="/",
        env={**env, "PATH": os.environ["PATH"]},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        await_answer(server, f"http://{address}/healthz")
        asked = urllib.request.Request(
            f"http://{address}/gpushare/v1/whoami", headers={"Authorization": f"Bearer {key}"}
        )
        with urllib.request.urlopen(asked, timeout=10) as answer:
            assert json.load(answer)["role"] == "admin"
        assert "stylesheet" in fetch(f"http://{address}/status")[1]
    finally:
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=30)
    assert server.returncode == 0, log
