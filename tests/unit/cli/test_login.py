import io
import json
import stat
from pathlib import Path

import pytest

from gpushare.cli.terminal import ExitCode
from tests.terminal import GPUSHARE, on_terminal

from .conftest import Gateway, Run

KEY = "gs_000000_own"
WHOAMI = {
    "schema": "gpushare.whoami/1",
    "name": "alice",
    "key_id": "000000",
    "role": "person",
    "class": "interactive",
    "weight": 1.0,
    "host": "atlas",
    "version": "0.1.0",
}
REFUSAL = b'{"error":{"code":"key_unknown","message":"This key is not known here.","request_id":"r"}}'


@pytest.fixture
def atlas(gateway: Gateway) -> Gateway:
    """A gateway that knows alice."""
    gateway.answer("/gpushare/v1/whoami", (200, json.dumps(WHOAMI).encode()))
    return gateway


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Somebody who pipes their key in."""
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{KEY}\n"))
    return monkeypatch


@pytest.mark.usefixtures("types")
def test_login_keeps_address_and_key_where_only_their_owner_reads(
    run: Run, home: Path, atlas: Gateway
) -> None:
    """The key comes from stdin, is tried, and is never an argument or a word on the screen."""
    said = run("login", atlas.url + "/")
    assert (said.code, said.out) == (0, "")
    assert f"Signed in as alice at {atlas.url}" in said.err
    assert KEY not in said.err
    kept = home / ".config/gpushare/client.toml"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert atlas.asked == [("GET", "/gpushare/v1/whoami", f"Bearer {KEY}")]
    said = run("whoami")
    assert said.out == f"alice at {atlas.url} · key 000000, role person, class interactive, weight 1\n"
    assert json.loads(run("whoami", "--json").out) == WHOAMI


@pytest.mark.usefixtures("types")
def test_a_key_that_is_refused_is_not_kept(run: Run, home: Path, gateway: Gateway) -> None:
    """What was kept before stays."""
    gateway.answer("/gpushare/v1/whoami", (401, REFUSAL))
    said = run("login", gateway.url)
    assert said.code == ExitCode.NOT_ALLOWED
    assert "This key is not known here." in said.err
    assert not (home / ".config/gpushare/client.toml").exists()


@pytest.mark.parametrize("typed", ["", "hello\n", "gs_\u00e9\n"])
def test_what_is_no_key_is_wrong_usage(
    run: Run, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    """Nothing is asked of the server then."""
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert run("login", gateway.url).code == ExitCode.USAGE
    assert gateway.asked == []


@pytest.mark.usefixtures("types")
def test_a_broken_login_is_replaced(run: Run, home: Path, atlas: Gateway) -> None:
    """The remedy that its error names works."""
    kept = home / ".config/gpushare/client.toml"
    kept.write_text("url = 3\n")
    kept.chmod(0o600)
    said = run("whoami")
    assert said.code == ExitCode.CONFIG
    assert "gpushare login http://HOST:PORT" in said.err
    assert run("login", atlas.url).code == 0


@pytest.mark.usefixtures("types")
def test_logout_forgets(run: Run, home: Path, atlas: Gateway) -> None:
    """A second time there is nothing to forget, which is no error."""
    run("login", atlas.url)
    assert "Removed" in run("logout").err
    assert not (home / ".config/gpushare/client.toml").exists()
    said = run("logout")
    assert (said.code, said.err) == (0, "Nobody was signed in here.\n")


def test_at_a_terminal_the_key_is_asked_for_and_not_shown(home: Path, atlas: Gateway) -> None:
    """Typed keys stay off the screen, and off the history of the shell."""
    with on_terminal([*GPUSHARE, "login", atlas.url], {"HOME": str(home)}) as terminal:
        terminal.until("Your key")
        terminal.press(f"{KEY}\n")
        terminal.until("Signed in as alice")
        assert terminal.ended() == 0
        assert terminal.settings_are_back
        assert KEY not in terminal.raw
