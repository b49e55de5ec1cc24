"""Tests of positions and times."""

import pytest

from gpushare.core.model import Lane, Service
from gpushare.core.scheduler import Forecast, Params, Scheduler, Ticket

FRONT, BACK = Service.INTERACTIVE, Service.BACKGROUND


class Queue:
    """A scheduler with one backend that has the model loaded, and calls that are known to cost 10 s."""

    def __init__(self, *, slots: int = 1) -> None:
        self.scheduler = Scheduler(Params(quantum=5.0))
        self.scheduler.add_backend("gpu", slots=slots)
        self.scheduler.set_resident("gpu", ["m"], 0.0)
        self.scheduler.costs.learn("anybody", "m", 10.0)
        self.count = 0

    def send(self, owner: str, *, service: Service = FRONT, model: str = "m", now: float = 0.0) -> Ticket:
        """Adds a call."""
        self.count += 1
        ticket = Ticket(id=f"t{self.count}", owner=owner, service=service, model=model)
        self.scheduler.add(ticket, now)
        return ticket

    def grant(self, now: float) -> None:
        """Grants a slot and begins the call."""
        lease = self.scheduler.pick(now)
        assert lease is not None
        self.scheduler.started(lease, now)

    def order(self, now: float = 0.0) -> list[str]:
        """Returns the waiting calls in the order they are forecast."""
        return [row.id for row in self.scheduler.snapshot(now).waiting]

    def served(self, now: float = 0.0) -> list[str]:
        """Serves all waiting calls one by one; returns the order they really went in."""
        ids = []
        while (lease := self.scheduler.pick(now)) is not None:
            ids.append(lease.ticket.id)
            self.scheduler.started(lease, now)
            now += 10.0
            self.scheduler.finished(lease, now)
        return ids


def test_a_free_slot_is_now() -> None:
    """The first call in line starts at once when a slot is free."""
    queue = Queue()
    ticket = queue.send("alice")
    assert queue.scheduler.forecast(ticket, 0.0) == Forecast(position=0, eta_s=0.0)


def test_the_first_in_line_waits_for_the_running_call() -> None:
    """The first call starts when the running one is expected to end."""
    queue = Queue()
    queue.send("alice")
    queue.grant(0.0)
    ticket = queue.send("bob")
    assert queue.scheduler.forecast(ticket, 4.0) == Forecast(position=0, eta_s=6.0)


def test_later_calls_wait_for_the_work_before_them() -> None:
    """Work before a call is spread over all slots."""
    queue = Queue(slots=2)
    for owner in ("a", "b"):
        queue.send(owner)
        queue.grant(0.0)
    for owner in ("c", "d"):
        queue.send(owner)
    ticket = queue.send("e")
    assert queue.scheduler.forecast(ticket, 4.0) == Forecast(position=2, eta_s=(6 + 6 + 10 + 10) / 2)


def test_an_owners_later_calls_go_by_its_own_pace() -> None:
    """By Little's law the k-th call of an owner starts after k+1 of the owner's gaps."""
    queue = Queue()
    tickets = [queue.send("alice") for _ in range(5)]
    for now in (0.0, 20.0):
        queue.grant(now)
        queue.scheduler.finished(next(iter(queue.scheduler.accounts.leases)), now + 20.0)
    assert queue.scheduler.forecast(tickets[4], 40.0).eta_s == pytest.approx(3 * 20.0 - 20.0)


def test_a_model_that_has_to_be_loaded_adds_its_load_time() -> None:
    """A call whose model is not loaded starts after the load."""
    queue = Queue()
    queue.scheduler.learn_load("other", 30.0)
    ticket = queue.send("alice", model="other")
    assert queue.scheduler.forecast(ticket, 0.0).eta_s == 30.0


@pytest.mark.parametrize("trouble", ["paused", "down", "draining"])
def test_no_time_is_told_when_nothing_can_start(trouble: str) -> None:
    """Paused, down or draining: the position is known, the time is not."""
    queue = Queue()
    queue.send("alice")
    ticket = queue.send("alice")
    if trouble == "paused":
        queue.scheduler.set_paused(True, 0.0)
    elif trouble == "down":
        queue.scheduler.set_up("gpu", False, 0.0)
    else:
        queue.scheduler.set_draining("gpu", True, 0.0)
    assert queue.scheduler.forecast(ticket, 0.0) == Forecast(position=1, eta_s=None)


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


@pytest.mark.parametrize(("owner", "position"), [("alice", 3), ("new", 1)])
def test_a_call_can_be_forecast_before_it_comes(owner: str, position: int) -> None:
    """A newcomer would go before an owner's second call; the owner itself would stand last."""
    queue = Queue()
    for _ in range(3):
        queue.send("alice")
    queue.send("bob")
    queue.scheduler.pick(0.0)
    queue.scheduler.pick(0.0)
    expected = queue.scheduler.forecast_new(owner, FRONT, "m", Lane.GENERATE, 0.0)
    assert expected.position == queue.scheduler.forecast(queue.send(owner), 0.0).position == position


