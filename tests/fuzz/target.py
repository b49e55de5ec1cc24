"""What a target is, and what it may draw from its bytes."""

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

Choice = TypeVar("Choice")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One thing that is fuzzed, with examples and words to make more of."""

    check: Callable[[bytes], None]
    corpus: tuple[bytes, ...]
    tokens: tuple[bytes, ...] = ()


def pieces(data: bytes, *, salt: int = 0) -> Iterator[bytes]:
    """Yields data cut at places that depend on it alone."""
    rng = random.Random(zlib.crc32(data) + salt)
    at = 0
    while at < len(data):
        end = at + rng.choice((1, 1, 2, 3, 7, 20, 100, 5000))
        yield data[at:end]
        at = end


def pick(data: bytes, choices: Sequence[Choice]) -> Choice:
    """Returns one of the choices, by the data."""
    return choices[zlib.crc32(data) % len(choices)]


def words(text: bytes) -> tuple[bytes, ...]:
    """Returns the words between upright lines."""
    return tuple(text.split(b"|"))
