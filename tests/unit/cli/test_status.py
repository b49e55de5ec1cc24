import json
import time
from pathlib import Path

import click
import msgspec
import pytest

from gpushare.cli.status import render
from gpushare.cli.terminal import ExitCode
from gpushare.core.document import Document

from .conftest import Gateway, Run

DOCUMENT = {
    "schema": "gpushare.status/1",
    "now": "2026-11-20T14:03:12Z",
    "host": "atlas",
    "version": "0.1.0",
    "state": "busy",
    "notices": [{"code": "x", "level": "warn", "text": "The GPU is hot."}],
    "new_request_starts_in_s": 90.0,
    "new_request_starts": "2026-11-20T14:04:42Z",
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


@pytest.fixture
def gateway(gateway: Gateway) -> Gateway:
    """A gateway that answers with the document."""
    gateway.answer("/gpushare/v1/status", (200, BODY))
    return gateway


def screen(**changes: object) -> str:
    """Returns the screen for the document with some changes."""
    document = msgspec.json.decode(json.dumps(DOCUMENT | changes), type=Document)
    return click.unstyle(render(document)).replace("\u202f", " ")


def test_the_screen_answers_in_a_sentence_then_shows_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The headline, notices, who runs and who waits; unknown values are empty, names inert."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert screen() == (
        "Busy: 2 running, 2 waiting · a new request would start in about 1 min 30 s   atlas · 14:03\n"
        "! The GPU is hot.\n"
        "\n"
        "     WHO          MODEL  RUNNING  TOKENS     SPEED\n"
        "  >  bob          m:30b     31 s   1 204  41 tok/s\n"
        "  >  somebody     ?[2J       0 s\n"
        "\n"
        "  #  WHO          MODEL   WAITED  STARTS IN\n"
        "  1  alice (you)  m:30b     14 s  about 10 s\n"
        "  2  dave         g:27b      4 s  no estimate yet  loads the model first"
    )


def test_an_answer_without_tokens_yet_has_no_count() -> None:
    """As on the page: a model that is still loading has not made 0 tokens."""
    running = [row | {"tokens": 0, "tokens_per_s": None} for row in DOCUMENT["running"]]  # type: ignore[attr-defined]
    assert [line.split()[-1] for line in screen(running=running).split("\n") if line.startswith("  >")] == [
        "s"
    ] * 2


def test_what_is_overdue_does_not_start_at_once() -> None:
    """Zero seconds left are "any moment" behind a queue, "at once" only where no time was told."""
    assert "a new request would start any moment" in screen(new_request_starts_in_s=0.0)
    assert "a new request would start at once" in screen(new_request_starts_in_s=0.0, new_request_starts=None)


def test_a_reason_to_start_late_is_told() -> None:
    """In the place of the load, which it includes."""
    late = {"reason": "carol's request came back in front"}
    waiting = [row | late for row in DOCUMENT["waiting"]]  # type: ignore[attr-defined]
    assert screen(waiting=waiting).count("carol's request came back in front") == 2
    assert "loads the model" not in screen(waiting=waiting)


def test_nobody_there_is_one_line() -> None:
    """Without requests there is only the headline, which says itself when a new one would start."""
    text = screen(state="free", running=[], waiting=[], notices=[])
    assert text.startswith("Free: a request starts at once   atlas")
    assert "\n" not in text


def gpu(**known: object) -> dict[str, object]:
    """Returns a card of which only a few values are known."""
    values = (
        "name busy memory_used_bytes memory_total_bytes celsius watts watts_limit slowed others others_bytes"
    )
    unknown = dict.fromkeys(values.split())
    return {"index": 0, **unknown, "lost": False, "busy_history": [], **known}


def test_each_card_is_a_line() -> None:
    """The GPU comes last, with units; one that does not answer says so."""
    card = gpu(busy=0.87, memory_used_bytes=22_870_000_000, memory_total_bytes=24 * 1024**3) | {
        "celsius": 71,
        "watts": 338.4,
        "watts_limit": 450.0,
    }
    text = screen(gpus=[card])
    assert text.endswith("\n\nGPU 87 %  memory 21.3/24.0 GB  71 °C  338/450 W")
    text = screen(gpus=[card, gpu(index=1, lost=True)])
    assert text.endswith("GPU 0: 87 %  memory 21.3/24.0 GB  71 °C  338/450 W\nGPU 1: does not answer")


def test_exact_times_are_utc(run: Run, gateway: Gateway) -> None:
    """For a log or a comparison, whatever the clock of this machine shows."""
    said = run("status", "--url", gateway.url, "--utc")
    assert "atlas · 14:03:12 UTC" in said.out
    assert "2026-11-20T14:02:41Z" in said.out
    assert "2026-11-20T14:02:58Z" in said.out


@pytest.mark.parametrize(
    ("args", "terminal", "no_color", "colored"),
    [
        ((), False, "", False),
        ((), True, "", True),
        ((), True, "1", False),
        (("--color", "never"), True, "", False),
        (("--color", "always"), False, "1", True),
    ],
)
def test_colours_are_for_terminals(
    run: Run,
    gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
    *,
    args: tuple[str, ...],
    terminal: bool,
    no_color: str,
    colored: bool,
) -> None:
    """Unless told otherwise, or somebody wants none at all."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    assert ("\x1b[" in run("status", "--url", gateway.url, *args).out) is colored


REFUSED = (401, b'{"error":{"code":"key_expired","message":"The key has expired.","request_id":"r"}}')


def test_watching_goes_on_until_it_cannot(run: Run, gateway: Gateway) -> None:
    """Every document is shown; here the key ends after two."""
    gateway.answer("/gpushare/v1/status", (200, BODY), (200, BODY), REFUSED)
    said = run("status", "--url", gateway.url, "--watch")
    assert said.out.count("Busy: 2 running") == 2
    assert (said.code, said.err.splitlines()[0]) == (ExitCode.NOT_ALLOWED, "error: The key has expired.")
    gateway.answer("/gpushare/v1/status", (200, BODY), (200, BODY), REFUSED)
    said = run("status", "--url", gateway.url, "--watch", "--json")
    assert [json.loads(line) for line in said.out.splitlines()] == [DOCUMENT, DOCUMENT]


def test_status_asks_the_gateway_of_the_configuration(run: Run, home: Path, gateway: Gateway) -> None:
    """On the machine itself nothing needs to be given."""
    config = home / ".config/gpushare/config.toml"
    config.write_text(f'[server]\nlisten = "127.0.0.1:{gateway.server_port}"\n')
    said = run("status")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("Busy: 2 running")
    assert gateway.asked == [("GET", "/gpushare/v1/status", None)]


def test_the_key_comes_from_the_environment_or_a_file(
    run: Run, home: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is never an argument; the file wins over the variable."""
    monkeypatch.setenv("GPUSHARE_URL", gateway.url + "/")
    monkeypatch.setenv("GPUSHARE_KEY", "gs_env")
    run("status")
    (home / "key").write_text("gs_file\n")
    run("status", "--key-file", str(home / "key"))
    assert [sent for *_, sent in gateway.asked] == ["Bearer gs_env", "Bearer gs_file"]
    assert run("status", "--key-file", str(home / "none")).code == ExitCode.USAGE


def test_json_is_the_gateways_own_document(run: Run, gateway: Gateway) -> None:
    """With --json the document comes as it is."""
    assert json.loads(run("status", "--url", gateway.url, "--json").out) == DOCUMENT
