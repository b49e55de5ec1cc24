"""Whole calls through a running gateway: bytes, metadata, refusals."""

import json

from tests.harness import Gate, chat


async def test_a_stream_passes_byte_for_byte(gate: Gate) -> None:
    """The client receives exactly the bytes Ollama wrote."""
    status, headers, body = await gate.post("/api/chat", chat("#sim:tokens=20"))
    assert status == 200
    assert headers["Content-Type"] == "application/x-ndjson"
    assert headers["X-Gpushare-Request"] == headers["X-Request-Id"]
    entry = await gate.sim.arrived(0, path="/api/chat")
    assert body == bytes(entry.answer)
    assert len(body.splitlines()) == 21
    assert json.loads(body.splitlines()[-1])["done"] is True
