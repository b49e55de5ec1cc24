"""Callers of the service within the machine: ``python -m tests.booted.callers KEY SECONDS``.

New connections all the time, short streams and a viewer, while somebody restarts the service; prints how
often each thing happened.  ``whole`` is an answer that ended as it should, or said that it was cut.
"""

import asyncio
import json
import sys
import time
from collections import Counter

HOST, PORT = "127.0.0.1", 11435
CHAT = {"model": "m", "messages": [{"role": "user", "content": "#sim:tokens=20,delay_ms=30"}]}


async def ask(key: str, line: str, body: bytes = b"") -> bytes:
    """Returns the whole answer to one request on a connection of its own."""
    reader, writer = await asyncio.open_connection(HOST, PORT)
    try:
        head = f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        return await reader.read()
    finally:
        writer.close()


def judged(what: str, answer: bytes) -> str:
    """Returns what became of a request."""
    status = answer.split(b" ", 2)[1].decode() if answer.startswith(b"HTTP/1.1 ") else "no answer"
    marks = {"chat": (b'"done":true', b'"error"'), "viewer": (b"event: bye",), "list": (b"}",)}[what]
    return f"{what} {status}{' whole' if any(mark in answer for mark in marks) else ''}"


async def main(key: str, seconds: float) -> None:
    """Asks for so long."""
    seen: Counter[str] = Counter()
    ends = time.monotonic() + seconds

    async def repeat(what: str, line: str, body: bytes = b"") -> None:
        while time.monotonic() < ends:
            try:
                seen[judged(what, await ask(key, line, body))] += 1
            except OSError as error:
                seen[f"{what} {type(error).__name__}"] += 1
            await asyncio.sleep(0.01)

    viewer = asyncio.create_task(repeat("viewer", "GET /events?view=status"))
    body = json.dumps(CHAT).encode()
    await asyncio.gather(
        *(repeat("list", "GET /api/tags") for _ in range(4)),
        *(repeat("chat", "POST /api/chat", body) for _ in range(2)),
    )
    viewer.cancel()
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
