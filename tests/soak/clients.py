"""What clients do to a gateway: ask properly in every dialect, and everything else that clients do."""

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.conformance.tools import FORM, STREAMING, body_of, dial, form_of, head
from tests.integration.leaving import WAYS
from tests.soak.books import Answer
from tests.soak.process import Gateway
from tests.unit.web.wire import Wire

PERSONS = tuple(f"person{number}" for number in range(8))
GUEST = "guest"
"""Has a key that is replaced now and then."""
PATIENCE = aiohttp.ClientTimeout(total=60)
"""More than all deadlines of the gateway together: who waits so long has been forgotten."""
EMBEDDING = ("/api/embed", "/api/embeddings", "/v1/embeddings")
LISTS = ("/api/tags", "/api/ps", "/api/version", "/v1/models", "/api/status")
PAGES = ("/", "/me", "/admin", "/connect", "/help", "/healthz", "/readyz", "/metrics")
DOCUMENTS = ("status", "queue", "usage", "whoami")
FAULTS = ("reset@2", "close@1", "eof@2", "error@1", "error", "garbage@1", "stall@1", "html", "badchunk@1")
END_MARKS = (b'"done":true', b"data: [DONE]", b"response.completed", b"message_stop")
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
}
EXPECTED = {200, 401, 404, 410, 429, 502, 503, 504}
"""Statuses of well-formed calls, whatever happens to the gateway and to Ollama."""
GONE = (OSError, aiohttp.ClientError, AssertionError, asyncio.IncompleteReadError)
"""How a client notices that the gateway was killed, or has given it up."""


@dataclass(slots=True)
class Crowd:
    """All clients: what they were answered, and what went wrong by their own judgement."""

    gateway: Gateway
    chance: random.Random
    answers: list[Answer] = field(default_factory=list)
    did: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    active: int = 0
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    def go_on(self) -> None:
        """Lets the clients ask."""
        self._open.set()

    async def pause(self) -> None:
        """Returns when each client has ended what it did; none begins anything new."""
        self._open.clear()
        while self.active:
            await asyncio.sleep(0.05)

    async def client(self) -> None:
        """Does one thing after the other, for ever."""
        names, weights = list(ACTIONS), [weight for _, weight in ACTIONS.values()]
        while True:
            while not self._open.is_set():  # it may be shut again by the time that a client is woken
                await self._open.wait()
            (name,) = self.chance.choices(names, weights)
            self.active += 1
            try:
                await ACTIONS[name][0](self)
            except TimeoutError:
                self.wrong.append(f"{name}: no answer and no end in a minute")
            except GONE:
                self.did["broken off"] += 1
            except Exception as error:  # noqa: BLE001 - the others go on, and the verdict tells
                self.wrong.append(f"{name}: {error!r}")
            finally:
                self.active -= 1
                self.did[name] += 1
            await asyncio.sleep(self.chance.random() * 0.3)

    def key(self, who: str = "") -> str:
        """Returns the key of somebody, by default of anybody."""
        return self.gateway.keys[who or self.chance.choice((*PERSONS, GUEST, "robot"))]

    def note(self, request: str, status: int, *, queued: bool) -> Answer:
        """Notes an answer that begins."""
        answer = Answer(
            request=request,
            life=len(self.gateway.lives) - 1,
            status=status,
            queued=queued,
            began_at=time.time(),
        )
        self.answers.append(answer)
        self.statuses[status] += 1
        return answer

    @asynccontextmanager
    async def wire(self, *, receive_bytes: int = 0) -> AsyncIterator[Wire]:
        """Connects a bare socket; its client goes when it has waited for 10 s."""
        async with dial(self.gateway.port, receive_bytes=receive_bytes) as wire:
            with suppress(TimeoutError):
                yield wire


Action = Callable[[Crowd], Awaitable[None]]


# --- who asks properly -------------------------------------------------------------------------------------


async def ask(crowd: Crowd, path: str, *, who: str = "", failing: bool = False, **options: Any) -> None:
    """Sends one call and reads the whole answer, which must be one or say why it is none.

    Where Ollama is ``failing`` its own 500 and an end without the end mark pass as they come.
    """
    headers = {"Authorization": f"Bearer {crowd.key(who)}", **options.pop("headers", {})}
    async with (
        aiohttp.ClientSession(timeout=PATIENCE) as session,
        session.post(crowd.gateway.url + path, headers=headers, **options) as response,
    ):
        answer = crowd.note(response.headers["X-Gpushare-Request"], response.status, queued=True)
        body = await response.read()
        answer.ended_at = time.time()
        answer.complete = response.status == 200 and is_whole(body, response.content_type)
        told = answer.complete or (response.status == 200 and b'"error"' in body[-2000:])
        if not (told or failing or response.status in EXPECTED - {200}):
            crowd.wrong.append(f"{path}: {response.status}, cut short: {body[-300:]!r}")


