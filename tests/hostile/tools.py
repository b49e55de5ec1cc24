"""What the hostile tests share: requests made byte by byte, and the checks that follow each of them."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from tests.conformance.tools import exchange, nothing_ran
from tests.harness import CANARY, Gate
from tests.unit.web.wire import statuses

BODY = b'{"model":"m","messages":[{"role":"user","content":"%b"}],"stream":false}' % CANARY.encode()
"""A call that would be answered, with a canary in its prompt."""
DOCUMENT = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
TABLE = DOCUMENT.partition("\n## Own addresses\n")[2].partition("\n### ")[0]
OWN = sorted(
    re.sub(r"\{\w+\}", "x", path)
    for path in re.findall(r"^\| `(?:[A-Z]+ )?(/[^`]*)` \|", TABLE, re.MULTILINE)
)
"""Every address of our own, with something in the place of what varies."""


def shot(
    gate: Gate, line: str | bytes, *fields: str | bytes, body: bytes = b"", who: str | None = "alice"
) -> bytes:
    """Returns a request of exactly these lines, besides a host, a key and a canary."""
    key = [f"Authorization: Bearer {gate.keys[who]}"] if who else []
    lines: Iterable[str | bytes] = (line, "Host: 127.0.0.1", *key, f"X-Canary: {CANARY}", *fields)
    return (
        b"\r\n".join(each.encode() if isinstance(each, str) else each for each in lines) + b"\r\n\r\n" + body
    )


def chat_shot(gate: Gate, *fields: str | bytes, body: bytes = BODY, who: str | None = "alice") -> bytes:
    """Returns a chat call with its length and more header fields; the connection ends behind it."""
    length = f"Content-Length: {len(body)}"
    return shot(gate, "POST /api/chat HTTP/1.1", length, "Connection: close", *fields, body=body, who=who)


async def refused(gate: Gate, request: bytes, *allowed: int) -> bytes:
    """Sends bytes that must be refused with one answer and a closed connection; returns the answer.

    Nothing may have run, and nothing that was sent may come back.
    """
    answer = await exchange(gate, request)
    found = statuses(answer)
    assert len(found) == 1, found
    assert found[0] in allowed
    quotes_nothing(gate, answer)
    assert nothing_ran(gate)
    return answer


def quotes_nothing(gate: Gate, answer: bytes) -> None:
    """Checks that an answer holds neither a canary nor a key."""
    assert CANARY.encode() not in answer
    for secret in gate.keys.values():
        assert secret.encode() not in answer


def body_of(answer: bytes) -> bytes:
    """Returns the body of an answer with a declared length."""
    return answer.partition(b"\r\n\r\n")[2]


def sentence(answer: bytes) -> str:
    """Returns the sentence of an error, in whichever dialect it is."""
    error = json.loads(body_of(answer))["error"]
    return str(error if isinstance(error, str) else error["message"])
