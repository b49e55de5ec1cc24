"""``gpushare queue`` against a gateway that answers as told."""

import json
from pathlib import Path
from typing import Any

import click
import pytest

from gpushare.cli.terminal import ExitCode

from .conftest import Gateway, Run
from .test_status import BODY

STANDS = {"schema": "gpushare.controls/1", "paused": True, "draining": False, "running": 1, "waiting": 3}
MODELS = [
    {"name": "m:30b", "loaded": True, "vram_bytes": 2**30, "on_gpu": 0.5, "context": 4096, "unloads": None},
    {"name": "\x1b[2J", "loaded": False},
]
ADMIN: dict[str, dict[str, Any]] = {
    **{f"/gpushare/v1/queue/{what}": STANDS for what in ("pause", "resume", "drain")},
    "/gpushare/v1/queue/r_1": {"schema": "gpushare.cancelled/1", "id": "r_1"},
    "/gpushare/v1/models": {"schema": "gpushare.models/1", "models": MODELS},
    "/gpushare/v1/models/unload": {"schema": "gpushare.unloaded/1", "model": "m:latest"},
}


@pytest.fixture
def atlas(gateway: Gateway, home: Path, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """A gateway that does all that is asked of it."""
    assert home.is_dir()
    gateway.answer("/gpushare/v1/status", (200, BODY))
    for path, body in ADMIN.items():
        gateway.answer(path, (200, json.dumps(body).encode()))
    monkeypatch.setenv("GPUSHARE_URL", gateway.url)
    monkeypatch.setenv("GPUSHARE_KEY", "gs_admin")
    return gateway


@pytest.mark.usefixtures("atlas")
def test_the_queue_is_shown_with_ids(run: Run) -> None:
    """What runs first; each line ends with what cancel takes, and names are inert."""
    lines = run("queue", "show").out.splitlines()
    assert [line.split()[0] for line in lines] == ["PLACE", "running", "running", "1", "2"]
    assert [line.split()[-1] for line in lines] == ["ID", "r1", "r4", "r2", "r3"]
    assert "\x1b" not in "".join(lines)


def test_an_empty_queue_is_a_note(run: Run, atlas: Gateway) -> None:
    """Nothing on stdout."""
    empty = json.dumps(json.loads(BODY) | {"running": [], "waiting": []}).encode()
    atlas.answer("/gpushare/v1/status", (200, empty))
    assert run("queue", "show")[1:] == ("", "Nothing runs and nobody is waiting.\n")


@pytest.mark.parametrize("what", ["pause", "resume", "drain"])
def test_a_control_says_how_the_queue_stands(run: Run, atlas: Gateway, what: str) -> None:
    """One POST with the key; then the way back, where there is one to go."""
    said = run("queue", what)
    assert said == (0, "", "Paused: 1 running, 3 waiting.\nNext: gpushare queue resume\n")
    assert atlas.asked == [("POST", f"/gpushare/v1/queue/{what}", "Bearer gs_admin")]


def test_a_drain_asks_on_a_terminal(run: Run, atlas: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it will do to whom; the flag answers beforehand."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked: list[str] = []

    def refuse(question: str, **_options: object) -> None:
        asked.append(question)
        raise click.Abort

    monkeypatch.setattr("click.confirm", refuse)
    assert run("queue", "drain").code == ExitCode.INTERRUPTED
    (question,) = asked
    assert question.startswith("2 people are waiting; their requests are turned away now.")
    assert [method for method, _, _ in atlas.asked] == ["GET"]
    assert run("queue", "drain", "--yes").code == 0


def test_a_call_is_cancelled_by_its_id(run: Run, atlas: Gateway) -> None:
    """An id that is none is wrong usage and never part of an address."""
    assert run("queue", "cancel", "r_1") == (0, "", "r_1: cancelled\n")
    assert atlas.asked == [("DELETE", "/gpushare/v1/queue/r_1", "Bearer gs_admin")]
    assert run("queue", "cancel", "../../api/x").code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [(403, "not_admin", ExitCode.NOT_ALLOWED), (404, "request_unknown", ExitCode.NOT_FOUND)],
)
def test_refusals_have_their_exit_codes(
    run: Run, atlas: Gateway, status: int, code: str, exit_code: ExitCode
) -> None:
    """With the server's own sentence."""
    body = json.dumps({"error": {"code": code, "message": "No.", "request_id": "r"}}).encode()
    atlas.answer("/gpushare/v1/queue/r_1", (status, body))
    said = run("queue", "cancel", "r_1")
    assert (said.code, said.err.splitlines()[0]) == (exit_code, "error: No.")
