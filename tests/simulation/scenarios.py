"""Situations that told good schedulers from bad ones, each as one function that returns what was measured."""

import random
from types import ModuleType

import gpushare.core.scheduler as real_core
from gpushare.core.model import Service
from tests.simulation.simulator import LagWatch, Simulation, about, flood, jain, person

HOUR_S = 3600.0
WARM_UP_S = 600.0


def make(
    core: ModuleType = real_core,
    *,
    slots: int = 1,
    quantum: float | None = 5.0,
    stay_s: float = 0.0,
    load_s: float = 0.0,
) -> Simulation:
    """Returns a simulation of one backend."""
    scheduler = core.Scheduler(core.Params(quantum=quantum, stay_on_model=stay_s))
    scheduler.add_backend("gpu", slots=slots)
    return Simulation(scheduler, core=core, load_s=load_s)


def measured(sim: Simulation, hours: float) -> dict[str, float]:
    """Runs past the warm-up and returns everybody's share of the time after it."""
    sim.run(WARM_UP_S)
    before = sim.served()
    sim.run(WARM_UP_S + hours * HOUR_S)
    return sim.shares(before)


def serial_client_share(core: ModuleType = real_core, *, slots: int, hours: float = 2.0) -> float:
    """The share of a client that sends 60 s calls one by one, beside three full queues (fair: 1/4)."""
    sim = make(core, slots=slots)
    rng = random.Random(1)
    for name in ("o0", "o1", "o2"):
        flood(sim, name, about(rng, 10), parallel=8)
    person(sim, "serial", lambda: 60.0, lambda: 0.0)
    return measured(sim, hours)["serial"]


def light_waits(
    slots: int, *, seeds: range, hours: float = 4.0, patience_s: float | None = None
) -> list[float]:
    """Waits of four people who think between calls, beside a script with 64 calls in the queue."""
    waits: list[float] = []
    people = {f"p{i}" for i in range(4)}
    for seed in seeds:
        sim = make(slots=slots)
        rng = random.Random(seed)
        flood(sim, "script", about(rng, 20), parallel=64)
        for name in sorted(people):
            cost = about(rng, 6)
            person(sim, name, cost, lambda rng=rng: rng.expovariate(1 / 45), patience_s=patience_s)  # type: ignore[misc]
        sim.run(hours * HOUR_S)
        waits += sim.waits(people, after=WARM_UP_S)
    return sorted(waits)


def after_an_idle_gpu(core: ModuleType = real_core) -> float:
    """Seconds until somebody who used an idle GPU for half an hour is served beside newcomers."""
    sim = make(core)
    person(sim, "early", lambda: 60.0, lambda: 0.1)
    sim.run(1800.0)
    for name in ("late1", "late2"):
        flood(sim, name, lambda: 5.0, parallel=8)
    sim.run(1801.0)
    start = sim.now
    sim.submit("early", 5.0)
    sim.run(start + 1200)
    mine = [job for job in sim.jobs if job.owner == "early" and job.arrived >= start]
    return min((job.started - start for job in mine if job.started is not None), default=float("inf"))


def lonely_model_share(core: ModuleType = real_core, *, slots: int = 1, stay_s: float = 40.0) -> float:
    """The share of one owner alone on a model that two sparse users keep loading (fair: about 1/6)."""
    sim = make(core, slots=slots, stay_s=stay_s, load_s=stay_s / 2)
    rng = random.Random(3)
    flood(sim, "lonely", about(rng, 10), parallel=8, model="rare")
    for index in range(5):
        flood(sim, f"o{index}", about(rng, 10), parallel=8, model=f"m{index % 2}")
    for name in ("s1", "s2"):
        person(sim, name, about(rng, 4), lambda: rng.expovariate(1 / 60), model="rare")
    return measured(sim, 2.0)["lonely"]


def models_contend(load_s: float, *, loads_to_stay: float, hours: float = 3.0) -> tuple[float, float, float]:
    """Three models, two scripts and a person each: swaps an hour, useful part, Jain of the scripts."""
    sim = make(stay_s=loads_to_stay * load_s, load_s=load_s)
    rng = random.Random(2)
    for index in range(3):
        model = f"m{index}"
        for letter in "ab":
            flood(sim, f"script-{letter}{index}", about(rng, 10), parallel=4, model=model)
        person(sim, f"person{index}", about(rng, 6), lambda: rng.expovariate(1 / 45), model=model)
    sim.run(WARM_UP_S)
    before, loads = sim.served(), sim.loads
    sim.run(WARM_UP_S + hours * HOUR_S)
    served = {name: used - before.get(name, 0.0) for name, used in sim.served().items()}
    scripts = [used for name, used in served.items() if name.startswith("script")]
    return (sim.loads - loads) / hours, sum(served.values()) / (hours * HOUR_S), jain(scripts)


def unequal_floods(slots: int, *, hours: float = 4.0) -> tuple[dict[str, float], float]:
    """Eight full queues with mean costs from 1 to 40 s: the shares, and the worst lag of any pair."""
    sim = make(slots=slots)
    rng = random.Random(1)
    means = (1, 2, 4, 8, 12, 20, 30, 40)
    names = [f"o{index}" for index in range(len(means))]
    for name, mean in zip(names, means, strict=True):
        flood(sim, name, about(rng, mean), parallel=8)
    sim.run(WARM_UP_S)
    before = sim.served()
    watch = LagWatch(sim, dict.fromkeys(names, 1.0))
    sim.run(WARM_UP_S + hours * HOUR_S)
    return sim.shares(before), max(watch.worst().values())


def weighted_shares(core: ModuleType = real_core, *, slots: int = 1, hours: float = 2.0) -> dict[str, float]:
    """Shares of full queues with weights 1, 2 and 4."""
    sim = make(core, slots=slots)
    rng = random.Random(1)
    for name, weight in (("o0", 1), ("o1", 2), ("o2", 4)):
        sim.scheduler.set_owner(name, weight=weight)
        flood(sim, name, about(rng, 10), parallel=16)
    return measured(sim, hours)


def background_share(*, slots: int = 1, hours: float = 4.0) -> float:
    """The share of the background class beside an equally full interactive queue."""
    sim = make(slots=slots)
    rng = random.Random(1)
    flood(sim, "front", about(rng, 10), parallel=16)
    flood(sim, "back", about(rng, 10), parallel=16, service=Service.BACKGROUND)
    return measured(sim, hours)["back"]