def test_lanes_do_not_wait_for_each_other() -> None:
    """Generations before an embedding do not delay it."""
    queue = Queue()
    queue.scheduler.add_backend("embed", slots=2, lane=Lane.EMBED)
    queue.scheduler.set_resident("embed", ["m"], 0.0)
    for _ in range(5):
        queue.send("alice")
    assert queue.scheduler.forecast_new("alice", FRONT, "m", Lane.EMBED, 0.0) == Forecast(
        position=0, eta_s=0.0
    )


def test_deep_debt_takes_no_time_to_forecast() -> None:
    """Everybody far in debt is played forward in whole laps, in the right order."""
    queue = Queue()
    for owner in ("a", "b"):
        queue.send(owner)
    queue.scheduler.accounts.flow("a", FRONT).deficit = -60_003.0
    queue.scheduler.accounts.flow("b", FRONT).deficit = -50_003.0
    assert queue.order() == ["t2", "t1"] == queue.served()


def test_the_work_before_an_owners_last_call_tells_its_pace() -> None:
    """The time to an owner's youngest call counts what runs and what is served before it."""
    queue = Queue()
    for owner in ("alice", "bob", "bob"):
        queue.send(owner)
    queue.grant(0.0)
    queue.send("alice")
    assert queue.scheduler.refuse_own("bob", FRONT, 4.0) == pytest.approx(1.25 * (6.0 + 20.0) / 2)


def test_newcomers_with_credit_left_take_turns() -> None:
    """Owners in NEW alternate while their first quantum lasts, and the forecast knows it."""
    queue = Queue()
    for _ in range(20):
        queue.scheduler.costs.learn("anybody", "m", 0.5)
    for owner in ("a", "a", "b", "b"):
        queue.send(owner)
    assert queue.order() == ["t1", "t3", "t2", "t4"] == queue.served()


@pytest.mark.parametrize("owner", ["a", "b", "c"])
def test_what_an_admission_asks_agrees_with_the_queue_played_forward(owner: str) -> None:
    """The closed formula and the play agree on a queue of several owners, to half a call."""
    queue = Queue(slots=2)
    queue.scheduler.set_owner("b", weight=2.0)
    for name, calls in (("a", 6), ("b", 5), ("c", 2)):
        for _ in range(calls):
            queue.send(name)
    for _ in range(2):
        queue.grant(0.0)
    played = queue.scheduler.forecast_new(owner, FRONT, "m", Lane.GENERATE, 4.0).eta_s
    assert played is not None
    assert queue.scheduler.starts_in_s(owner, FRONT, "m", Lane.GENERATE, 4.0) == pytest.approx(
        played, abs=5.0
    )


def test_what_an_admission_asks_goes_by_the_owners_pace_and_the_load() -> None:
    """A measured pace tells the time; a model that is not loaded adds its load."""
    queue = Queue()
    queue.scheduler.learn_load("other", 30.0)
    for _ in range(5):
        queue.send("alice")
    for now in (0.0, 20.0):
        queue.grant(now)
        queue.scheduler.finished(next(iter(queue.scheduler.accounts.leases)), now + 20.0)
    for model, load_s in (("m", 0.0), ("other", 30.0)):
        about = queue.scheduler.starts_in_s("alice", FRONT, model, Lane.GENERATE, 40.0)
        assert about == queue.scheduler.forecast_new("alice", FRONT, model, Lane.GENERATE, 40.0).eta_s
        assert about == pytest.approx(4 * 20.0 - 20.0 + load_s)


def test_what_an_admission_asks_is_rather_too_soon_in_a_crowd() -> None:
    """Only some flows are looked at, so nobody is turned away for work that was guessed."""
    queue = Queue()
    for _ in range(3):
        for number in range(200):
            queue.send(f"o{number}")
    about = queue.scheduler.starts_in_s("o0", FRONT, "m", Lane.GENERATE, 0.0)
    played = queue.scheduler.forecast_new("o0", FRONT, "m", Lane.GENERATE, 0.0).eta_s
    assert about is not None
    assert played is not None
    assert 600.0 < about < played


def test_the_other_class_is_waited_for_by_its_weight() -> None:
    """A background call also waits for the interactive calls that go before it, and only for those."""
    queue = Queue()
    queue.send("batch", service=BACK)
    for _ in range(4):
        queue.send("alice")
    about = queue.scheduler.starts_in_s("batch", BACK, "m", Lane.GENERATE, 0.0)
    assert about == queue.scheduler.forecast_new("batch", BACK, "m", Lane.GENERATE, 0.0).eta_s == 50.0


def test_no_time_is_told_at_admission_when_nothing_can_start() -> None:
    """A paused queue tells no time, a free slot is now."""
    queue = Queue()
    assert queue.scheduler.starts_in_s("alice", FRONT, "m", Lane.GENERATE, 0.0) == 0.0
    queue.scheduler.set_paused(True, 0.0)
    assert queue.scheduler.starts_in_s("alice", FRONT, "m", Lane.GENERATE, 0.0) is None
