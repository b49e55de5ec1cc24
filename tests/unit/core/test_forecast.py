"""Tests of positions and times: the queue played forward."""

import gc

import pytest

from gpushare.core import forecast
from gpushare.core.model import Lane
from gpushare.core.scheduler import Forecast
from tests.unit.queue import BACK, FRONT, Queue


def test_a_free_slot_is_now() -> None:
    """The first call in line starts at once when a slot is free, whatever is known of its model."""
    queue = Queue()
    queue.scheduler.set_resident("gpu", ["new"], 0.0)
    ticket = queue.send("alice", model="new")
    assert queue.scheduler.forecast(ticket, 0.0) == Forecast(position=0, eta_s=0.0, loads=False)


def test_the_first_in_line_waits_for_the_running_call() -> None:
    """The first call starts when the running one is expected to end."""
    queue = Queue()
    queue.send("alice")
    queue.run(0.0)
    ticket = queue.send("bob")
    assert queue.scheduler.forecast(ticket, 4.0) == Forecast(position=0, eta_s=6.0, loads=False)


def test_what_runs_is_expected_to_go_on_as_long_as_others_that_ran_so_far() -> None:
    """What is left is the rest of the longer ones, not the mean less the time gone by; never nothing."""
    queue = Queue()
    queue.teach("alice", 2.0, 2.0, 2.0, 20.0, 30.0, 40.0)
    queue.send("alice")
    queue.run(0.0)
    ticket = queue.send("bob")
    told = [queue.scheduler.forecast(ticket, now).eta_s for now in (0.0, 10.0, 60.0)]
    assert told == [16.0, 20.0, 20.0]


def test_later_calls_start_as_slots_become_free() -> None:
    """Each call takes the slot that is free first."""
    queue = Queue(slots=2)
    queue.send("a")
    queue.run(0.0)
    queue.send("b")
    queue.run(3.0)
    for owner in ("c", "d", "e"):
        queue.send(owner)
    assert queue.told(4.0) == {"t3": 6.0, "t4": 9.0, "t5": 16.0}


def test_an_owners_own_calls_tell_more_than_everybodys() -> None:
    """Five calls of an owner are enough to go by; fewer are not."""
    queue = Queue()
    queue.teach("alice", 30.0)
    queue.teach("bob", 1.0, 1.0)
    for owner in ("alice", "bob", "carol"):
        queue.send(owner)
    mean_s = (5 * 10.0 + 5 * 30.0 + 2 * 1.0) / 12
    assert queue.told() == {"t1": 0.0, "t2": 30.0, "t3": pytest.approx(30.0 + mean_s)}


def test_a_model_that_has_to_be_loaded_adds_its_load_time() -> None:
    """A call whose model is not loaded starts after the load, which begins when what runs has ended."""
    queue = Queue(stay_s=0.0)
    queue.scheduler.habits.loaded("other", 30.0)
    queue.teach("alice", 10.0, model="other")
    queue.send("bob")
    queue.run(0.0)
    ticket = queue.send("alice", model="other")
    assert queue.scheduler.forecast(ticket, 4.0).eta_s == 6.0 + 30.0


def test_a_load_that_has_begun_goes_on() -> None:
    """Who waits behind a load waits for what is left of it, and for the call it is for."""
    queue = Queue(stay_s=0.0)
    queue.scheduler.habits.loaded("other", 30.0)
    queue.teach("alice", 10.0, model="other")
    queue.send("alice", model="other")
    queue.grant(0.0)
    ticket = queue.send("bob", model="other")
    assert queue.scheduler.forecast(ticket, 12.0).eta_s == (30.0 - 12.0) + 10.0


def test_loads_are_measured_from_when_they_can_begin() -> None:
    """The time counts from the end of the last call of the model that goes, once for all that wait."""
    queue = Queue(slots=2, stay_s=0.0)
    queue.teach("bob", 10.0, model="other")
    queue.send("alice")
    old = queue.run(0.0)
    queue.send("bob", model="other")
    swap = queue.grant(1.0)
    queue.scheduler.finished(old, 5.0)
    queue.send("carol", model="other", now=5.0)
    queue.grant(5.0)
    queue.scheduler.loaded(swap, 12.0)
    assert queue.scheduler.habits.load_left_s("other", 0.0) == 7.0


