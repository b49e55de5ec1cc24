"""Our own handling of bytes under examples that are nearly right.

``GPUSHARE_FUZZ_SECONDS`` is how long each target is tried; ``tests/fuzz/guided.py`` goes by coverage instead.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tests.fuzz.mutations import fuzz, mutated
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_our_errors(name: str) -> None:
    """P17: each example leads to an error of ours, or to an answer of which what is promised holds."""
    target = TARGETS[name]
    count = fuzz(mutated(target.corpus, target.tokens), target.check)
    print(f"{name}: {count} examples")  # noqa: T201 - pytest -rP shows it


def lines_of(check: Callable[[bytes], None], data: bytes) -> int:
    """Returns how many lines of Python a target runs."""
    count = 0

    def trace(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        check(data)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in ("config", "answer")])
def test_work_is_linear(name: str) -> None:
    """Four times as much of anything is less than eight times the work, counted in lines of Python.

    A configuration is the operator's, and even the standard parser is not linear; an answer is cut off here.
    """
    target = TARGETS[name]
    for token in (*target.tokens, *target.corpus):
        for start in (b"", *target.corpus[:1]):
            small, large = (lines_of(target.check, start + token * count) for count in (500, 2000))
            assert large <= 8 * small + 5000, token
