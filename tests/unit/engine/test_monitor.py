"""What Ollama has and holds, asked of an Ollama that answers, lies and goes away."""

from collections.abc import Callable

import pytest
from msgspec import structs

from gpushare.core.breaker import DIALS_TO_OPEN, Door
from gpushare.core.errors import GpushareError, OllamaBroken, OllamaDown, OllamaSilent
from gpushare.core.model import Lane, Outcome, ResidentModel
from gpushare.core.scheduler import Scheduler
from gpushare.engine.health import Health
from gpushare.engine.monitor import ASK_AGAIN_S, Monitor
from gpushare.engine.slots import LocalSlots, QueueLimits


class FakeOllama:
    """An Ollama whose answers are attributes; ``down`` makes every question fail, in the way of ``error``.

    ``meanwhile`` is called by each question before it is answered.
    """

    def __init__(self) -> None:
        self.down = False
        self.error: GpushareError = OllamaDown("connection refused")
        self.meanwhile: Callable[[], None] = lambda: None
        self.names = frozenset({"Qwen3:8b"})
        self.loaded: tuple[ResidentModel, ...] = ()
        self.asked: list[str] = []

    def _answer(self, what: str) -> None:
        self.asked.append(what)
        self.meanwhile()
        if self.down:
            raise self.error

    async def version(self) -> str:
        self._answer("version")
        return "0.33.0"

    async def installed(self) -> frozenset[str]:
        self._answer("tags")
        return self.names

    async def resident(self) -> tuple[ResidentModel, ...]:
        self._answer("ps")
        return self.loaded

    async def get(self, target: str, *, timeout_s: float) -> tuple[int, str, bytes]:
        raise NotImplementedError

    async def upload(self, method: str, target: str, chunks: object) -> tuple[int, str, bytes]:
        raise NotImplementedError