def test_a_swap_put_off_is_foreseen() -> None:
    """Calls for the loaded model go first until it has had its time, and are told so."""
    queue = Queue(stay_s=25.0)
    queue.scheduler.habits.loaded("other", 5.0)
    queue.teach("alice", 10.0, model="other")
    queue.send("alice", model="other")
    for _ in range(4):
        queue.send("bob")
    assert queue.told() == {"t2": 0.0, "t3": 10.0, "t4": 20.0, "t1": 35.0, "t5": None}


def test_a_limit_on_running_calls_is_foreseen() -> None:
    """Calls beyond an owner's limit let others by, free slot or not."""
    queue = Queue(slots=2)
    queue.scheduler.set_owner("alice", max_running=1)
    for owner in ("alice", "alice", "bob", "bob"):
        queue.send(owner)
    assert queue.told() == {"t1": 0.0, "t3": 0.0, "t2": 10.0, "t4": 10.0}


def test_who_comes_back_at_once_is_expected_to() -> None:
    """A client that sends the next call when one has ended will go between the calls of somebody else."""
    queue = Queue()
    for second in range(0, 120, 10):
        queue.send("loop", now=float(second))
        queue.scheduler.finished(queue.run(float(second)), second + 10.0)
    queue.send("loop", now=120.0)
    lease, now = queue.run(120.0), 120.0
    for _ in range(3):
        queue.send("bob", now=120.0)
    told = queue.told(now)
    started: dict[str, float] = {}
    while len(started) < 3:
        now += 10.0
        queue.scheduler.finished(lease, now)
        if lease.ticket.owner == "loop":
            queue.send("loop", now=now)
        lease = queue.run(now)
        if lease.ticket.owner == "bob":
            started[lease.ticket.id] = now - 120.0
    assert told == started == {"t14": 10.0, "t15": 20.0, "t16": 40.0}


def test_who_usually_stays_away_for_long_is_not_expected() -> None:
    """Nobody knows when a person who reads and thinks asks again."""
    queue = Queue()
    for now in range(0, 600, 50):
        queue.send("slow", now=float(now))
        queue.scheduler.finished(queue.run(float(now)), now + 10.0)
    queue.send("slow", now=600.0)
    queue.run(600.0)
    for _ in range(3):
        queue.send("bob", now=600.0)
    assert list(queue.told(600.0).values()) == [10.0, 20.0, 30.0]


@pytest.mark.parametrize("unknown", ["its own model", "what runs", "what waits", "a load"])
def test_a_guess_is_not_told(unknown: str) -> None:
    """Five calls of every model that counts, and one load of it, have to have been seen."""
    queue = Queue(stay_s=0.0)
    queue.teach("alice", *[10.0] * 4, model="rare")
    if unknown == "a load":
        queue.teach("alice", 10.0, model="rare")
    queue.scheduler.set_resident("gpu", ["m"] if unknown == "a load" else ["m", "rare"], 0.0)
    queue.send("alice", model="rare" if unknown == "what runs" else "m")
    queue.run(0.0)
    if unknown == "what waits":
        queue.send("carol", model="rare")
    last = queue.send("bob", model="rare" if unknown in ("its own model", "a load") else "m")
    assert queue.scheduler.forecast(last, 1.0).eta_s is None
    queue.teach("alice", 10.0, model="rare")
    queue.scheduler.habits.loaded("rare", 5.0)
    assert queue.scheduler.forecast(last, 1.0).eta_s is not None


def test_a_long_wait_is_told_no_further_than_it_is_of_use() -> None:
    """What starts in more than ten minutes is told to start then."""
    queue = Queue()
    for _ in range(80):
        queue.send("alice")
    told = list(queue.told().values())
    assert told[:61] == [10.0 * place for place in range(61)]
    assert told[61:] == [forecast.LONGEST_S] * 19


@pytest.mark.parametrize("trouble", ["paused", "down"])
def test_no_time_is_told_when_nothing_can_start(trouble: str) -> None:
    """Paused or down: the position is known, the time is not."""
    queue = Queue()
    queue.send("alice")
    ticket = queue.send("alice")
    if trouble == "paused":
        queue.scheduler.set_paused(True, 0.0)
    else:
        queue.scheduler.set_up("gpu", False, 0.0)
    assert queue.scheduler.forecast(ticket, 0.0) == Forecast(position=1, eta_s=None, loads=False)


