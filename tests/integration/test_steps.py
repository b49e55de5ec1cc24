"""What a short call costs, counted in steps: a clock would measure the machine, and who else is on it."""

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Self

import gpushare
from tests.harness import Gate, chat

CALLS = 20
MOST_STEPS = 400
"""How many functions of ours a short call may enter, each for about 0.5 us; it is 364.

What needs more should be worth it: then this grows with it.
"""
_OURS = str(Path(gpushare.__file__).parent)
_SIMULATED = str(Path(_OURS) / "sim")


class Steps:
    """Counts by name the functions of the gateway that are entered, while it is in force."""

    def __init__(self) -> None:
        self.entered: Counter[str] = Counter()

    def __enter__(self) -> Self:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_exc: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _arg: object) -> None:
        code = frame.f_code
        if (
            event == "call"
            and code.co_filename.startswith(_OURS)
            and not code.co_filename.startswith(_SIMULATED)
        ):
            self.entered[code.co_qualname] += 1


async def test_a_short_call_takes_few_steps(gate: Gate) -> None:
    """A call that nobody stands before, on a new connection, enters a bounded number of functions."""
    body = chat("#sim:tokens=1", stream=False)
    for _ in range(CALLS):  # these make what the others find
        assert (await gate.post("/api/chat", body))[0] == 200
    with Steps() as steps:
        for _ in range(CALLS):
            assert (await gate.post("/api/chat", body))[0] == 200
    each = Counter({name: count / CALLS for name, count in steps.entered.items() if count >= CALLS})
    assert each["LiveCall.record"] == 1
    most = each.most_common(20)
    assert sum(each.values()) < MOST_STEPS, most
