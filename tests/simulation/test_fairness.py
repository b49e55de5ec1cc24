"""What people get, measured on invented people: shares, waits, swaps.

The expected numbers come from a reference implementation measured apart from this one; the costs drawn here
differ from its costs, so the limits leave room for that and for nothing else.
"""

import random

import pytest

from gpushare.core.model import Service
from tests.simulation.scenarios import (
    after_an_idle_gpu,
    background_share,
    light_waits,
    lonely_model_share,
    make,
    measured,
    models_contend,
    serial_client_share,
    unequal_floods,
    weighted_shares,
)
from tests.simulation.simulator import Job, flood, jain, person, quantile


@pytest.mark.parametrize(("slots", "p50", "p95"), [(1, 12.0, 53.5), (2, 6.7, 25.4), (4, 3.5, 13.5)])
def test_light_users_wait_as_if_they_had_priority(slots: int, p50: float, p95: float) -> None:
    """Beside a script with 64 calls queued, light users wait little more than for what already runs."""
    waits = light_waits(slots, seeds=range(2))
    assert quantile(waits, 0.5) == pytest.approx(p50, rel=0.2)
    assert quantile(waits, 0.95) == pytest.approx(p95, rel=0.2)


def test_people_who_leave_cost_the_others_nothing() -> None:
    """Light users who go away after a while, in whatever state, change no share of the others' waits."""
    waits = light_waits(1, seeds=range(2), patience_s=60.0)
    assert quantile(waits, 0.95) <= 60.0
    assert len(waits) > 1000


@pytest.mark.parametrize(("slots", "bound"), [(1, 255.0), (2, 615.0), (4, 1335.0)])
def test_full_queues_get_equal_service_whatever_their_calls_cost(slots: int, bound: float) -> None:
    """Eight full queues with mean costs of 1 to 40 s get the same slot-seconds, within the lag bound."""
    shares, worst_lag = unequal_floods(slots)
    assert jain(list(shares.values())) > 0.999
    assert worst_lag < bound


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_shares_follow_weights(slots: int) -> None:
    """Weights 1, 2 and 4 give a seventh, two and four sevenths."""
    shares = weighted_shares(slots=slots)
    assert shares == pytest.approx({"o0": 1 / 7, "o1": 2 / 7, "o2": 4 / 7}, abs=0.005)


@pytest.mark.parametrize("slots", [1, 2])
def test_long_calls_one_after_the_other_get_a_fair_share_only(slots: int) -> None:
    """A client that never has anything queued pays its debt like everybody else."""
    assert serial_client_share(slots=slots) == pytest.approx(0.25, abs=0.01)


def test_using_an_idle_gpu_costs_nothing_later() -> None:
    """Who used the GPU while nobody else wanted it is served within a turn when others come."""
    assert after_an_idle_gpu() <= 60.0


def test_the_background_class_gets_its_part_and_no_more() -> None:
    """Background calls get a tenth beside a full interactive queue."""
    assert background_share() == pytest.approx(0.1, abs=0.01)


def test_the_background_class_gets_everything_when_nobody_else_waits() -> None:
    """The background class fills what the interactive one leaves."""
    sim = make()
    flood(sim, "back", lambda: 5.0, parallel=4, service=Service.BACKGROUND)
    assert measured(sim, 0.5)["back"] == pytest.approx(1.0)
    assert sim.served_s("back") == pytest.approx(sim.now, rel=0.01)


@pytest.mark.parametrize(
    ("load_s", "swaps", "useful"), [(5.0, 166.0, 0.77), (20.0, 56.0, 0.69), (60.0, 27.0, 0.55)]
)
def test_affinity_saves_the_gpu_from_loading_all_day(load_s: float, swaps: float, useful: float) -> None:
    """With three models in demand the GPU swaps as seldom as two load times of staying allow, fairly."""
    per_hour, part, fairness = models_contend(load_s, loads_to_stay=2.0)
    assert per_hour == pytest.approx(swaps, rel=0.2)
    assert part == pytest.approx(useful, rel=0.1)
    assert fairness > 0.99


