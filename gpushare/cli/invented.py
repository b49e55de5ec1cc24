"""Invented people for the demo: each asks like a person or a tool of a certain kind, for ever.

Called by: ``gpushare demo``.  Rules: they use the gateway from outside, over HTTP, each with an own key; they
obey ``Retry-After``; whatever goes wrong ends one round, never a person.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp

NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mike", "nina")
_QUESTIONS = (
    "Why does a fair queue serve short calls first when everybody asks at once?",
    "Write a Python function that merges two sorted lists.",
    "Summarise deficit round robin in three sentences.",
    "What is the difference between latency and throughput?",
    "Suggest a name for a cat that likes graphics cards.",
)
_FILE = "def merge(left, right):\n    ...\n" * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """What there is to ask: the usual model, another one, and one that embeds (empty: none does)."""

    usual: str
    other: str
    embedding: str


@dataclass(slots=True, kw_only=True)
class Visitor:
    """One person at the gateway."""

    session: aiohttp.ClientSession
    url: str
    key: str
    models: Models
    chance: random.Random = field(default_factory=random.Random)

    async def post(self, path: str, body: dict[str, object], *, agent: str, leave_after: int = 0) -> None:
        """Sends one call and reads its answer, or leaves after so many pieces of it."""
        headers = {"Authorization": f"Bearer {self.key}", "User-Agent": agent}
        async with self.session.post(self.url + path, json=body, headers=headers) as answer:
            pieces = 0
            async for _ in answer.content.iter_any():
                pieces += 1
                if pieces == leave_after:
                    return
            if answer.status in (429, 503):
                await asyncio.sleep(float(answer.headers.get("Retry-After", "1")))

    async def rest(self, least_s: float, most_s: float) -> None:
        """Does something else for a while."""
        await asyncio.sleep(self.chance.uniform(least_s, most_s))

    def question(self) -> list[dict[str, str]]:
        """Returns the messages of a short chat."""
        return [{"role": "user", "content": self.chance.choice(_QUESTIONS)}]

    def tokens(self, least: int, most: int) -> int:
        """Returns how long an answer may be."""
        return self.chance.randint(least, most)


Habit = Callable[[Visitor], Awaitable[None]]


async def _chats(visitor: Visitor) -> None:
    """Asks, reads the answer, thinks."""
    await _ask(visitor, visitor.models.usual)
    await visitor.rest(4, 12)


async def _floods(visitor: Visitor) -> None:
    """A script that sends five calls at a time."""
    body = {"model": visitor.models.usual, "messages": visitor.question(), "max_tokens": 60}
    calls = [visitor.post("/v1/chat/completions", body, agent="OpenAI/Python 3.52.0") for _ in range(5)]
    await asyncio.gather(*calls, return_exceptions=True)
    await visitor.rest(0.5, 2)


async def _works_as_agent(visitor: Visitor) -> None:
    """A coding tool: long prompts, one call after the other."""
    for _ in range(4):
        messages = [{"role": "user", "content": _FILE}]
        body = {"model": visitor.models.usual, "messages": messages, "stream": True}
        body["max_tokens"] = visitor.tokens(60, 200)
        await visitor.post("/v1/messages?beta=true", body, agent="claude-cli/2.1.0")
        await visitor.rest(0.3, 1.5)
    await visitor.rest(8, 20)


async def _prefers_another_model(visitor: Visitor) -> None:
    """Makes the model change now and then."""
    await _ask(visitor, visitor.models.other)
    await visitor.rest(15, 40)


async def _indexes(visitor: Visitor) -> None:
    """Embeds a batch of texts, where a model can."""
    if visitor.models.embedding:
        body: dict[str, object] = {"model": visitor.models.embedding, "input": list(_QUESTIONS)}
        await visitor.post("/api/embed", body, agent="ollama-python/0.6.3")
    await visitor.rest(3, 8)


async def _loses_patience(visitor: Visitor) -> None:
    """Leaves in the middle of an answer."""
    await _ask(visitor, visitor.models.usual, leave_after=visitor.tokens(5, 30))
    await visitor.rest(6, 15)


async def _ask(visitor: Visitor, model: str, *, leave_after: int = 0) -> None:
    options = {"num_predict": visitor.tokens(40, 160)}
    body: dict[str, object] = {"model": model, "messages": visitor.question(), "options": options}
    await visitor.post("/api/chat", body, agent="ollama-python/0.6.3", leave_after=leave_after)


HABITS: tuple[Habit, ...] = (
    _chats,
    _floods,
    _works_as_agent,
    _prefers_another_model,
    _indexes,
    _loses_patience,
)


async def live(visitor: Visitor, habit: Habit) -> None:
    """Repeats a habit until cancelled."""
    while True:
        try:
            await visitor.rest(0, 2)
            await habit(visitor)
        except (aiohttp.ClientError, OSError):
            await visitor.rest(1, 2)  # as a person does when a tool shows an error
