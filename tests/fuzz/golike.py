"""How Ollama reads a request body: Go's ``encoding/json``, as far as the gate's decisions depend on it.

Names match without regard to case (with the two letters outside ASCII that fold to letters in it), of names
that match one field the last counts, and what follows the first value is not looked at.
"""

import json
from dataclasses import dataclass
from typing import Any

_FOLDS = str.maketrans({"\u017f": "s", "\u212a": "k"})
_POINTERS = ("stream", "keep_alive")
Pairs = list[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Reading:
    """The fields that decide something; None where a field is absent or null."""

    model: Any
    stream: Any
    keep_alive: Any
    messages: Any
    prompt: Any
    name: Any


def read(body: bytes) -> Reading:
    """Returns what Go finds; raises ValueError where it finds no object."""
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    found, _ = json.JSONDecoder(object_pairs_hook=_Object, parse_constant=_no_number).raw_decode(text)
    if not isinstance(found, _Object):
        raise TypeError
    return Reading(*(found.field(name) for name in Reading.__slots__))


class _Object:
    """An object with its pairs in order."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def field(self, name: str) -> Any:
        """Returns the value Go would give a field; null empties a pointer and leaves a text as it was."""
        found = None
        for key, value in self.pairs:
            if key.translate(_FOLDS).lower() == name and (value is not None or name in _POINTERS):
                found = value
        return found


def _no_number(word: str) -> object:
    raise ValueError(word)
