import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

import gpushare
from gpushare.app.reload import Read
from gpushare.cli.terminal import ExitCode
from gpushare.core.config import Config
from gpushare.edge.files import KeyFile

from .conftest import Run


class FakeApp(ModuleType):
    """Stands in for ``gpushare.app``: notes how it was called."""

    def __init__(self, error: OSError | None = None) -> None:
        super().__init__("gpushare.app")
        self.calls: list[tuple[Config, KeyFile, Read]] = []
        self.error = error

    def serve(self, config: Config, key_file: KeyFile, read: Read) -> None:
        self.calls.append((config, key_file, read))
        if self.error:
            raise self.error


def install(monkeypatch: pytest.MonkeyPatch, app: FakeApp) -> FakeApp:
    """Puts the stand-in where the command imports the server from."""
    monkeypatch.setitem(sys.modules, "gpushare.app", app)
    monkeypatch.setattr(gpushare, "app", app, raising=False)
    return app


def test_serve_hands_over_configuration_and_keys(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server gets the effective configuration, and warnings and a missing key are told before."""
    app = install(monkeypatch, FakeApp())
    said = run("serve", "--listen", "0.0.0.0:1")
    ((config, key_file, _),) = app.calls
    assert (said.code, config.server.listen) == (0, "0.0.0.0:1")
    assert key_file.path.name == "keys.toml"
    assert "warning: server.listen is 0.0.0.0:1" in said.err
    assert "Nobody has a key yet" in said.err


def test_serve_refuses_what_is_wrong(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong configuration or key file starts nothing."""
    app = install(monkeypatch, FakeApp())
    assert run("serve", "--listen", "here").code == ExitCode.CONFIG
    assert app.calls == []


def test_a_taken_address_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address in use is exit 1 with the address and a way out."""
    install(monkeypatch, FakeApp(OSError(98, "Address already in use")))
    said = run("serve")
    assert said.code == ExitCode.FAILED
    assert "cannot listen on 127.0.0.1:11435 (Address already in use)" in said.err


def test_the_service_manager_is_told_why(run: Run, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """``systemctl status`` shows why it does not start, also while it waits for the next try."""
    install(monkeypatch, FakeApp(OSError(98, "Address already in use")))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(home / "notify"))
        ear.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(home / "notify"))
        run("serve")
        run("serve", "--listen", "here")
        taken, wrong = ear.recv(4096).decode(), ear.recv(4096).decode()
    assert taken == "STATUS=It does not start: cannot listen on 127.0.0.1:11435 (Address already in use)"
    assert wrong.startswith("STATUS=It does not start: option --listen: expected an address")
