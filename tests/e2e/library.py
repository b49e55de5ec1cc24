"""The few things that every client library does, under one set of names, so that one test serves them all."""

import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

MODEL = "m"
EMBEDDER = "embed"
DUMMY = "ollama"
"""What many tools send as a key when they have none."""

WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "Tells the weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What a library tells its user when a call fails; ``status`` is None for an error in mid-stream."""

    status: int | None
    text: str


class Library(ABC):
    """One client library, connected to a gateway.

    ``path`` is the route its conversations take; ``errors`` is what it raises.

    Args:
        url: the gateway's address, without ``/v1``; may hold credentials or a path.
        key: what goes into the library's own setting for a key; empty for none.
        headers: more request headers.
        retries: how often the library may repeat a refused call by itself.
    """

    path: ClassVar[str]
    errors: ClassVar[tuple[type[Exception], ...]]

    def __init__(
        self, url: str, key: str, *, headers: Mapping[str, str] | None = None, retries: int = 0
    ) -> None:
        self.url = url
        self.key = key
        self.headers = dict(headers or {})
        self.retries = retries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - most have connections to close, some have none
        """Closes what the library keeps open."""

    @abstractmethod
    def say(self, text: str, *, model: str = MODEL) -> str:
        """Returns the whole answer."""

    @abstractmethod
    def stream(self, text: str) -> Generator[str]:
        """Yields the answer's pieces; closing it leaves the call as the library's user would."""

    @abstractmethod
    def call_tool(self, text: str) -> tuple[str, dict[str, Any]]:
        """Returns the name and the arguments of the tool the model wants called."""

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Returns a vector for each text."""
        raise NotImplementedError

    def models(self) -> list[str]:
        """Returns the names of the models."""
        raise NotImplementedError

    def show(self, model: str) -> str:
        """Returns what the library shows of one model: its family, or its name where that is all."""
        raise NotImplementedError

    @abstractmethod
    def failure(self, error: Exception) -> Failure:
        """Returns what one of ``errors`` says."""


class Child:
    """A program that is written and read line by line; its standard input ends when it shall stop."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NO_COLOR": "1"},
        )

    def lines(self) -> Iterator[str]:
        """Yields what the program prints, as it prints it."""
        assert self.process.stdout is not None
        yield from self.process.stdout

    def ask_to_stop(self) -> None:
        """Ends the program's standard input."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> str:
        """Waits for the end of the program and returns what it wrote to standard error.

        Raises:
            subprocess.TimeoutExpired: it hangs; it is killed.
        """
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.ask_to_stop()
        try:
            self.process.wait(60)
        finally:
            self.process.kill()
            self.process.stdout.close()
            complaint = self.process.stderr.read()
            self.process.stderr.close()
        return complaint
