"""Clients that are turned away and come back when they were told to."""

import random

from gpushare.core.errors import spread_retry_s
from gpushare.core.model import Service
from tests.simulation.scenarios import make
from tests.simulation.simulator import Simulation

PER_OWNER = 8
IN_ALL = 64


class Door:
    """Admission as the gateway does it, on the virtual clock, with the tries that obeyed ``Retry-After``."""

    def __init__(self, sim: Simulation, seed: int) -> None:
        self.sim = sim
        self.rng = random.Random(seed)
        self.told: list[int] = []
        self.came_back = 0
        self.got_in = 0

    def send(self, owner: str, cost_s: float, *, again: bool = False) -> None:
        """Sends a call; when it is refused it comes back at the time it was told."""
        wait_s = self._refusal(owner)
        self.came_back += again
        self.got_in += again and wait_s is None
        if wait_s is None:
            self.sim.submit(owner, cost_s)
        else:
            self.told.append(wait_s)
            self.sim.after(wait_s, lambda: self.send(owner, cost_s, again=True))

    def _refusal(self, owner: str) -> int | None:
        scheduler, now = self.sim.scheduler, self.sim.now
        mine = scheduler.waiting(owner)
        if mine >= PER_OWNER:
            base = scheduler.refuse_own(owner, Service.INTERACTIVE, now)
        elif mine and scheduler.n_wait >= IN_ALL:
            base = scheduler.refuse_any(now)
        else:
            return None
        return spread_retry_s(base, self.rng.random())


def bursts(
    *,
    owners: int,
    calls: int,
    cost_s: float,
    slots: int,
    every_s: float,
    apart_s: float = 15.0,
    seed: int = 1,
) -> Door:
    """Owners that each send a burst of calls now and then, more than they may have waiting."""
    sim = make(slots=slots, quantum=None)
    door = Door(sim, seed)
    rng = random.Random(seed)
    for index in range(owners):
        for burst in range(20):
            start = burst * every_s + rng.uniform(0, apart_s)
            for _ in range(calls):
                sim.after(
                    start + rng.uniform(0, 0.2),
                    lambda name=f"o{index}": door.send(name, rng.uniform(0.5, 1.5) * cost_s),  # type: ignore[misc]
                )
    sim.run(21 * every_s)
    return door
