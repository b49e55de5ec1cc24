"""Byte strings that are nearly right, and how long they are tried."""

import os
import time
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

SECONDS = float(os.environ.get("GPUSHARE_FUZZ_SECONDS", "10"))
BATCH = 300


@st.composite
def mutated(draw: st.DrawFn, corpus: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """Draws an example with up to six edits: bytes or tokens put in, taken out, doubled or changed."""
    data = draw(st.sampled_from(corpus) | st.binary(max_size=40))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 30)))
        match draw(st.integers(0, 5)):
            case 0 | 1 if tokens:
                data = data[:at] + draw(st.sampled_from(tokens)) + data[at:]
            case 2:
                data = data[:at] + draw(st.binary(max_size=6)) + data[at:]
            case 3:
                data = data[:at] + data[end:]
            case 4:
                data = data[:end] + data[at:]
            case _:
                data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
    return data


def fuzz(examples: st.SearchStrategy[bytes], check: Callable[[bytes], None]) -> int:
    """Checks examples until the time is over; returns how many.  A failing one is made small and shown."""
    count = 0

    def one(data: bytes) -> None:
        nonlocal count
        count += 1
        check(data)

    until, batches = time.monotonic() + SECONDS, 0
    rules = settings(
        max_examples=BATCH, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    while time.monotonic() < until:
        seed(batches)(rules(given(examples)(one)))()
        batches += 1
    return count
