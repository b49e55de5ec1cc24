"""Cases 50 to 55: who is let in, by which header or path, and that no key is ever shown."""

import asyncio
import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpushare.sim import State
from tests.conformance.tools import (
    DIALECTS,
    INFERENCE,
    ask,
    body_of,
    calls,
    error_of,
    exchange,
    head,
    last_done,
    nothing_ran,
    only_call,
)
from tests.harness import Gate, chat, gateway

WRONG = {"Authorization": "Bearer gs_abc123_" + "x" * 32}


def basic(user: str, password: str) -> dict[str, str]:
    """Returns a Basic header."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def revoke(gate: Gate, name: str) -> None:
    """Withdraws a key in the file, as the command line does."""
    key_id = gate.keys[name].split("_")[1]
    gate.key_file.edit(lambda ring: ring.changed([key_id], revoked=datetime.now(UTC)))


@pytest.mark.case(50)
@pytest.mark.parametrize("headers", [{}, WRONG, {"Authorization": "Bearer ollama"}, {"X-Api-Key": "gs_x"}])
async def test_without_a_valid_key_the_answer_is_401(gate: Gate, headers: dict[str, str]) -> None:
    """No key and a wrong one are refused in the dialect's form, before the body is looked at."""
    for path in INFERENCE:
        status, answered, body = await gate.post(path, {}, who=None, headers=headers)
        assert status == 401
        assert answered["WWW-Authenticate"].startswith("Bearer")
        assert "key" in error_of(path, body)
    assert nothing_ran(gate)


@pytest.mark.case(50)
@pytest.mark.parametrize("path", DIALECTS)
async def test_the_ollama_command_gets_a_403(gate: Gate, path: str) -> None:
    """It hides every 401 behind a sign-in of its own, and shows the text of a 403."""
    headers = {"User-Agent": "ollama/0.33.0 (amd64 linux) Go/go1.26"}
    status, answered, body = await gate.post(path, body_of(path), who=None, headers=headers)
    assert status == 403
    assert "WWW-Authenticate" not in answered
    assert "needs a key" in error_of(path, body)


@pytest.mark.case(51)
@pytest.mark.parametrize("path", [path for path in INFERENCE if not path.endswith("transcriptions")])
async def test_a_key_in_the_path_is_enough(gate: Gate, path: str) -> None:
    """The route behind ``/k/<key>`` is used, and Ollama sees the path without it."""
    prefix = f"/k/{gate.keys['alice']}"
    status, _, body = await gate.post(prefix + path, body_of(path, model="m"), who=None)
    entry = only_call(gate)
    assert (status, body) == (entry.status, bytes(entry.answer))
    assert entry.target == path
    assert last_done(gate)["person"] == "alice"


@pytest.mark.case(51)
async def test_the_probe_works_behind_a_path_key(gate: Gate) -> None:
    """The ``ollama`` command probes its base URL before nearly everything."""
    for path in (f"/k/{gate.keys['alice']}/", f"/k/{gate.keys['alice']}"):
        status, _, body = await gate.request("HEAD", path, who=None)
        assert (status, body) == (200, b"")


@pytest.mark.case(52)
@pytest.mark.parametrize(
    "headers", [{"Authorization": "Bearer ollama"}, {"X-Api-Key": "dummy"}, {"Authorization": "Bearer "}]
)
async def test_a_dummy_beside_a_path_key_is_ignored(gate: Gate, headers: dict[str, str]) -> None:
    """Tools that must send something may send anything."""
    path = f"/k/{gate.keys['alice']}/api/chat"
    status, _, _ = await gate.post(path, chat(), who=None, headers=headers)
    assert status == 200
    assert last_done(gate)["person"] == "alice"
    assert only_call(gate).header("Authorization") is None


@pytest.mark.case(53)
@pytest.mark.parametrize("key_first", [True, False])
async def test_either_field_of_basic_carries_the_key(gate: Gate, key_first: bool) -> None:  # noqa: FBT001
    """``user:key`` and ``key:`` are both accepted."""
    secret = gate.keys["alice"]
    headers = basic(secret, "") if key_first else basic("somebody", secret)
    status, _, _ = await gate.post("/api/chat", chat(), who=None, headers=headers)
    assert status == 200
    assert last_done(gate)["person"] == "alice"


@pytest.mark.case(53)
@pytest.mark.parametrize("value", ["AAAA:sig", "Basic %%%", "Basic /w==", "Negotiate abc", "Bearer"])
async def test_a_foreign_authorization_beside_a_path_key_is_ignored(gate: Gate, value: str) -> None:
    """The signature of ``OLLAMA_AUTH`` is no key of ours and does no harm."""
    path = f"/k/{gate.keys['alice']}/api/chat"
    status, _, _ = await gate.post(path, chat(), who=None, headers={"Authorization": value})
    assert status == 200


@pytest.mark.case(54)
@pytest.mark.parametrize("policy", ["finish", "cut"])
async def test_a_revoked_key_starts_nothing_more(tmp_path: Path, policy: str) -> None:
    """New and waiting calls are refused; a running one finishes, or ends with an error, as configured."""
    async with gateway(tmp_path, settings=f'[auth]\nrevoke_running = "{policy}"') as gate:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(gate.post("/api/chat", chat("#sim:tokens=4,fault=stall@2")))
            entry = await gate.sim.arrived(0, path="/api/chat")
            await entry.reached(State.STALLED)
            waiting = tasks.create_task(ask(gate, "/api/chat"))
            await gate.waiting(1)
            revoke(gate, "alice")
            status, _, body = await asyncio.shield(waiting)
            assert status == 401
            assert "withdrawn" in error_of("/api/chat", body)
            status, _, body = await ask(gate, "/api/chat")
            assert status == 401
            assert "alice" in error_of("/api/chat", body)
            if policy == "finish":
                assert not entry.ended
                entry.resume()
            else:
                await entry.reached(State.CANCELLED)
        lines = running.result()[2].splitlines()
        if policy == "finish":
            assert running.result()[2] == bytes(entry.answer)
            assert json.loads(lines[-1])["done"] is True
        else:
            assert len(lines) == 3
            assert "withdrawn" in json.loads(lines[-1])["error"]
        assert len(calls(gate)) == 1


@pytest.mark.case(55)
async def test_no_key_in_any_answer_or_log(gate: Gate) -> None:
    """Good, wrong, doubled and malformed keys: no answer repeats one, and no log line holds one."""
    secret = gate.keys["alice"]
    wrong = secret[:-1] + ("x" if secret[-1] != "x" else "y")
    bearers = [{"Authorization": f"Bearer {key}"} for key in (secret, wrong)]
    others = [{"X-Api-Key": wrong}, basic(wrong, ""), {**bearers[0], "X-Api-Key": wrong}, {}]
    paths = ["/api/chat", "/v1/messages", "/nope", f"/k/{wrong}/api/chat", f"/k/{secret}/nope"]
    answers = [
        await gate.post(path, chat(), who=None, headers=headers)
        for headers in (*bearers, *others)
        for path in paths
    ]
    assert {status for status, _, _ in answers} == {200, 400, 401, 404}
    raw = [
        await exchange(gate, head("GET", f"/k/{secret}/%zz", "Connection: close")),
        await exchange(gate, f"GET /k/{secret} HTTP/9.9\r\n\r\n".encode()),
        await exchange(gate, f"{secret}\r\n\r\n".encode()),
    ]
    shown = repr([(dict(headers), body) for _, headers, body in answers]) + repr(raw) + repr(gate.logs)
    assert secret.rpartition("_")[2] not in shown
    assert wrong.rpartition("_")[2] not in shown
