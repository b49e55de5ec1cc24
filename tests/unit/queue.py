"""A scheduler with one backend that has the model loaded, and calls that are known to take 10 s."""

from gpushare.core.habits import NEEDED
from gpushare.core.model import Lane, Service
from gpushare.core.scheduler import Lease, Params, Scheduler, Ticket

FRONT, BACK = Service.INTERACTIVE, Service.BACKGROUND


class Queue:
    """Calls are named t1, t2 and so on, in the order in which they were sent."""

    def __init__(self, *, slots: int = 1, stay_s: float | None = None) -> None:
        self.scheduler = Scheduler(Params(quantum=5.0, stay_on_model=stay_s))
        self.scheduler.add_backend("gpu", slots=slots)
        self.scheduler.set_resident("gpu", ["m"], 0.0)
        self.scheduler.costs.learn("anybody", "m", 10.0)
        self.teach("anybody", 10.0)
        self.count = 0

    def teach(self, owner: str, *lengths_s: float, model: str = "m") -> None:
        """Tells how long an owner's calls took; a single length is told as often as is needed."""
        ticket = Ticket(id="", owner=owner, service=FRONT, model=model)
        for length_s in lengths_s if len(lengths_s) > 1 else lengths_s * NEEDED:
            self.scheduler.habits.took(ticket, length_s)

    def send(
        self,
        owner: str,
        *,
        service: Service = FRONT,
        model: str = "m",
        lane: Lane = Lane.GENERATE,
        now: float = 0.0,
    ) -> Ticket:
        """Adds a call."""
        self.count += 1
        ticket = Ticket(id=f"t{self.count}", owner=owner, service=service, model=model, lane=lane)
        self.scheduler.add(ticket, now)
        return ticket

    def grant(self, now: float) -> Lease:
        """Grants a slot."""
        lease = self.scheduler.pick(now)
        assert lease is not None
        return lease

    def run(self, now: float) -> Lease:
        """Grants a slot and begins the call."""
        lease = self.grant(now)
        self.scheduler.started(lease, now)
        return lease

    def told(self, now: float = 0.0) -> dict[str, float | None]:
        """Returns when each waiting call is told to start, in the order they are forecast."""
        return {row.id: row.eta_s for row in self.scheduler.snapshot(now).waiting}

    def order(self, now: float = 0.0) -> list[str]:
        """Returns the waiting calls in the order they are forecast."""
        return list(self.told(now))

    def served(self, now: float = 0.0) -> list[str]:
        """Serves all waiting calls one by one, 10 s each; returns the order they really went in."""
        ids = []
        while (lease := self.scheduler.pick(now)) is not None:
            ids.append(lease.ticket.id)
            self.scheduler.started(lease, now)
            now += 10.0
            self.scheduler.finished(lease, now)
        return ids
