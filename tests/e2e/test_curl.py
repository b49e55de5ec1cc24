"""curl as people type it."""

import asyncio
import json
from pathlib import Path

import pytest

from gpushare.sim import State
from tests.e2e.library import Child
from tests.harness import Gate, chat

pytestmark = pytest.mark.needs("curl")

SAY, ANSWER = "#sim:tokens=3", "This is the "


async def curl(gate: Gate, *words: str, path: str = "/api/chat") -> str:
    """Returns what curl prints; its own complaint is a failure."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", *words, gate.url + path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, complaint = await process.communicate()
    assert not complaint
    return out.decode()


def header(gate: Gate) -> list[str]:
    """Returns the words that carry alice's key."""
    return ["-H", f"Authorization: Bearer {gate.keys['alice']}"]


async def test_the_type_of_a_form_does_not_matter(gate: Gate, tmp_path: Path) -> None:
    """``-d`` alone calls JSON a form; Ollama does not mind, so neither does the gateway."""
    body = json.dumps(chat(SAY, stream=False))
    file = tmp_path / "answer.json"
    told = await curl(gate, "-v", "--stderr", "-", "-o", str(file), *header(gate), "-d", body)
    assert "> Content-Type: application/x-www-form-urlencoded" in told
    assert json.loads(file.read_text())["message"]["content"] == ANSWER


async def test_lines_appear_as_they_are_made(gate: Gate) -> None:
    """With ``--no-buffer`` two lines are on the screen while Ollama is still busy with the third."""
    body = json.dumps(chat("#sim:tokens=3,fault=stall@2"))
    child = Child("curl", "-s", "--no-buffer", *header(gate), "-d", body, f"{gate.url}/api/chat")
    lines = child.lines()
    shown = [await asyncio.to_thread(next, lines) for _ in range(2)]
    entry = await gate.sim.arrived(0, path="/api/chat")
    await entry.reached(State.STALLED)
    assert not entry.ended
    entry.resume()
    shown += await asyncio.to_thread(list, lines)
    child.end()
    assert "".join(shown).encode() == bytes(entry.answer)


@pytest.mark.parametrize(
    "words",
    [["--http1.0"], ["--compressed"], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]],
    ids=lambda words: words[-1],
)
async def test_ways_to_send(words: list[str], gate: Gate) -> None:
    """Old HTTP, an offer to unpack, a body in chunks, a question before the body: the answer is the same."""
    printed = await curl(gate, *words, *header(gate), "-d", json.dumps(chat(SAY)))
    entry = await gate.sim.arrived(0, path="/api/chat")
    assert printed.encode() == bytes(entry.answer)


async def test_a_picture(gate: Gate, tmp_path: Path) -> None:
    """A body of megabytes, before which curl asks by itself, arrives as it is."""
    body = chat(SAY, stream=False)
    body["messages"][0]["images"] = ["QUJD" * 700_000]
    (tmp_path / "body.json").write_text(json.dumps(body))
    printed = await curl(gate, *header(gate), "-d", f"@{tmp_path}/body.json")
    assert json.loads(printed)["message"]["content"] == ANSWER
    entry = await gate.sim.arrived(0, path="/api/chat")
    assert json.loads(entry.body) == body


async def test_two_calls_on_one_connection(gate: Gate) -> None:
    """Curl keeps the connection after a streamed answer and uses it again."""
    again = ["-o", "/dev/null", "-o", "/dev/null", f"{gate.url}/api/chat"]
    body = json.dumps(chat(SAY))
    assert await curl(gate, "-w", "%{num_connects}\n", *header(gate), "-d", body, *again) == "1\n0\n"


async def test_is_it_running(gate: Gate) -> None:
    """The root answers as Ollama's does, also to ``curl -I``."""
    assert await curl(gate, path="/") == "Ollama is running"
    assert (await curl(gate, "-I", path="/")).startswith("HTTP/1.1 200 OK")