def test_without_affinity_loads_eat_the_gpu() -> None:
    """The same people without affinity leave a third of the GPU useful at 20 s a load."""
    _, part, _ = models_contend(20.0, loads_to_stay=0.0)
    assert part < 0.45


@pytest.mark.parametrize("slots", [1, 2])
def test_affinity_is_no_free_ride(slots: int) -> None:
    """Who is alone on a model that others keep loading gets little more than a fair share."""
    assert lonely_model_share(slots=slots) < 0.2


def test_p6_every_person_with_a_full_queue_gets_a_fair_part_of_any_20_services() -> None:
    """P6: with equal costs, each of K persons gets 1/K less 10 % of slot-seconds in any 20 mean services."""
    sim = make(slots=2, quantum=None)
    owners = [f"o{index}" for index in range(5)]
    for owner, parallel in zip(owners, (2, 4, 8, 30, 60), strict=True):
        flood(sim, owner, lambda: 4.0, parallel=parallel)
    sim.run(200.0)
    window = 20 * 4.0 / 2
    for _ in range(50):
        before = sim.served()
        sim.run(sim.now + window)
        assert min(sim.shares(before).values()) >= 1 / 5 - 0.1


def test_p6_calls_cut_short_are_charged_for_what_they_used() -> None:
    """P6: a client that cancels each answer half-way gets no more slot-seconds than the others."""
    sim = make(slots=1)
    flood(sim, "patient", lambda: 10.0, parallel=8)
    rng = random.Random(1)

    def send() -> None:
        job = sim.submit("hasty", 10.0, then=send)
        watch(job)

    def watch(job: Job) -> None:
        if job.started is None:
            sim.after(0.5, lambda: watch(job))
        else:
            sim.after(rng.uniform(1, 9), lambda: sim.give_up(job))

    for _ in range(8):
        sim.after(0.0, send)
    shares = measured(sim, 2.0)
    assert shares["hasty"] == pytest.approx(0.5, abs=0.02)


def grants_while_waiting(sim_jobs: list[Job], light: Job) -> dict[str, int]:
    """Returns how many calls each other owner was granted between a call's arrival and its own grant."""
    counts: dict[str, int] = {}
    for job in sim_jobs:
        if job.started is not None and light.arrived < job.lease.t_grant < light.lease.t_grant:
            counts[job.owner] = counts.get(job.owner, 0) + 1
    return counts


def test_p7_a_single_call_goes_before_anybody_is_granted_twice() -> None:
    """P7: with equal costs and weights, a person without debt waits for at most one grant of each other."""
    sim = make(slots=1, quantum=None)
    for index in range(4):
        flood(sim, f"o{index}", lambda: 2.0, parallel=10)
    rng = random.Random(2)
    for index in range(6):
        person(sim, f"p{index}", lambda: 2.0, lambda: 60 + rng.random() * 30)
    sim.run(3600.0)
    singles = [job for job in sim.jobs if job.owner.startswith("p") and job.started is not None]
    assert len(singles) > 100
    assert max(max(grants_while_waiting(sim.jobs, job).values(), default=0) for job in singles) == 1


def test_light_keys_wait_for_one_running_call_and_their_own_turn() -> None:
    """Beside a key flooding 50 calls of 0.2 s on one slot, p95 is the running call and the own turn."""
    sim = make(slots=1, quantum=None)
    flood(sim, "script", lambda: 0.2, parallel=50)
    rng = random.Random(3)
    light = {f"light{index}" for index in range(3)}
    for name in sorted(light):
        person(sim, name, lambda: 0.2, lambda: rng.expovariate(1 / 3))
    sim.run(600.0)
    mine = [job for job in sim.jobs if job.owner in light and job.started is not None]
    assert len(mine) > 300
    others_first = sorted(sum(grants_while_waiting(sim.jobs, job).values()) for job in mine)
    assert quantile([float(count) for count in others_first], 0.95) <= 2  # the other two light keys
    by_script = sorted(grants_while_waiting(sim.jobs, job).get("script", 0) for job in mine)
    assert quantile([float(count) for count in by_script], 0.95) == 0
    assert quantile(sim.waits(light), 0.95) <= 0.2 + 2 * 0.2 + 1e-9