def is_whole(body: bytes, content_type: str) -> bool:
    """Whether an answer is all that was asked for."""
    if content_type in ("text/event-stream", "application/x-ndjson"):
        return any(mark in body[-4000:] for mark in END_MARKS)
    try:
        found = json.loads(body)
    except ValueError:
        return False
    return bool(found) and found.get("error") is None  # one dialect names it always


async def whole(crowd: Crowd) -> None:
    """A generation, streamed or not."""
    path = crowd.chance.choice(STREAMING)
    text = f"#sim:tokens={crowd.chance.randrange(1, 60)}"
    model = crowd.chance.choices(("m", "n"), (9, 1))[0]
    await ask(crowd, path, json=body_of(path, text, model=model, stream=crowd.chance.random() < 0.6))


async def embedding(crowd: Crowd) -> None:
    """Numbers for a text."""
    path = crowd.chance.choice(EMBEDDING)
    await ask(crowd, path, json=body_of(path, "a text", model="embed"))


async def tool(crowd: Crowd) -> None:
    """An answer that calls a tool."""
    path = crowd.chance.choice(("/api/chat", "/v1/chat/completions"))
    body = body_of(path, "#sim:tool=look,tokens=3", tools=[TOOL], stream=crowd.chance.random() < 0.5)
    await ask(crowd, path, json=body)


async def transcription(crowd: Crowd) -> None:
    """A form with a file."""
    data = form_of(audio=b"RIFF" * crowd.chance.randrange(1, 50_000))
    await ask(crowd, "/v1/audio/transcriptions", data=data, headers={"Content-Type": FORM})


async def large(crowd: Crowd) -> None:
    """A body with a picture in it."""
    body = body_of("/api/chat", "#sim:tokens=3")
    body["messages"][0]["images"] = ["A" * crowd.chance.randrange(100_000, 1_000_000)]
    await ask(crowd, "/api/chat", json=body)


async def broken(crowd: Crowd) -> None:
    """An answer in which Ollama fails."""
    path = crowd.chance.choice(STREAMING)
    text = f"#sim:tokens=9,fault={crowd.chance.choice(FAULTS)}"
    body = body_of(path, text, stream=crowd.chance.random() < 0.7)
    await ask(crowd, path, json=body, failing=True)


async def looks(crowd: Crowd) -> None:
    """Lists, pages and documents."""
    chance = crowd.chance
    path = chance.choice((*LISTS, *PAGES, *(f"/gpushare/v1/{name}" for name in DOCUMENTS)))
    headers = (
        {"Authorization": f"Bearer {crowd.key(chance.choice(('', 'root')))}"} if chance.random() < 0.8 else {}
    )
    async with (
        aiohttp.ClientSession(timeout=PATIENCE) as session,
        session.get(crowd.gateway.url + path, headers=headers) as response,
    ):
        await response.read()
        if response.status >= 500 and response.status not in EXPECTED:
            crowd.wrong.append(f"{path}: {response.status}")


# --- who is turned away ------------------------------------------------------------------------------------


async def refused(crowd: Crowd) -> None:
    """Wrong keys, models, bodies and routes."""
    headers = {"Authorization": f"Bearer {crowd.key()}"}
    path, body, headers = crowd.chance.choice(
        (
            ("/api/chat", b'{"model":"m"}', {"Authorization": "Bearer gs_0123ab_wrong"}),
            ("/v1/messages", b"{}", {}),
            (
                "/v1/chat/completions",
                json.dumps(body_of("/v1/chat/completions", model="none")).encode(),
                headers,
            ),
            ("/api/chat", b'{"model": "m", "messages": [', headers),
            ("/api/chat", b'{"model":"m","messages":' + b"[" * 5000 + b"]" * 5000 + b"}", headers),
            ("/api/generate", b"x" * 900_000, headers),
            ("/api/pull", b'{"model":"m"}', headers),
            ("/api/nothing", b"{}", headers),
        )
    )
    async with (
        aiohttp.ClientSession(timeout=PATIENCE) as session,
        session.post(crowd.gateway.url + path, data=body, headers=headers) as response,
    ):
        await response.read()
        crowd.note(
            response.headers["X-Gpushare-Request"], response.status, queued=False
        ).ended_at = time.time()
        if not 400 <= response.status < 500 and response.status != 503:
            crowd.wrong.append(f"{path}: {response.status} where a refusal was due")


async def impatient(crowd: Crowd) -> None:
    """Many calls of one person at once: more than may wait."""
    who = crowd.chance.choice(PERSONS)
    bodies = [body_of("/api/chat", "#sim:tokens=2") for _ in range(12)]
    await asyncio.gather(
        *(ask(crowd, "/api/chat", who=who, json=body) for body in bodies), return_exceptions=True
    )


# --- who misbehaves ----------------------------------------------------------------------------------------


def request(crowd: Crowd, path: str, body: object) -> bytes:
    """Returns the bytes of a call."""
    data = json.dumps(body).encode()
    return head("POST", path, f"Authorization: Bearer {crowd.key()}", f"Content-Length: {len(data)}") + data


