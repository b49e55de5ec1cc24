"""A real inference engine that nobody here wrote, with a model of random weights.

The engine is compiled once, for some minutes, into ``.cache/engine``; that is why this suite runs by name
only: ``./run test engine``.  ``docs/engine.md`` says what it shows and what this engine is like.
"""

import faulthandler
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest

from tests.harness import Gate, gateway, nothing_left

__all__ = ["nothing_left"]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".cache" / "engine"
COMPILE_LIMIT_S = 3600
START_LIMIT_S = 60
STOP_LIMIT_S = 10

# Questions about the server go past the limit of one call at a time, or they would wait for an answer to end.
HAPROXY = """
defaults
    mode http
    balance first
    option httpclose
    option abortonclose
    timeout connect 5s
    timeout client 100s
    timeout server 100s
    timeout queue 100s
frontend engine
    bind 127.0.0.1:{front}
    use_backend answers if METH_POST
    default_backend questions
backend answers
    server a 127.0.0.1:{a} maxconn 1
    server b 127.0.0.1:{b} maxconn 1
backend questions
    server a 127.0.0.1:{a}
"""

SETTINGS = """
[queue]
slots = 2
max_waiting_per_person = 2
"""


@pytest.fixture(scope="session")
def engine_python() -> Path:
    """The Python of an environment with the engine in it."""
    python = FOLDER / "bin" / "python"
    wanted = ROOT / "requirements" / "engine.txt"
    stamp = FOLDER / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        faulthandler.cancel_dump_traceback_later()  # compiling takes longer than a test may
        subprocess.run([sys.executable, "-m", "venv", "--clear", FOLDER], check=True)
        install = [str(python), *"-m pip install --quiet --require-hashes -r".split(), str(wanted)]
        subprocess.run(install, check=True, timeout=COMPILE_LIMIT_S)
        stamp.write_text(wanted.read_text())
    return python


@pytest.fixture(scope="session")
def engine_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the engine says of itself."""
    return tmp_path_factory.mktemp("engine") / "log"


@pytest.fixture(scope="session")
def engine(engine_python: Path, engine_log: Path) -> Iterator[str]:
    """The address of two engine processes behind HAProxy, which gives each one answer at a time to compute.

    One process computes one answer at a time, and ends it early when a second call arrives.
    """
    model = engine_log.with_name("tiny.gguf")
    subprocess.run([engine_python, Path(__file__).parent / "tiny_model.py", model], check=True)
    front, *ports = _free_ports(3)
    config = engine_log.with_name("haproxy.cfg")
    config.write_text(HAPROXY.format(front=front, a=ports[0], b=ports[1]))
    options = "--n_ctx 2048 --model_alias tiny --n_threads 1 --n_threads_batch 1".split()
    serve = [str(engine_python), "-m", "llama_cpp.server", "--model", str(model), *options]
    with engine_log.open("wb") as log, ExitStack() as stack:
        for command in (*([*serve, "--port", str(port)] for port in ports), ["haproxy", "-f", str(config)]):
            stack.callback(_stop, _start(command, log))
        for port in (*ports, front):
            _wait_until_up(f"http://127.0.0.1:{port}/v1/models")
        yield f"http://127.0.0.1:{front}"


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


def _start(command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"})


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process; one that waits for an answer to end first is killed."""
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_up(url: str) -> None:
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"nothing answers at {url}")


@pytest.fixture
async def gate(engine: str, tmp_path: Path) -> AsyncIterator[Gate]:
    """A gateway with two slots in front of the engine."""
    async with gateway(tmp_path, settings=SETTINGS, engine=engine) as running:
        yield running
