"""A command runs in this process, in an empty home, with what it said on stdout and stderr."""

import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from gpushare.cli import main
from tests.ports import free_port, serving


class Ran(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, with nothing of gpushare in the environment."""
    of_ours = [name for name in os.environ if name.startswith("GPUSHARE_")]
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "STATE_DIRECTORY", *of_ours):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    # Named, so that a configuration in /etc of the machine under test is never read.
    config = tmp_path / ".config/gpushare/config.toml"
    monkeypatch.setenv("GPUSHARE_CONFIG", str(config))
    config.parent.mkdir(parents=True)
    config.touch()
    return tmp_path


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``gpushare`` with these arguments."""

    def run_one(*args: str) -> Ran:
        capsys.readouterr()
        code = main(args)
        said = capsys.readouterr()
        return Ran(int(code), said.out, said.err)

    return run_one


class Gateway(ThreadingHTTPServer):
    """Stands in for a gateway: answers each path as told, and keeps what it was asked.

    ``answers`` holds status and body for each path; the first of several is used up, the last stays.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, list[tuple[int, bytes]]] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.sent: list[bytes] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, *answers: tuple[int, bytes]) -> None:
        """Sets what a path answers, in this order."""
        self.answers[path] = list(answers)


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers["Authorization"]))
        left = self.server.answers.get(self.path, [(404, b"no such path")])
        status, body = left.pop(0) if len(left) > 1 else left[0]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def do_DELETE(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.server.sent.append(self.rfile.read(int(self.headers["Content-Length"] or 0)))
        self.do_GET()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """A gateway on loopback that knows no path yet."""
    with serving(Gateway()) as server:
        yield server


@pytest.fixture
def nobody() -> str:
    """An address at which nobody listens."""
    return f"http://127.0.0.1:{free_port()}"
