"""Tests of the choice of a ticket and a backend, with what is loaded taken into account."""

from gpushare.core.accounts import Accounts
from gpushare.core.backends import Backend
from gpushare.core.flows import State, Ticket
from gpushare.core.model import Lane, Service
from gpushare.core.turns import Turn

Q = 5.0


class Scene:
    """Waiting tickets and free backends at one instant."""

    def __init__(self, *backends: Backend, stay_s: float = 20.0) -> None:
        self.accounts = Accounts()
        self.backends = backends
        self.stay_s = stay_s
        self.count = 0

    def waits(
        self, owner: str, model: str, *, deficit: float | None = None, lane: Lane = Lane.GENERATE
    ) -> Ticket:
        """Adds a waiting ticket."""
        self.count += 1
        ticket = Ticket(
            id=f"t{self.count}",
            owner=owner,
            service=Service.INTERACTIVE,
            model=model,
            lane=lane,
            seq=self.count,
        )
        ticket.state = State.QUEUED
        self.accounts.enqueue(ticket, 0.0, quantum=Q)
        if deficit is not None:
            flow = self.accounts.flow(owner, Service.INTERACTIVE)
            flow.deficit = deficit
            self.accounts.rings[Service.INTERACTIVE].to_back(flow)
        return ticket

    def choose(self, now: float = 0.0) -> tuple[Ticket, Backend] | None:
        """Returns the choice."""
        return Turn(
            accounts=self.accounts, free=self.backends, now=now, quantum=Q, stay=lambda: self.stay_s
        ).choose()


def gpu(name: str = "gpu", *, resident: str | None = None, since: float = 0.0, slots: int = 1) -> Backend:
    """Returns a backend with a model loaded."""
    return Backend(name=name, slots=slots, resident={resident: since} if resident else {})


def test_nothing_is_chosen_when_nobody_can_be_served() -> None:
    """No waiting call, no free backend, or none of its lane: no choice."""
    assert Scene(gpu()).choose() is None
    scene = Scene(Backend(name="embed", slots=1, lane=Lane.EMBED))
    scene.waits("alice", "m")
    assert scene.choose() is None


def test_the_call_goes_where_its_model_is_loaded() -> None:
    """Of several free backends the one with the model serves."""
    there = gpu("b", resident="m")
    scene = Scene(gpu("a", resident="x"), there)
    ticket = scene.waits("alice", "m")
    assert scene.choose() == (ticket, there)


def test_a_swap_is_put_off_while_the_loaded_model_has_its_time() -> None:
    """Whoever wants the loaded model goes first until X after its load, and then the turn counts."""
    backend = gpu(resident="m", since=0.0)
    scene = Scene(backend, stay_s=20.0)
    rare = scene.waits("alice", "rare")
    common = scene.waits("bob", "m")
    assert scene.choose(now=19.0) == (common, backend)
    assert scene.choose(now=20.0) == (rare, backend)


def test_going_first_needs_an_overdraft_within_the_limit() -> None:
    """A flow further in debt than 2 X per slot does not go before others; then the swap happens."""
    backend = gpu(resident="m")
    scene = Scene(backend, stay_s=20.0)
    rare = scene.waits("alice", "rare", deficit=5.0)
    common = scene.waits("bob", "m", deficit=-39.0)
    assert scene.choose(now=1.0) == (common, backend)
    scene.accounts.flow("bob", Service.INTERACTIVE).deficit = -41.0
    assert scene.choose(now=1.0) == (rare, backend)


def test_nobody_waits_for_a_model_nobody_wants() -> None:
    """Without a call for the loaded model the swap comes at once."""
    backend = gpu(resident="m")
    scene = Scene(backend)
    rare = scene.waits("alice", "rare")
    assert scene.choose(now=1.0) == (rare, backend)


def test_behind_a_barrier_only_the_incoming_model_is_served() -> None:
    """While a model loads its own calls may join, within the overdraft, and nobody else."""
    backend = gpu(resident="m", slots=2)
    backend.incoming = "new"
    scene = Scene(backend)
    scene.waits("alice", "m")
    assert scene.choose() is None
    joins = scene.waits("bob", "new", deficit=-10.0)
    assert scene.choose() == (joins, backend)
    scene.accounts.flow("bob", Service.INTERACTIVE).deficit = -1000.0
    assert scene.choose() is None


def test_a_backend_without_a_barrier_goes_on() -> None:
    """A swap on one backend stops nothing on another one."""
    swapping, other = gpu("a", resident="x"), gpu("b", resident="m")
    swapping.incoming = "new"
    scene = Scene(swapping, other)
    ticket = scene.waits("alice", "m")
    assert scene.choose() == (ticket, other)


def test_the_head_that_cannot_be_served_lets_another_by() -> None:
    """A call for another lane or model is served past a head that no free backend can use."""
    embed = Backend(name="embed", slots=2, lane=Lane.EMBED)
    scene = Scene(embed)
    scene.waits("alice", "m")
    vector = scene.waits("bob", "e", lane=Lane.EMBED)
    assert scene.choose() == (vector, embed)


def test_the_other_class_takes_what_the_first_leaves() -> None:
    """When the class whose turn it is can use no free backend, the other one gets the slot."""
    backend = gpu()
    scene = Scene(backend)
    ticket = scene.waits("alice", "m")
    owner = scene.accounts.owner("alice")
    owner.max_running = owner.n_run = 1
    assert scene.choose() is None
    back = Ticket(id="b", owner="bob", service=Service.BACKGROUND, model="m", seq=9, state=State.QUEUED)
    scene.accounts.enqueue(back, 0.0, quantum=Q)
    assert scene.choose() == (back, backend)
    owner.max_running = 0
    assert scene.choose() == (ticket, backend)
