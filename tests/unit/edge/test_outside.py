"""What answers at an address, played by a server of the test's."""

import json
import socket
import ssl
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gpushare.core.doctor.facts import Front
from gpushare.edge import outside
from tests.certificates import Certificate, make_certificate
from tests.ports import free_port, serving


class Answers(ThreadingHTTPServer):
    """Sends the pieces it was given, the first ones before ``go`` is set and the rest behind it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.named = "gpushare"
        self.via = ""
        self.before: list[bytes] = []
        self.behind: list[bytes] = []
        self.pause_s = 0.0
        self.asked: list[tuple[str, str | None]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Answers

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        self.send_response(self.server.status)
        self.end_headers()
        for piece in self.server.before:
            self.wfile.write(piece)
        time.sleep(self.server.pause_s)
        for piece in self.server.behind:
            self.wfile.write(piece)

    def do_HEAD(self) -> None:
        self.do_GET()

    def send_response(self, code: int, message: str | None = None) -> None:
        self.send_response_only(code, message)
        if self.server.named:
            self.send_header("Server", self.server.named)
        if self.server.via:
            self.send_header("Via", self.server.via)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def answers() -> Iterator[Answers]:
    """A server on loopback."""
    with serving(Answers()) as server:
        yield server


@pytest.fixture
def nobody() -> int:
    """A port at which nobody listens."""
    return free_port()


def lines(count: int = 3, of: int = 3) -> list[bytes]:
    """Returns lines of the slow answer."""
    seen = {"schema": "gpushare.probe/1", "peer": "::1", "client": "::1", "forwarded": False, "trusted": True}
    return [
        json.dumps({**seen, "line": number + 1, "of": of, "sent_s": number / 4}).encode() + b"\n"
        for number in range(count)
    ]


def test_who_answers(answers: Answers, nobody: int) -> None:
    """By the name in the answer; nobody, and somebody who says no HTTP, have none."""
    assert outside.server_name("127.0.0.1", answers.server_port, tls=False) == "gpushare"
    answers.named = ""
    assert outside.server_name("127.0.0.1", answers.server_port, tls=False) == ""
    assert outside.server_name("127.0.0.1", nobody, tls=False) is None
    assert outside.server_name("127.0.0.1", answers.server_port, tls=True) is None


def test_an_ollama_is_told_from_this_server(answers: Answers, nobody: int) -> None:
    """Both say that Ollama is running; only one names itself."""
    answers.before = [b"Ollama is running"]
    assert not outside.is_ollama("127.0.0.1", answers.server_port)
    answers.named = ""
    assert outside.is_ollama("127.0.0.1", answers.server_port)
    answers.before = [b"<html>"]
    assert not outside.is_ollama("127.0.0.1", answers.server_port)
    assert not outside.is_ollama("127.0.0.1", nobody)


def probe(answers: Answers) -> Front:
    """Returns what came of asking for the slow answer."""
    return outside.probe(f"http://127.0.0.1:{answers.server_port}", "gs_key")


def test_lines_are_timed_as_they_come(answers: Answers) -> None:
    """From the first one on; the key goes with the question."""
    first, *rest = lines()
    answers.before, answers.behind, answers.pause_s = [first], rest, 0.3
    found = probe(answers)
    assert [line.line for line in found.lines] == [1, 2, 3]
    assert found.arrived_s[0] == 0
    assert found.arrived_s[1] >= 0.2
    assert (found.asked, found.error, found.via) == (True, "", "")
    assert answers.asked == [("/gpushare/v1/probe", "Bearer gs_key")]


@pytest.mark.parametrize(
    ("named", "via", "expected"),
    [("gpushare", "", ""), ("nginx/1.22.1", "", "nginx/1.22.1"), ("gpushare", "1.1 Caddy", "1.1 Caddy")],
)
def test_what_stands_between_names_itself(answers: Answers, named: str, via: str, expected: str) -> None:
    """Some put their name in the place of ours, some beside it."""
    answers.before, answers.named, answers.via = lines(), named, via
    assert probe(answers).via == expected


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, b"{}", "it answers with status 401"),
        (502, b"", "it answers with status 502"),
        (200, b"<html>\n", "what answers there is something else"),
        (200, b'{"some": "json"}\n', "what answers there is something else"),
        (200, b"", "its answer breaks off"),
        (200, b"".join(lines(2)), "its answer breaks off"),
    ],
)
def test_another_answer(answers: Answers, status: int, body: bytes, error: str) -> None:
    """Whatever it is, it is told and no exception."""
    answers.status, answers.before = status, [body]
    assert probe(answers) == Front(asked=True, error=error)


def test_nobody_there(nobody: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is in words."""
    assert outside.probe(f"http://127.0.0.1:{nobody}", "gs_key").error == "connection refused"

    def unknown(*_args: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert outside.probe("http://atlas", "gs_key").error == "no such host"


def test_somebody_who_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up."""
    monkeypatch.setattr(outside, "PROBE_PATIENCE_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = outside.probe(f"http://127.0.0.1:{silent.getsockname()[1]}", "gs_key")
    assert found.error == "no answer in time"


@pytest.fixture
def made(tmp_path: Path) -> Certificate:
    """A certificate that nobody knows."""
    return make_certificate(tmp_path)


@pytest.mark.needs("openssl")
def test_over_tls(answers: Answers, made: Certificate) -> None:
    """A certificate that is not trusted here is named as the reason; who answers is told all the same."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    answers.socket = context.wrap_socket(answers.socket, server_side=True)
    answers.before = lines()
    url = f"https://localhost:{answers.server_port}"
    assert outside.probe(url, "gs_key").error.startswith("its certificate is not trusted here: ")
    assert len(outside.probe(url, "gs_key", made.client()).lines) == 3
    assert outside.server_name("127.0.0.1", answers.server_port, tls=True) == "gpushare"
