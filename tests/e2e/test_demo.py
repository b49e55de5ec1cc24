"""``gpushare demo`` as a person runs it."""

import asyncio
import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gpushare import app
from gpushare.cli import demo as command
from gpushare.core.config import Config
from gpushare.edge import logs
from gpushare.edge.files import KeyFile
from gpushare.sim import SimOllama
from tests.demo import COMMAND, Demo, running_demo
from tests.harness import Gate, every_log_line, until


@pytest.fixture
def folder() -> Iterator[Path]:
    """The demo's temporary folder is made in here."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def demo(folder: Path) -> Iterator[Demo]:
    """A demo with six people on a free port."""
    with running_demo(folder) as demo:
        yield demo


def test_what_is_printed_works(demo: Demo) -> None:
    """The page answers, and the curl line's call streams an answer of the labelled simulator."""
    with urllib.request.urlopen(f"{demo.url}/status") as page:
        assert page.status == 200
        assert "Demo: invented people, no GPU" in page.read().decode()
    body = json.loads(demo.find(r"-d '(.+)'"))
    body["options"] = {"num_predict": 4}
    request = urllib.request.Request(
        demo.find(r"curl (\S+)"),
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {demo.key}"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        lines = [json.loads(line) for line in answer]
    assert lines[-1]["done"]
    assert "".join(line["message"]["content"] for line in lines).startswith("This is the simulated")
    assert "a simulated Ollama: no model, no GPU" in demo.text


def test_the_page_lives(demo: Demo) -> None:
    """Within a short while people run and wait."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{demo.url}/gpushare/v1/status") as answer:
            status = json.load(answer)
        if status["running"] and status["waiting"]:
            return
        time.sleep(0.05)
    pytest.fail("nobody came")


def test_it_stops_cleanly(demo: Demo, folder: Path) -> None:
    """Ctrl-C ends it with 0, a farewell, no complaint on stderr and no file left."""
    demo.process.send_signal(signal.SIGINT)
    out, errors = demo.process.communicate(timeout=60)
    assert demo.process.returncode == 0
    assert out.strip() == "The demo has ended and left nothing behind."
    assert "Traceback" not in errors
    assert not list(folder.iterdir())


def test_a_taken_port_is_said_in_a_sentence(demo: Demo) -> None:
    """The second demo on the port names it and the way out."""
    port = demo.url.rpartition(":")[2]
    second = subprocess.run(
        [*COMMAND, "--port", port], capture_output=True, text=True, check=False, timeout=60
    )
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr
    assert "gpushare demo --port 0" in second.stderr


async def test_its_people_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is ended amid their calls, its gateway comes to rest as any other does."""
    run, gates = app.running, []

    @asynccontextmanager
    async def watched(config: Config, key_file: KeyFile, **options: Any) -> AsyncIterator[app.Running]:
        with every_log_line() as lines:
            async with run(config, key_file, **options) as server:
                gates.append(Gate(sim=SimOllama(), running=server, key_file=key_file, logs=lines))
                yield server
                await gates[0].rest()

    monkeypatch.setattr(app, "running", watched)
    monkeypatch.setattr(logs, "configure", lambda _: None)  # every line is looked at
    async with asyncio.TaskGroup() as tasks:
        playing = tasks.create_task(command._play(6, 0, real=None))  # noqa: SLF001 - the command but for its loop
        await until(lambda: gates and gates[0].parts.stats.requests.total() and gates[0].parts.gateway.live)
        os.kill(os.getpid(), signal.SIGINT)
        await playing
    assert [line for line in gates[0].logs if line["event"] == "request.done"]