def test_a_call_that_does_not_wait_has_no_forecast() -> None:
    """A cancelled call stands nowhere."""
    queue = Queue()
    ticket = queue.send("alice")
    queue.scheduler.cancel(ticket, 0.0)
    assert queue.scheduler.forecast(ticket, 0.0) == Forecast(position=0, eta_s=None)


def test_the_forecast_order_is_the_order_of_service() -> None:
    """With known costs the calls are served in the order that was told, debts and classes included."""
    queue = Queue()
    for owner, calls in (("a", 4), ("b", 2), ("c", 1)):
        for _ in range(calls):
            queue.send(owner)
    for _ in range(2):
        queue.send("d", service=BACK)
    queue.scheduler.set_owner("b", weight=4.0)
    queue.scheduler.accounts.flow("a", FRONT).deficit = -400.0
    told = queue.order()
    assert told == queue.served()
    assert len(told) == 9


def test_a_guess_is_not_told_to_newcomers() -> None:
    """What a new call would be told follows the same rules: at once, a known time, or nothing."""
    queue = Queue(slots=2)
    queue.teach("alice", *[10.0] * 4, model="rare")
    queue.scheduler.set_resident("gpu", ["m", "rare"], 0.0)
    told = []
    for owner in ("alice", "bob"):
        queue.send(owner)
        queue.run(0.0)
        forecasts = (
            queue.scheduler.forecast_new("new", FRONT, model, Lane.GENERATE, 4.0) for model in ("m", "rare")
        )
        told.append([forecast.eta_s for forecast in forecasts])
    assert told == [[0.0, 0.0], [6.0, None]]


@pytest.mark.parametrize(("owner", "position"), [("alice", 3), ("new", 1)])
def test_a_call_can_be_forecast_before_it_comes(owner: str, position: int) -> None:
    """A newcomer would go before an owner's second call; the owner itself would stand last."""
    queue = Queue()
    for _ in range(3):
        queue.send("alice")
    queue.send("bob")
    queue.grant(0.0)
    expected = queue.scheduler.forecast_new(owner, FRONT, "m", Lane.GENERATE, 0.0)
    assert expected == Forecast(position=position, eta_s=10.0 * (position + 1), loads=False)
    assert expected == queue.scheduler.forecast(queue.send(owner), 0.0)


def test_lanes_do_not_wait_for_each_other() -> None:
    """Generations before an embedding do not delay it; they stand in lines of their own."""
    queue = Queue()
    queue.scheduler.add_backend("embed", slots=2, lane=Lane.EMBED)
    queue.scheduler.set_resident("embed", ["m"], 0.0)
    for _ in range(5):
        queue.send("alice")
    queue.run(0.0)
    embedding = queue.scheduler.forecast_new("alice", FRONT, "m", Lane.EMBED, 0.0)
    assert embedding == Forecast(position=0, eta_s=0.0, loads=False)
    queue.send("alice", lane=Lane.EMBED)
    rows = queue.scheduler.snapshot(0.0).waiting
    assert [(row.id, row.position) for row in rows] == [
        ("t2", 1),
        ("t3", 2),
        ("t4", 3),
        ("t5", 4),
        ("t6", 1),
    ]


def test_deep_debt_takes_no_time_to_forecast() -> None:
    """Everybody far in debt is played forward in whole laps, in the right order."""
    queue = Queue()
    for owner in ("a", "b"):
        queue.send(owner)
    queue.scheduler.accounts.flow("a", FRONT).deficit = -60_003.0
    queue.scheduler.accounts.flow("b", FRONT).deficit = -50_003.0
    assert queue.order() == ["t2", "t1"] == queue.served()


def test_a_look_leaves_nothing_to_the_collector() -> None:
    """However it ends, a play is free at once: it holds the calls that wait."""
    queue = Queue(slots=2)
    for number in range(20):
        queue.send(f"o{number % 3}")
    queue.run(0.0)
    queue.run(0.0)
    gc.collect()
    gc.disable()
    try:
        queue.scheduler.snapshot(4.0)
        queue.scheduler.forecast_new("new", FRONT, "m", Lane.GENERATE, 4.0)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_newcomers_with_credit_left_take_turns() -> None:
    """Owners in NEW alternate while their first quantum lasts, and the forecast knows it."""
    queue = Queue()
    for _ in range(20):
        queue.scheduler.costs.learn("anybody", "m", 0.5)
    for owner in ("a", "a", "b", "b"):
        queue.send(owner)
    assert queue.order() == ["t1", "t3", "t2", "t4"] == queue.served()
