import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from gpushare.cli.status import render
from gpushare.cli.terminal import ExitCode
from gpushare.core.document import Document

from .conftest import Run

DOCUMENT = {
    "schema": "gpushare.status/1",
    "now": "2026-11-20T14:03:12Z",
    "host": "atlas",
    "version": "0.1.0",
    "state": "busy",
    "notices": [{"code": "x", "level": "warn", "text": "The GPU is hot."}],
    "new_request_starts_in_s": 90.0,
    "ollama": {"up": True, "version": "0.21.0", "since": None},
    "running": [
        {"id": "r1", "who": "bob", "you": False, "model": "m:30b", "started": "2026-11-20T14:02:41Z"}
        | {"swap": False, "tokens": 1204, "tokens_per_s": 41.2},
        {"id": "r4", "who": "somebody", "you": False, "model": "\x1b[2J", "started": "2026-11-20T14:03:12Z"}
        | {"swap": False},
    ],
    "waiting": [
        {"id": "r2", "position": 1, "who": "alice", "you": True, "model": "m:30b"}
        | {"since": "2026-11-20T14:02:58Z", "starts_in_s": 10.0, "swap": False},
        {"id": "r3", "position": 2, "who": "dave", "you": False, "model": "g:27b"}
        | {"since": "2026-11-20T14:03:08Z", "starts_in_s": None, "swap": True},
    ],
    "models": [],
    "gpus": None,
}
BODY = json.dumps(DOCUMENT).encode()


class Gateway(HTTPServer):
    """Stands in for a gateway: answers everything alike and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = (200, BODY)
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        status, body = self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """A gateway on loopback."""
    with Gateway() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_screen_answers_in_a_sentence_then_shows_the_queue() -> None:
    """The headline first, then notices, who runs and who waits; unknown values are empty, names inert."""
    lines = render(msgspec.json.decode(BODY, type=Document)).split("\n")
    assert lines[0] == ("Busy: 2 running, 2 waiting · A new request would start in about 1 min 30 s.   atlas")
    assert lines[1:3] == ["! The GPU is hot.", ""]
    assert lines[3].split() == ["WHO", "MODEL", "RUNNING", "TOKENS", "SPEED"]
    assert lines[4].replace("\u202f", " ").split() == "> bob m:30b 31 s 1 204 41 tok/s".split()
    assert lines[5].split() == "> somebody ?[2J 0 s".split()
    assert lines[8].split() == "1 alice (you) m:30b 14 s about 10 s".split()
    assert lines[9].split() == "2 dave g:27b 4 s no estimate yet loads the model first".split()


def test_nobody_there_is_one_line() -> None:
    """Without requests there is only the headline."""
    quiet = DOCUMENT | {"state": "free", "running": [], "waiting": [], "notices": []}
    text = render(msgspec.json.decode(json.dumps(quiet), type=Document))
    assert text.startswith("Free: a request starts at once")
    assert "\n" not in text


def test_status_asks_the_gateway_of_the_configuration(run: Run, home: Path, gateway: Gateway) -> None:
    """On the machine itself nothing needs to be given."""
    config = home / ".config/gpushare/config.toml"
    config.write_text(f'[server]\nlisten = "127.0.0.1:{gateway.server_port}"\n')
    said = run("status")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("Busy: 2 running")
    assert gateway.asked == [("/gpushare/v1/status", None)]


def test_the_key_comes_from_the_environment_or_a_file(
    run: Run, home: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is never an argument; the file wins over the variable."""
    monkeypatch.setenv("GPUSHARE_URL", gateway.url + "/")
    monkeypatch.setenv("GPUSHARE_KEY", "gs_env")
    run("status")
    (home / "key").write_text("gs_file\n")
    run("status", "--key-file", str(home / "key"))
    assert [sent for _, sent in gateway.asked] == ["Bearer gs_env", "Bearer gs_file"]
    assert run("status", "--key-file", str(home / "none")).code == ExitCode.USAGE


def test_json_is_the_gateways_own_document(run: Run, gateway: Gateway) -> None:
    """With --json the document comes as it is."""
    assert json.loads(run("status", "--url", gateway.url, "--json").out) == DOCUMENT


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((401, b"{}"), ExitCode.NOT_ALLOWED),
        ((403, b"{}"), ExitCode.NOT_ALLOWED),
        ((503, b"{}"), ExitCode.TRY_LATER),
        ((404, b"Ollama"), ExitCode.UNREACHABLE),
        ((200, b"<html>"), ExitCode.UNREACHABLE),
        ((200, b"{}"), ExitCode.UNREACHABLE),
    ],
)
@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_other_answers_have_their_exit_codes(
    run: Run, gateway: Gateway, answer: tuple[int, bytes], code: int, as_json: tuple[str, ...]
) -> None:
    """Not allowed, busy, and something that is no gateway are told apart."""
    gateway.answer = answer
    said = run("status", "--url", gateway.url, *as_json)
    assert (said.code, said.out) == (code, "")


def test_nobody_listening_is_exit_4(run: Run, gateway: Gateway) -> None:
    """The address tried and the way out are named."""
    gateway.server_close()
    said = run("status", "--url", gateway.url)
    assert said.code == ExitCode.UNREACHABLE
    assert f"cannot reach gpushare at {gateway.url}" in said.err
    assert "--url" in said.err
    assert json.loads(run("status", "--url", gateway.url, "--json").err)["error"]["code"] == "unreachable"
