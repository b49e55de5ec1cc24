"""How long after its client has left a call's place, slot and connection to Ollama are free.

Clients, gateway and simulated Ollama share one event loop, so that the moment of each step is known; what
they cost each other counts.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from tests.harness import Gate, gateway
from tests.integration.leaving import STATES, WAYS, Situation
from tests.measures.common import at, table, tell
from tests.unit.web.wire import Wire

REPEATS = 1000
"""Of each state and way."""
PROMISED_S = 0.1
SOME = 50
"""So many at one gateway: what it notes of each call is kept for the check at its end."""


async def seconds_until(condition: Callable[[], object]) -> float:
    """Returns how long a condition takes to come true, to within one pass of the loop."""
    begun = time.perf_counter()
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)
    return time.perf_counter() - begun


async def one_departure(gate: Gate, situation: Situation, leave: Callable[[Wire], None]) -> float:
    """Returns the time from a client's leaving until its place or slot is free and its connection closed."""
    async with situation.reach(gate) as stand:
        live = next(reversed(gate.parts.gateway.live.values()))
        entry = stand.entry
        leave(stand.wire)
        return await seconds_until(
            lambda: live.request_id not in gate.parts.gateway.live and (entry is None or entry.cancelled)
        )


async def departures(state: str, way: str, repeats: int) -> list[float]:
    """Returns the times of so many departures; at the end of each gateway nothing is left."""
    times: list[float] = []
    while len(times) < repeats:
        with tempfile.TemporaryDirectory() as folder:
            async with gateway(Path(folder)) as gate:
                some = min(SOME, repeats - len(times))
                times += [await one_departure(gate, STATES[state], WAYS[way]) for _ in range(some)]
    return times


def measure(repeats: int = REPEATS) -> None:
    """Tells the times of each state, all ways together, and of each way, all states together."""
    by_state: dict[str, list[float]] = {state: [] for state in STATES}
    by_way: dict[str, list[float]] = {way: [] for way in WAYS}
    for state in STATES:
        for way in WAYS:
            times = uvloop.run(departures(state, way, repeats))
            by_state[state] += times
            by_way[way] += times
    tell(f"From the client's leaving to Ollama's connection closed, in ms; {repeats} of each state and way:")
    rows = [*by_state.items(), *by_way.items()]
    table(
        ("left in, or by", "departures", "p50", "p99", "longest", "above 100 ms"),
        [
            (
                f"`{name}`",
                len(times),
                *(f"{1000 * at(share, times):.1f}" for share in (0.5, 0.99, 1)),
                sum(one > PROMISED_S for one in times),
            )
            for name, times in rows
        ],
    )
