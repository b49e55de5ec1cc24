"""The examples for front proxies as files: they are valid, and their limits are those that gpushare needs."""

import re
import subprocess
from pathlib import Path

import pytest

from gpushare.core.config import Config
from gpushare.core.forms import seconds
from tests.proxies.front import EXTRAS, GATEWAY, PROGRAMS, home

LEAST_S = 600
LIMITS = {"nginx.conf": r"^ *(proxy_\w*_timeout) +(\w+);", "Caddyfile": r"^\t*(\w+_timeout|write) +(\w+)$"}
"""For each example, the directives that end an answer or a request on its way, as name and time."""


def test_the_program_accepts_its_example(name: str, folder: Path) -> None:
    """``nginx -t`` and ``caddy validate`` find nothing wrong, and nothing to warn of but what is wanted."""
    program = PROGRAMS[name](folder, GATEWAY, 443, {})
    done = subprocess.run(program.check, capture_output=True, text=True, check=False, env=home(folder))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    warnings = [line for line in said.splitlines() if "warn" in line.lower()]
    assert [line for line in warnings if "redirects are disabled" not in line] == []


@pytest.mark.parametrize("example", LIMITS)
def test_no_limit_is_shorter_than_a_call(example: str) -> None:
    """A call without streaming is silent until its answer is whole; no limit is shorter."""
    config = Config()
    found = re.findall(LIMITS[example], (EXTRAS / example).read_text(), re.MULTILINE)
    assert found
    silence_s = config.queue.max_wait + config.ollama.total_timeout
    assert [name for name, limit in found if seconds(limit) < max(LEAST_S, silence_s)] == []


def test_idle_connections_end_before_the_gateway_ends_them() -> None:
    """Else a call may be sent to a connection that closes, and gets a 502."""
    found = re.search(r"\tkeepalive (\w+)", (EXTRAS / "Caddyfile").read_text())
    assert found
    assert seconds(found[1]) < Config().server.keepalive_timeout


@pytest.mark.parametrize("example", LIMITS)
def test_the_settings_an_example_names_exist(example: str) -> None:
    """Comments name settings of ours by the names these have."""
    text = (EXTRAS / example).read_text()
    for section, name in re.findall(r"\b(server|queue|ollama)\.(\w+)", text):
        assert hasattr(getattr(Config(), section), name), (section, name)