class Desk:
    """A monitor on a hand-driven clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.reads = 0
        self.ollama = FakeOllama()
        self.scheduler = Scheduler()
        self.scheduler.add_backend("b", slots=1)
        self.scheduler.add_backend("e", slots=1, lane=Lane.EMBED)
        self.learned: list[frozenset[str]] = []
        slots = LocalSlots(self.scheduler, limits=QueueLimits(), clock=self.clock, jitter=lambda: 0.0)
        self.health = Health(slots, backends=("b", "e"), grace_s=5.0, clock=self.clock, jitter=lambda: 0.5)
        self.monitor = Monitor(
            self.ollama,
            slots=slots,
            health=self.health,
            backends=("b", "e"),
            heard=lambda: self.reads,
            interval_s=5.0,
            clock=self.clock,
        )
        self.monitor.on_models.append(lambda names: self.learned.append(frozenset(names)))

    def clock(self) -> float:
        return self.now

    def hear(self) -> None:
        """A call has bytes from Ollama."""
        self.reads += 1

    async def probe(self, error: GpushareError, *, hearing: bool) -> None:
        """Polls in vain, while calls hear from Ollama or do not."""
        self.ollama.down, self.ollama.error = True, error
        self.ollama.meanwhile = self.hear if hearing else lambda: None
        await self.monitor.poll()


def resident(name: str) -> ResidentModel:
    """A loaded model."""
    return ResidentModel(name=name, size_bytes=1, vram_bytes=1, context=4096, expires=None)


async def test_a_poll_publishes_what_ollama_says_and_tells_the_queue() -> None:
    """Version, store and memory are in the view; the scheduler knows what is resident."""
    desk = Desk()
    desk.ollama.loaded = (resident("qwen3:8b"),)
    await desk.monitor.poll()
    view = desk.monitor.view
    assert (view.up, view.version, view.since) == (True, "0.33.0", 100.0)
    assert view.models == ("Qwen3:8b",)
    assert [model.name for model in view.loaded] == ["qwen3:8b"]
    assert desk.scheduler.is_resident("qwen3:8b")


async def test_another_context_size_is_noticed() -> None:
    """Ollama loads a model again for it; one that comes, goes or stays as it was is no such thing."""
    desk = Desk()
    noticed: list[str] = []
    desk.monitor.on_reload.append(lambda: noticed.append("again"))
    seen = []
    for sizes in (
        {"a": 4096},
        {"a": 4096, "b": 2048},
        {"a": 8192, "b": 2048},
        {"b": None},
        {"a": 4096, "b": 9},
    ):
        desk.ollama.loaded = tuple(
            structs.replace(resident(name), context=context) for name, context in sizes.items()
        )
        await desk.monitor.poll_resident()
        seen.append(len(noticed))
    assert seen == [0, 0, 1, 1, 1]


async def test_a_failed_poll_keeps_the_last_answers() -> None:
    """When Ollama goes away only ``up`` and ``since`` change."""
    desk = Desk()
    await desk.monitor.poll()
    desk.ollama.down, desk.now = True, 200.0
    await desk.monitor.poll()
    view = desk.monitor.view
    assert (view.up, view.version, view.since) == (False, "0.33.0", 200.0)
    assert view.models == ("Qwen3:8b",)


async def test_a_busy_ollama_is_there() -> None:
    """A probe that times out says nothing while calls hear from Ollama, and before that counts again."""
    desk = Desk()
    late = OllamaSilent(2.0, Outcome.TIMEOUT_FIRST_BYTE)
    await desk.monitor.poll()
    asked = len(desk.ollama.asked)
    for _ in range(3 * DIALS_TO_OPEN):
        await desk.probe(late, hearing=True)
    view = desk.monitor.view
    assert (view.up, view.since, view.version, view.breaker) == (True, 100.0, "0.33.0", Door.CLOSED)
    assert set(desk.ollama.asked[asked:]) == {"version"}
    for _ in range(DIALS_TO_OPEN):
        await desk.probe(late, hearing=False)
    assert (desk.monitor.view.up, desk.monitor.view.breaker) == (False, Door.OPEN)
    await desk.health.close()


@pytest.mark.parametrize(
    "error", [OllamaDown("connection refused"), OllamaBroken("closed the connection")], ids=["down", "broken"]
)
async def test_an_ollama_that_refuses_is_away_whatever_else_is_heard(error: GpushareError) -> None:
    """Answers from before may still come in while nobody takes new calls."""
    desk = Desk()
    for _ in range(DIALS_TO_OPEN):
        await desk.probe(error, hearing=True)
    assert (desk.monitor.view.up, desk.monitor.view.breaker) == (False, Door.OPEN)
    await desk.health.close()


async def test_since_is_when_it_changed_not_when_it_was_asked() -> None:
    """A second poll with the same answer leaves the time alone."""
    desk = Desk()
    await desk.monitor.poll()
    desk.now = 200.0
    await desk.monitor.poll()
    assert desk.monitor.view.since == 100.0


async def test_how_long_ollama_was_up_before_nobody_knows() -> None:
    """When it was first asked is no change; what follows is."""
    desk = Desk()
    await desk.monitor.poll()
    assert desk.monitor.view.at_least
    for down in (True, False):
        desk.ollama.down = down
        await desk.monitor.poll()
        assert not desk.monitor.view.at_least


async def test_names_are_matched_as_ollama_matches_them() -> None:
    """A model is known under its canonical name, whatever the case of the installed one."""
    desk = Desk()
    await desk.monitor.poll()
    assert await desk.monitor.knows("qwen3:8b")
    assert not await desk.monitor.knows("qwen3:70b")


async def test_everything_is_known_while_no_list_was_ever_read() -> None:
    """Before the first answer nothing is refused: Ollama itself will say what it does not have."""
    desk = Desk()
    desk.ollama.down = True
    await desk.monitor.poll()
    assert await desk.monitor.knows("anything:latest")


async def test_an_unknown_name_asks_once_more_and_at_most_once_a_second() -> None:
    """A model that was just pulled is found; a flood of wrong names is not passed on to Ollama."""
    desk = Desk()
    await desk.monitor.poll()
    desk.ollama.names = frozenset({"qwen3:8b", "new:1b"})
    assert not await desk.monitor.knows("new:1b")
    desk.now += ASK_AGAIN_S
    assert await desk.monitor.knows("new:1b")
    asked = desk.ollama.asked.count("tags")
    for _ in range(10):
        assert not await desk.monitor.knows("other:1b")
    assert desk.ollama.asked.count("tags") == asked
