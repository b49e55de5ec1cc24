import json
import stat
from pathlib import Path

import click
import pytest

from gpushare.cli.client import Server, find_server, request, why
from gpushare.cli.terminal import ExitCode, Failure
from gpushare.core.login import Login
from gpushare.core.problems import ConfigErrors
from gpushare.edge.files import LoginFile

from .conftest import Gateway, Run

KEY, OTHER = "gs_000000_own", "gs_111111_other"


@pytest.fixture
def env(home: Path) -> dict[str, str]:
    """The environment of somebody who is signed in at atlas."""
    env = {"HOME": str(home), "GPUSHARE_CONFIG": str(home / "none.toml")}
    (home / "none.toml").touch()
    LoginFile(env).save(Login(url="http://atlas:11435", key=KEY))
    return env


def test_an_address_is_looked_for_from_near_to_far(env: dict[str, str]) -> None:
    """An option, a variable, the login, the configuration; a server's error names the one that counted."""
    env["GPUSHARE_URL"] = "http://b:1/"
    assert find_server("c:1", None, None, env) == Server(url="http://c:1", key="", source="--url")
    assert find_server(None, None, None, env) == Server(url="http://b:1", key="", source="$GPUSHARE_URL")
    del env["GPUSHARE_URL"]
    kept = find_server(None, None, None, env)
    assert (kept.url, kept.key, kept.source) == (
        "http://atlas:11435",
        KEY,
        "~/.config/gpushare/client.toml",
    )
    LoginFile(env).remove()
    Path(env["GPUSHARE_CONFIG"]).write_text('[server]\nlisten = "127.0.0.1:7"\n')
    found = find_server(None, None, env["GPUSHARE_CONFIG"], env)
    assert found == Server(url="http://127.0.0.1:7", key="", source=env["GPUSHARE_CONFIG"])


def test_a_kept_key_goes_only_to_its_own_server(env: dict[str, str], home: Path) -> None:
    """Somebody who tries another address does not give their key away; one that is told goes anywhere."""
    assert find_server("http://ATLAS:11435/", None, None, env).key == KEY
    assert find_server("https://atlas:11435", None, None, env).key == ""
    assert find_server("http://elsewhere:11435", None, None, env).key == ""
    env["GPUSHARE_KEY"] = OTHER
    assert find_server("http://elsewhere:11435", None, None, env).key == OTHER
    (home / "key").write_text(f"{KEY}\n")
    assert find_server("http://elsewhere:11435", str(home / "key"), None, env).key == KEY


@pytest.mark.parametrize("key", ["hello", "gs_\u2026", "gs_a b", "gs_a\r\nX: y", "gs_" + "x" * 300])
def test_what_is_no_key_is_not_sent(env: dict[str, str], home: Path, key: str) -> None:
    """A wrong file is found out before it is sent, and not repeated."""
    (home / "key").write_text(key)
    with pytest.raises(click.UsageError) as wrong:
        find_server(None, str(home / "key"), None, env)
    assert key[3:] not in str(wrong.value)


def test_a_login_that_others_can_read_is_not_used(env: dict[str, str]) -> None:
    """As for the key file: the remedy is named, and the key is not shown."""
    path = LoginFile(env).path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(ConfigErrors) as wrong:
        find_server(None, None, None, env)
    assert "chmod 600" in str(wrong.value)
    assert KEY not in str(wrong.value)


def test_nobody_there_is_one_sentence_and_two_ways_out(run: Run, nobody: str) -> None:
    """The address tried, where it came from, and what to type."""
    said = run("whoami", "--url", nobody)
    assert (said.code, said.out) == (ExitCode.UNREACHABLE, "")
    assert said.err.splitlines() == [
        f"error: cannot reach gpushare at {nobody} (connection refused)",
        "  is it running?      systemctl status gpushare",
        "  another address?    gpushare login http://HOST:PORT   (now from --url)",
    ]
    error = json.loads(run("whoami", "--url", nobody, "--json").err)["error"]
    assert error["code"] == "unreachable"
    assert error["hint"].startswith("is it running?")


def test_a_server_elsewhere_is_looked_after_over_ssh() -> None:
    """The line can be typed as it stands."""
    server = Server(url="http://nobody.invalid:11435", key="", source="--url")
    with pytest.raises(Failure) as failed:
        request(server, "GET", "/")
    assert "ssh nobody.invalid systemctl status gpushare" in failed.value.hint
    assert "no such host" in failed.value.message


REFUSAL = json.dumps(
    {"error": {"code": "the_code", "message": "So it is.\x1b[2J", "request_id": "r"}}
).encode()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, ExitCode.NOT_ALLOWED),
        (403, ExitCode.NOT_ALLOWED),
        (404, ExitCode.NOT_FOUND),
        (429, ExitCode.TRY_LATER),
        (503, ExitCode.TRY_LATER),
        (500, ExitCode.FAILED),
    ],
)
def test_a_refusal_is_told_in_the_servers_words(run: Run, gateway: Gateway, status: int, code: int) -> None:
    """Each kind has its exit code; a terminal's control characters do not pass."""
    gateway.answer("/gpushare/v1/whoami", (status, REFUSAL))
    said = run("whoami", "--url", gateway.url)
    assert (said.code, said.out) == (code, "")
    assert "error: So it is.?[2J" in said.err


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((401, b"<html>"), ExitCode.NOT_ALLOWED),
        ((503, b"<html>"), ExitCode.TRY_LATER),
        ((404, b"Ollama"), ExitCode.UNREACHABLE),
        ((502, b"<html>"), ExitCode.UNREACHABLE),
        ((200, b"<html>"), ExitCode.UNREACHABLE),
        ((200, b"{}"), ExitCode.UNREACHABLE),
    ],
)
def test_something_else_at_the_address_is_told_apart(
    run: Run, gateway: Gateway, answer: tuple[int, bytes], code: int
) -> None:
    """A proxy that refuses, and a server that is no gateway."""
    gateway.answer("/gpushare/v1/whoami", answer)
    said = run("whoami", "--url", gateway.url)
    assert (said.code, said.out) == (code, "")


def test_failures_of_connections_are_words() -> None:
    """No class name and no number where there is a sentence."""
    assert why(ConnectionRefusedError(111, "Connection refused")) == "connection refused"
    assert why(TimeoutError("timed out")) == "no answer in time"
    assert why(ValueError()) == "ValueError"
