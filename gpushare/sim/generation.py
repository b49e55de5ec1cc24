"""Runs one generation: the model's load, a slot, the prompt, the tokens; then writes it in its dialect."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable

from gpushare.sim.answer import Answer
from gpushare.sim.anthropic import Messages
from gpushare.sim.asks import Ask, tokens_of
from gpushare.sim.gpu import Gpu, GpuError
from gpushare.sim.journal import Entry
from gpushare.sim.openai import ChatCompletions, Completions
from gpushare.sim.records import Chat, Final, Generate, Piece, Writer
from gpushare.sim.responses import Responses
from gpushare.sim.script import END, FaultKind, Plan, Script, SimModel

BROKEN = "an error was encountered while running the model: unexpected EOF"
_ABSURD = 10**18
_TEXT = (
    "This is the simulated Ollama: no model, no GPU, only words at the pace of one. "
    "The queue, the keys and the numbers around them are real."
)

WRITERS: dict[str, Callable[[Ask], Writer]] = {
    "/api/chat": Chat,
    "/api/generate": Generate,
    "/v1/chat/completions": lambda ask: ChatCompletions(ask, random.randrange(999)),  # noqa: S311 - not secret
    "/v1/completions": lambda ask: Completions(ask, random.randrange(999)),  # noqa: S311 - not secret
    "/v1/responses": Responses,
    "/v1/messages": Messages,
}


def pieces_of(ask: Ask, plan: Plan, tokens: int) -> list[Piece]:
    """Returns the records of the answer, cut at the request's own limit."""
    thoughts = [Piece(thinking=word + " ") for word in _words(plan.thinking)]
    thoughts = [] if ask.think is False else thoughts
    if plan.pieces:
        said = [Piece(text=text) for text in plan.pieces]
    elif plan.tool:
        said = []
    else:
        said = [Piece(text=word + " ") for word in _words(tokens)]
    pieces = thoughts + said
    if ask.limit:
        pieces = pieces[: ask.limit]
    if plan.tool:
        call = {"id": f"call_{random.randrange(16**8):08x}", "name": plan.tool, "args": dict(plan.tool_args)}  # noqa: S311
        pieces.append(Piece(calls=(call,)))
    return pieces


def _words(count: int) -> list[str]:
    return list(itertools.islice(itertools.cycle(_TEXT.split()), count))


class Generation:
    """One generation.  ``run`` answers it; everything else is its clockwork."""

    def __init__(self, script: Script, gpu: Gpu, *, ask: Ask, model: SimModel, entry: Entry) -> None:
        self._gpu = gpu
        self._ask = ask
        self._model = model
        self._entry = entry
        self._plan = entry.plan
        self._writer = WRITERS[ask.path](ask)
        tokens = script.tokens if self._plan.tokens is None else self._plan.tokens
        if self._plan.tokens is None and ask.limit:
            tokens = ask.limit
        self._pieces = pieces_of(ask, self._plan, tokens)
        self._begun = time.monotonic_ns()
        self._prompt_tokens = tokens_of(ask.text)
        self._load_ns = 0
        self._prompt_ns = 0
        self._eval_from = 0

    async def run(self, answer: Answer) -> None:
        """Loads, waits, generates and writes.

        Raises:
            GpuError: nothing was written; the caller answers the error.
            Over: the scripted fault ended the answer.
        """
        ask, entry = self._ask, self._entry
        held = self._gpu.runner(self._model, ask.options, keep_alive_s=ask.keep_alive_s, entry=entry)
        async with held as runner:
            self._load_ns = time.monotonic_ns() - self._begun
            if ask.empty:
                await answer.single(200, {"Content-Type": self._writer.single_type}, self._loaded())
                return
            async with self._gpu.slot(runner, entry=entry):
                await self._prompt()
                await (self._stream(answer) if ask.stream else self._single(answer))

    def _loaded(self) -> bytes:
        """Returns the answer of a call that only loads."""
        return self._writer.whole(Piece(), Final(reason="load"))

    async def _prompt(self) -> None:
        seconds = (self._plan.ttft_ms or 0.0) / 1000
        if self._plan.ttft_ms is None and self._model.prompt_per_s:
            seconds = self._prompt_tokens / self._model.prompt_per_s
        before = time.monotonic_ns()
        await asyncio.sleep(seconds)
        self._prompt_ns = max(1, time.monotonic_ns() - before)
        self._eval_from = time.monotonic_ns()

    async def _tokens(self) -> AsyncIterator[Piece]:
        """Yields the records at their pace; every one gives the loop a turn, to notice who has left."""
        speed = self._model.tokens_per_s
        seconds = (self._plan.delay_ms or 0.0) / 1000
        if self._plan.delay_ms is None and speed:
            seconds = 1 / speed
        for piece in self._pieces:
            await asyncio.sleep(seconds)
            yield piece

    async def _stream(self, answer: Answer) -> None:
        await answer.strike(None)
        number = 0
        answer.start(200, self._writer.stream_headers)
        async for piece in self._tokens():
            await self._strike(answer, number)
            await self._send(answer, self._writer.piece(piece))
            number += 1
        await self._strike(answer, number)
        final = self._writer.final(self._final())
        await self._send(answer, final)
        if self._plan.has(FaultKind.TRAILING):
            await self._send(answer, self._writer.piece(Piece(text="too late")))
        await self._strike(answer, END)
        await answer.end()

    async def _single(self, answer: Answer) -> None:
        if self._plan.has(FaultKind.ERROR):
            raise GpuError(500, self._plan.message or BROKEN)
        text, thinking = "", ""
        calls: tuple[object, ...] = ()
        async for piece in self._tokens():
            text, thinking, calls = text + piece.text, thinking + piece.thinking, calls + piece.calls
        whole = self._writer.whole(Piece(text=text, thinking=thinking, calls=calls), self._final())  # type: ignore[arg-type]
        await answer.single(200, {"Content-Type": self._writer.single_type}, whole)
        self._entry.wrote_record()

    async def _send(self, answer: Answer, chunks: list[bytes]) -> None:
        for chunk in chunks:
            await answer.piece(chunk)
        self._entry.wrote_record()

    async def _strike(self, answer: Answer, place: int) -> None:
        fault = self._plan.fault
        if fault and fault.kind is FaultKind.ERROR and fault.at == place:
            if not answer.started:
                raise GpuError(500, self._plan.message or BROKEN)
            for chunk in self._writer.broken(self._plan.message or BROKEN):
                await answer.piece(chunk)
            await answer.end()
            answer.over()
        await answer.strike(place)

    def _final(self) -> Final:
        now = time.monotonic_ns()
        cut = self._ask.limit and len(self._pieces) >= self._ask.limit and not self._plan.tool
        absurd = self._plan.has(FaultKind.COUNTS)
        return Final(
            reason="length" if cut else "stop",
            total_ns=now - self._begun,
            load_ns=self._load_ns,
            prompt_tokens=-1 if absurd else self._prompt_tokens,
            prompt_ns=self._prompt_ns,
            tokens=_ABSURD if absurd else len(self._pieces),
            eval_ns=max(1, now - self._eval_from),
            context=self._plan.context,
        )