async def begun(crowd: Crowd, wire: Wire) -> Answer | None:
    """Reads the head of an answer; returns it noted, None where it is a refusal."""
    text = (await wire.until(b"\r\n\r\n")).decode("latin-1")
    status = int(text[9:12])
    found = re.search(r"(?i)x-gpushare-request: (\S+)", text)
    if found is None:
        return None
    answer = crowd.note(found[1], status, queued=True)
    answer.stayed = False
    return answer


async def leaves(crowd: Crowd) -> None:
    """Goes in any way at any moment: within the body, in the queue, before and in the answer."""
    chance = crowd.chance
    path = chance.choice((*STREAMING, *EMBEDDING))
    fields = {"model": "embed"} if path in EMBEDDING else {"stream": chance.random() < 0.6}
    data = request(crowd, path, body_of(path, f"#sim:tokens=80,ttft_ms={chance.randrange(200)}", **fields))
    async with crowd.wire() as wire:
        moment = chance.choice(("body", "sent", "later", "begun", "middle", "behind"))
        await wire.send(data[: -chance.randrange(1, 30)] if moment == "body" else data)
        if moment == "later":
            await asyncio.sleep(chance.random())
        elif moment in ("begun", "middle"):
            answer = await begun(crowd, wire)
            if moment == "middle" and answer is not None and answer.status == 200:
                await wire.until(b"}")
        elif moment == "behind":
            wire.send_what_fits(data * (2_000_000 // len(data)))
        WAYS[chance.choice(list(WAYS))](wire)
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random())  # a half-closed line stays for a while


async def reads_slowly(crowd: Crowd) -> None:
    """Takes a long answer in small bites, or does not take it at all."""
    body = body_of("/api/chat", "#sim:tokens=20000,gather=200,delay_ms=0", stream=True)
    async with crowd.wire(receive_bytes=4096) as wire:
        await wire.send(request(crowd, "/api/chat", body))
        await begun(crowd, wire)
        bite = crowd.chance.choice((0, 100, 2000))
        for _ in range(crowd.chance.randrange(10, 60)):
            if bite and not await wire.take(bite):
                break
            await asyncio.sleep(0.1)


async def sends_slowly(crowd: Crowd) -> None:
    """Sends its head or its body byte by byte, beyond the deadline."""
    data = request(crowd, "/api/chat", body_of("/api/chat"))
    at = crowd.chance.choice((0, data.index(b"\r\n\r\n") + 4))
    async with crowd.wire() as wire:
        await wire.send(data[:at])
        for place in range(at, at + crowd.chance.randrange(10, 50)):
            await wire.send(data[place : place + 1])
            await asyncio.sleep(0.1)


async def says_nothing(crowd: Crowd) -> None:
    """Opens connections and sends nothing, or what is no HTTP."""
    async with crowd.wire() as wire:
        await wire.send(crowd.chance.choice((b"", b"\x16\x03\x01\x02\x00\x01", b"SSH-2.0-x\r\n", b"G")))
        await asyncio.sleep(crowd.chance.random() * 3)


async def watches(crowd: Crowd) -> None:
    """Has a live page open; some never read it."""
    chance = crowd.chance
    view, who = chance.choice((("status", ""), ("me", ""), ("admin", "root")))
    key = f"Authorization: Bearer {crowd.key(who)}"
    async with crowd.wire(receive_bytes=4096) as wire:
        await wire.send(head("GET", f"/events?view={view}", key))
        if chance.random() < 0.7:
            await wire.until(b"\r\n\r\n")
            with suppress(TimeoutError):
                async with asyncio.timeout(5 * chance.random()):
                    while await wire.take(65536):
                        pass
        else:
            await asyncio.sleep(5 * chance.random())
        WAYS[chance.choice(list(WAYS))](wire)


async def cancels(crowd: Crowd) -> None:
    """Ends an own call from elsewhere."""
    who = crowd.chance.choice(PERSONS)
    bearer = {"Authorization": f"Bearer {crowd.key(who)}"}
    body = body_of("/api/chat", "#sim:tokens=2000", stream=True)
    async with (
        aiohttp.ClientSession(timeout=PATIENCE, headers=bearer) as session,
        session.post(crowd.gateway.url + "/api/chat", json=body) as response,
    ):
        name = response.headers["X-Gpushare-Request"]
        crowd.note(name, response.status, queued=True).stayed = False
        async with session.delete(f"{crowd.gateway.url}/gpushare/v1/queue/{name}") as answer:
            await answer.read()
        await response.read()


ACTIONS: dict[str, tuple[Action, float]] = {
    "whole": (whole, 30),
    "embedding": (embedding, 8),
    "tool": (tool, 4),
    "transcription": (transcription, 3),
    "large": (large, 2),
    "broken": (broken, 0.4),
    "looks": (looks, 12),
    "refused": (refused, 8),
    "impatient": (impatient, 1),
    "leaves": (leaves, 30),
    "reads slowly": (reads_slowly, 4),
    "sends slowly": (sends_slowly, 4),
    "says nothing": (says_nothing, 3),
    "watches": (watches, 8),
    "cancels": (cancels, 3),
}
"""What clients do, and how often they do it."""
